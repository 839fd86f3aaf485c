# SPDX-License-Identifier: Apache-2.0
"""Requantisation: from a row's total to its output activation, as `rtl.numbers` says."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from . import numbers
from .layouts import requant_layout

__all__ = ["Requantizer"]


class Requantizer(wiring.Component):
    """Shift, multiply, round, clamp; an activation appears three cycles after its total.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    layer : In(requant_layout)
        Constants of the layer that drains.
    total : In(signed(acc_bits)), total_valid : In(1)
    act : Out(act_bits), act_coming : Out(1)
        An activation, and that one comes in the next cycle.
    """

    latency_cycles = 3

    def __init__(self, config):
        self.config = config
        super().__init__({
            "layer": In(requant_layout()),
            "total": In(signed(config.acc_bits)),
            "total_valid": In(1),
            "act": Out(config.act_bits),
            "act_coming": Out(1),
        })

    @staticmethod
    def _exceeds(value, bits):
        """Whether a signed value needs more than so many bits."""
        top = value[bits - 1:]
        return top.any() & ~top.all()

    def elaborate(self, platform):
        m = Module()
        act_bits, narrow_bits = self.config.act_bits, numbers.NARROW_BITS
        shift = numbers.requant_shift(act_bits)

        # Shift and saturate.
        shifted = Array((self.total >> bits)[:narrow_bits] for bits in numbers.PRE_SHIFTS)[self.layer.pre_shift]
        exceeds = Array(self._exceeds(self.total >> bits, narrow_bits) for bits in numbers.PRE_SHIFTS)
        sign = self.total[-1]
        narrow = Signal(signed(narrow_bits), reset_less=True)
        narrow_valid = Signal()
        m.d.sync += [
            narrow.eq(Mux(exceeds[self.layer.pre_shift], Cat((~sign).replicate(narrow_bits - 1), sign), shifted)),
            narrow_valid.eq(self.total_valid),
        ]

        product = Signal(signed(narrow_bits + numbers.MULTIPLIER_BITS), reset_less=True)
        product_valid = Signal()
        m.d.sync += [product.eq(narrow * self.layer.multiplier), product_valid.eq(narrow_valid)]

        # Round by adding the highest bit that is cut off; clamp to all zeros or all ones below the sign, if any.
        scaled = Signal(signed(len(product) - shift + 1))
        negative = scaled[-1]
        low, high = scaled[:act_bits - 1], scaled[act_bits - 1]
        clamps = Signal()
        m.d.comb += [
            scaled.eq((product >> shift) + product[shift - 1]),
            clamps.eq(Mux(self.layer.relu, scaled[act_bits:].any(), self._exceeds(scaled, act_bits))),
        ]
        m.d.sync += [
            self.act.eq(Cat(Mux(clamps, (~negative).replicate(act_bits - 1), low),
                            Mux(self.layer.relu, Mux(clamps, ~negative, high), negative))),
        ]
        m.d.comb += self.act_coming.eq(product_valid)
        return m
