# SPDX-License-Identifier: Apache-2.0
"""Requantisation: from a row's total to its output activation, as `rtl.numbers` says."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl import numbers
from rtl.layouts import requant_layout
from rtl.structure import broadcast_cycles

from .interfaces import flow

__all__ = ["Requantizer"]


class Requantizer(wiring.Component):
    """Shift, saturate and multiply, round, clamp; an activation appears ``latency_cycles`` after its total.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    layer : In(requant_layout)
        Constants of the layer that drains.
    totals : In(flow(signed(acc_bits)))
    act : Out(act_bits)
        An activation.
    act_coming : Out(1)
        ``act`` is valid in the next cycle.
    """

    def __init__(self, config):
        self.config = config
        super().__init__(self.members(config))

    @staticmethod
    def members(config):
        """The members that every requantiser has."""
        return {
            "layer": In(requant_layout(config)),
            "totals": In(flow(signed(config.acc_bits))),
            "act": Out(config.act_bits),
            "act_coming": Out(1),
        }

    @property
    def tables(self):
        """The tables that it has, by name: where their values go."""
        return {}

    @staticmethod
    def latency_cycles(config):
        """Cycles from a total to its activation. Rounding and clamping take a cycle each where wires are long."""
        return 3 + (broadcast_cycles(config) > 1)

    @staticmethod
    def _exceeds(value, bits):
        """Whether a signed value needs more than ``bits`` bits."""
        top = value[bits - 1:]
        return top.any() & ~top.all()

    def elaborate(self, platform):
        m = Module()
        act_bits, narrow_bits = self.config.act_bits, numbers.NARROW_BITS
        shift = numbers.requant_shift(act_bits)

        # Shift. Whether the shifted value has too many bits is known late in the cycle, so it saturates a cycle later,
        # at the input of the multiplier; its sign is kept.
        low_bits = narrow_bits - 1
        shifted, exceeds, sign = (Signal(low_bits, reset_less=True), Signal(reset_less=True),
                                  Signal(reset_less=True, name="sign"))
        shifts = [self.totals.payload >> bits for bits in numbers.PRE_SHIFTS]
        m.d.sync += [
            shifted.eq(Array(value[:low_bits] for value in shifts)[self.layer.pre_shift]),
            exceeds.eq(Array(self._exceeds(value, narrow_bits) for value in shifts)[self.layer.pre_shift]),
            sign.eq(self.totals.payload[-1]),
        ]

        narrow = Signal(signed(narrow_bits))
        product = Signal(signed(narrow_bits + numbers.MULTIPLIER_BITS), reset_less=True)
        m.d.comb += narrow.eq(Cat(Mux(exceeds, (~sign).replicate(low_bits), shifted), sign))
        m.d.sync += product.eq(narrow * self.layer.multiplier)

        # Round by adding the highest bit that is cut off; clamp to all zeros or all ones below the sign, if any.
        scaled = Signal(signed(len(product) - shift + 1), reset_less=True)
        latency_cycles = self.latency_cycles(self.config)
        m.d["sync" if latency_cycles > 3 else "comb"] += scaled.eq((product >> shift) + product[shift - 1])
        negative = scaled[-1]
        low, high = scaled[:act_bits - 1], scaled[act_bits - 1]
        clamps, unsigned = Signal(), Signal(name="unsigned")
        m.d.comb += [
            unsigned.eq(self.layer.activation == numbers.Activation.RELU),
            clamps.eq(Mux(unsigned, scaled[act_bits:].any(), self._exceeds(scaled, act_bits))),
        ]
        m.d.sync += [
            self.act.eq(Cat(Mux(clamps, (~negative).replicate(act_bits - 1), low),
                            Mux(unsigned, Mux(clamps, ~negative, high), negative))),
        ]
        coming = Signal(latency_cycles - 1)
        m.d.sync += coming.eq(Cat(self.totals.valid, coming))
        m.d.comb += self.act_coming.eq(coming[-1])
        return m
