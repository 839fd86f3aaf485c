# SPDX-License-Identifier: Apache-2.0
"""Multiplier and pre-shift of a requantisation."""

from nonzero.errors import UserError
from rtl.numbers import MULTIPLIER_BITS, NARROW_BITS, PRE_SHIFTS, act_range, requant_shift

__all__ = ["requant_constants"]


def requant_constants(name: str, ratio: float, bounds: tuple[int, int], act_bits: int, *,
                      signed: bool) -> tuple[int, int]:
    """Multiplier and pre-shift by which a sum times ``ratio`` becomes an activation (`rtl.numbers.requantize`).

    The smallest pre-shift is taken at which saturation to `NARROW_BITS` cannot change a result: it saturates only sums
    that the last clamp limits anyway, or none within ``bounds``.

    Parameters
    ----------
    name : str
        The layer's, for errors.
    ratio : float
        Scale of the sums over the scale of the outputs, above 0.
    bounds : (int, int)
        Least and greatest sum.
    act_bits : int
        Width of an activation.
    signed : bool
        Whether the outputs are two's complement; unsigned otherwise.

    Raises
    ------
    UserError
        If there is none, naming the layer.
    """
    shift = requant_shift(act_bits)
    narrow_low, narrow_high = act_range(NARROW_BITS, signed=True)
    low, high = act_range(act_bits, signed=signed)
    for pre_shift in PRE_SHIFTS:
        multiplier = round(ratio * 2.0 ** (shift + pre_shift))
        if not 1 <= multiplier < 1 << MULTIPLIER_BITS:
            continue
        half = 1 << (shift - 1)
        hidden_above = (narrow_high * multiplier + half) >> shift >= high
        hidden_below = (narrow_low * multiplier + half) >> shift <= low
        if (hidden_above or bounds[1] >> pre_shift <= narrow_high) and \
                (hidden_below or bounds[0] >> pre_shift >= narrow_low):
            return multiplier, pre_shift
    raise UserError(f"layer '{name}' cannot be requantised: a ratio of {ratio:.3g} between its sums "
                    f"({bounds[0]} to {bounds[1]}) and its outputs needs another multiplier than 1 to "
                    f"{(1 << MULTIPLIER_BITS) - 1}; rescale the layer's weights")
