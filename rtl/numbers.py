# SPDX-License-Identifier: Apache-2.0
"""The numbers contract: every integer operation between an input activation and an output activation.

The RTL (`rtl.engine.pe`, `rtl.engine.requantize`), the golden model (`host.quantization.golden_model`) and the
quantiser (`host.quantization.quantize`) all follow this module; ``docs/numbers.md`` explains it. For one output row::

    acc     = sum of weight * act over the non-zero entries      (acc_bits, two's complement, never overflows)
    total   = acc + bias
    narrow  = saturate(total >> pre_shift, NARROW_BITS)           (arithmetic shift, rounds towards -inf)
    scaled  = (narrow * multiplier + 2**(shift - 1)) >> shift     (shift = requant_shift(act_bits))
    act     = clamp(scaled, -2**(act_bits - 1), 2**(act_bits - 1) - 1)   if the activation's output is signed
              clamp(scaled, 0, 2**act_bits - 1)                          if it is not

A layer with a table of its activation function (`rtl.config.EngineConfig`: ``act_table``) takes its bits for a place in
it::

    index   = clamp(scaled, -2**(act_bits - 1), 2**(act_bits - 1) - 1)
    act     = table[index modulo 2**act_bits]                     two's complement or not, as the activation says
"""

from typing import TypeVar

from amaranth.lib import enum

__all__ = [
    "MULTIPLIER_BITS", "NARROW_BITS", "PRE_SHIFTS", "Activation", "act_range", "act_values", "requant_shift",
    "requantize",
]

NARROW_BITS = 18
"""Width of the requantiser's multiplicand: one 18 x 18 FPGA multiplier."""

MULTIPLIER_BITS = 16
"""Width of the (unsigned) requantisation multiplier."""

PRE_SHIFTS = (0, 5, 10, 15)
"""Shifts of the 32-bit sum that bring it into `NARROW_BITS` bits; coarse, since the multiplier is fine."""


class Activation(enum.Enum, shape=1):
    """The function that a layer applies to its sums. The values are those of the descriptor's bit.

    With a table of the function, they only say which sign its values have.
    """

    IDENTITY = 0
    """Outputs are two's complement."""
    RELU = 1
    """Outputs are unsigned."""

    @property
    def signed(self) -> bool:
        """Whether outputs are two's complement; unsigned otherwise."""
        return self is Activation.IDENTITY


Integers = TypeVar("Integers")
"""A Python int, a NumPy int64 array or a torch int64 tensor."""


def requant_shift(act_bits: int) -> int:
    """The constant right shift after the multiplication, by ``act_bits``: 19 for 8-bit activations."""
    return 27 - act_bits


def act_range(act_bits: int, *, signed: bool) -> tuple[int, int]:
    """Least and greatest activation of ``act_bits`` bits: two's complement if ``signed``, otherwise unsigned."""
    if signed:
        return -(1 << (act_bits - 1)), (1 << (act_bits - 1)) - 1
    return 0, (1 << act_bits) - 1


def act_values(bits: Integers, act_bits: int, *, signed: bool) -> Integers:
    """Activations from the ``act_bits`` bits that the engine stores of each.

    Parameters
    ----------
    bits : int, array or tensor of integers
        0 to ``2**act_bits - 1``.
    act_bits : int
        Width of an activation.
    signed : bool
        Whether they are two's complement.
    """
    half = 1 << (act_bits - 1) if signed else 0
    return (bits ^ half) - half


def requantize(total, *, multiplier: int, pre_shift: int, signed: bool, act_bits: int, clamp):  # type: ignore[no-untyped-def]
    """Turns sums (``acc + bias``) into activations.

    Parameters
    ----------
    total : Number
        Anything with integer ``>>``, ``*`` and ``+``.
    multiplier : int
        1 to ``2**MULTIPLIER_BITS - 1``.
    pre_shift : int
        One of `PRE_SHIFTS`.
    signed : bool
        From the layer's `Activation`: whether activations are two's complement; otherwise negative ones are 0.
    act_bits : int
        Width of an activation.
    clamp : callable
        ``clamp(x, low, high)`` for values like ``total``: `numpy.clip`, `torch.clamp`, or one for plain integers.
    """
    narrow_low, narrow_high = act_range(NARROW_BITS, signed=True)
    shift = requant_shift(act_bits)
    narrow = clamp(total >> pre_shift, narrow_low, narrow_high)
    scaled = (narrow * multiplier + (1 << (shift - 1))) >> shift
    return clamp(scaled, *act_range(act_bits, signed=signed))
