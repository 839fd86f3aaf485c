# SPDX-License-Identifier: Apache-2.0
"""The drain: reads the same row out of every PE at once and writes the activations that come back."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .layouts import descriptor_layout, drain_step_layout, requant_layout

__all__ = ["Drain"]


class Drain(wiring.Component):
    """One row of all PEs every ``config.bias_words`` cycles.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    start : In(1), layer : In(descriptor_layout)
        Drain that layer; it is noted in the cycle of ``start``.
    clear : In(1)
        Zero every accumulator instead and write nothing; with ``start``.
    step : Out(drain_step_layout), step_valid : Out(1)
        To the PEs.
    requant : Out(requant_layout)
        The constants of the layer that drains.
    arrived : In(1)
        The PEs' activations of the next row are there.
    address : Out, write : Out(1)
        To the activation memory.
    written : Out(range(acc_depth + 1))
        Words written since ``start``.
    reading : Out(1), busy : Out(1)
        Rows are left to be read; words are left to be written.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "start": In(1),
            "layer": In(descriptor_layout(config)),
            "clear": In(1),
            "step": Out(drain_step_layout(config)),
            "step_valid": Out(1),
            "requant": Out(requant_layout()),
            "arrived": In(1),
            "address": Out(ceil_log2(config.act_depth)),
            "write": Out(1),
            "written": Out(range(config.acc_depth + 1)),
            "reading": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        row, words = Signal.like(self.written), Signal.like(self.written)
        output_base = Signal.like(self.address)
        clearing = Signal()
        bias_address = Signal.like(self.step.bias_address)
        bias_word = Signal(range(config.bias_words))
        bias_last = bias_word == config.bias_words - 1

        m.d.comb += [
            self.step.row.eq(row), self.step.bias_address.eq(bias_address), self.step.bias_last.eq(bias_last),
            self.step_valid.eq(self.reading),
            self.address.eq(output_base + self.written),
            self.write.eq(self.arrived & self.busy & ~clearing),
        ]
        with m.If(self.reading):
            m.d.sync += [bias_address.eq(bias_address + 1), bias_word.eq(bias_word + 1)]
            with m.If(bias_last):
                m.d.sync += [bias_word.eq(0), row.eq(row + 1), self.reading.eq(row + 1 != words)]
        with m.If(self.arrived & self.busy):
            m.d.sync += [self.written.eq(self.written + 1), self.busy.eq(self.written + 1 != words)]
        with m.If(self.start):
            m.d.sync += [
                row.eq(0), self.reading.eq(1), self.busy.eq(1), self.written.eq(0),
                bias_word.eq(0), bias_address.eq(self.layer.bias_base),
                words.eq(self.layer.output_words), output_base.eq(self.layer.output_base),
                self.requant.multiplier.eq(self.layer.multiplier),
                self.requant.pre_shift.eq(self.layer.pre_shift),
                self.requant.relu.eq(self.layer.relu),
                clearing.eq(self.clear),
            ]
            with m.If(self.clear):
                m.d.sync += words.eq(config.acc_depth)
        return m
