# SPDX-License-Identifier: Apache-2.0
"""Requantisation: from a row's total to its output activation, as `rtl.numbers` says."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
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
    act : Out(act_bits), act_valid : Out(1)
    """

    latency_cycles = 3

    def __init__(self, config):
        self.config = config
        super().__init__({
            "layer": In(requant_layout()),
            "total": In(signed(config.acc_bits)),
            "total_valid": In(1),
            "act": Out(config.act_bits),
            "act_valid": Out(1),
        })

    @staticmethod
    def _clamp(value, low, high):
        return Mux(value < low, low, Mux(value > high, high, value))

    def elaborate(self, platform):
        m = Module()
        act_bits = self.config.act_bits
        shift = numbers.requant_shift(act_bits)

        shifted = Signal(signed(self.config.acc_bits))
        narrow = Signal(signed(numbers.NARROW_BITS), reset_less=True)
        narrow_valid = Signal()
        m.d.comb += shifted.eq(Array(self.total >> bits for bits in numbers.PRE_SHIFTS)[self.layer.pre_shift])
        m.d.sync += [
            narrow.eq(self._clamp(shifted, *numbers.act_range(numbers.NARROW_BITS, signed=True))),
            narrow_valid.eq(self.total_valid),
        ]

        product = Signal(signed(numbers.NARROW_BITS + numbers.MULTIPLIER_BITS), reset_less=True)
        product_valid = Signal()
        m.d.sync += [product.eq(narrow * self.layer.multiplier), product_valid.eq(narrow_valid)]

        # Round by adding the highest bit that is cut off.
        scaled = Signal(signed(len(product) - shift + 1))
        m.d.comb += scaled.eq((product >> shift) + product[shift - 1])
        rectified = self._clamp(scaled, *numbers.act_range(act_bits, signed=False))
        clamped = self._clamp(scaled, *numbers.act_range(act_bits, signed=True))
        m.d.sync += [
            self.act.eq(Mux(self.layer.relu, rectified, clamped)),
            self.act_valid.eq(product_valid),
        ]
        return m
