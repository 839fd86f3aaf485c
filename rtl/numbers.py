# SPDX-License-Identifier: Apache-2.0
"""The numbers contract: every integer operation between an input activation and an output activation.

The RTL (`rtl.engine.pe`, `rtl.engine.requantize`), the golden model (`host.quantization.golden_model`) and the
quantiser (`host.quantization.quantize`) all follow this module; ``docs/numbers.md`` explains it. For one output row::

    acc     = sum of weight * act over the non-zero entries      (acc_bits, two's complement, never overflows)
    total   = acc + bias
    narrow  = saturate(total >> pre_shift, NARROW_BITS)           (arithmetic shift, rounds towards -inf)
    scaled  = (narrow * multiplier + 2**(shift - 1)) >> shift     (shift = requant_shift(act_bits))
    act     = clamp(scaled, 0, 2**act_bits - 1)                   after a ReLU
              clamp(scaled, -2**(act_bits - 1), 2**(act_bits - 1) - 1)   otherwise
"""

from typing import TypeVar

NARROW_BITS = 18
"""Width of the requantiser's multiplicand: one 18 x 18 FPGA multiplier."""

MULTIPLIER_BITS = 16
"""Width of the (unsigned) requantisation multiplier."""

PRE_SHIFTS = (0, 5, 10, 15)
"""Shifts of the 32-bit sum that bring it into `NARROW_BITS` bits; coarse, since the multiplier is fine."""

Integers = TypeVar("Integers")
"""A Python int, a NumPy int64 array or a torch int64 tensor."""


def requant_shift(act_bits: int) -> int:
    """The constant right shift after the multiplication: 19 for 8-bit activations."""
    return 27 - act_bits


def act_range(act_bits: int, *, signed: bool) -> tuple[int, int]:
    """Least and greatest activation: unsigned after a ReLU, two's complement otherwise."""
    if signed:
        return -(1 << (act_bits - 1)), (1 << (act_bits - 1)) - 1
    return 0, (1 << act_bits) - 1


def requantize(total, *, multiplier: int, pre_shift: int, relu: bool, act_bits: int, clamp):  # type: ignore[no-untyped-def]
    """Turns sums (``acc + bias``) into activations.

    Parameters
    ----------
    total : Number
        Anything with integer ``>>``, ``*`` and ``+``.
    multiplier : int
        1 to ``2**MULTIPLIER_BITS - 1``.
    pre_shift : int
        One of `PRE_SHIFTS`.
    relu : bool
        Whether activations are unsigned, with all negative ones 0.
    act_bits : int
        Width of an activation.
    clamp : callable
        ``clamp(x, low, high)`` for values like ``total``: `numpy.clip`, `torch.clamp`, or one for plain integers.
    """
    narrow_low, narrow_high = act_range(NARROW_BITS, signed=True)
    shift = requant_shift(act_bits)
    narrow = clamp(total >> pre_shift, narrow_low, narrow_high)
    scaled = (narrow * multiplier + (1 << (shift - 1))) >> shift
    return clamp(scaled, *act_range(act_bits, signed=not relu))
