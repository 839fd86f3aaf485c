# SPDX-License-Identifier: Apache-2.0
"""The drain: reads the same row out of every PE at once and writes the activations that come back."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.layouts import descriptor_layout, drain_step_layout, requant_layout

from .pooling import Windows

__all__ = ["Drain"]


class Drain(wiring.Component):
    """One row of all PEs every ``config.row_cycles`` cycles, in the last of which its bias is read.

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
    complete : In(1)
        With them the word is complete: always, or at the end of a pooling window.
    address : Out, write : Out(1)
        To the activation memory.
    swap : Out(1)
        The word's halves change places. Only with ``config.tap_bits``.
    grows : Out(1)
        Another word is written, in the order in which the next layer reads them; not those of a lower band.
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
            "complete": In(1),
            "address": Out(ceil_log2(config.act_depth)),
            "write": Out(1),
            **({"swap": Out(1)} if config.tap_bits else {}),
            "grows": Out(1),
            "reading": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        clearing = Signal()
        part = Signal(range(config.row_cycles))
        spare = config.row_cycles - config.bias_words
        bias_last = part == config.row_cycles - 1
        m.d.comb += [
            self.step.bias_last.eq(bias_last), self.step_valid.eq(self.reading),
            self.write.eq(self.complete & self.busy & ~clearing),
            self.grows.eq(self.complete & self.busy & (~self.swap if config.tap_bits else 1)),
        ]
        with m.If(self.reading):
            m.d.sync += part.eq(Mux(bias_last, 0, part + 1))
        with m.If(self.start):
            m.d.sync += [
                self.reading.eq(1), part.eq(0),
                self.requant.multiplier.eq(self.layer.multiplier),
                self.requant.pre_shift.eq(self.layer.pre_shift),
                self.requant.activation.eq(self.layer.activation),
                clearing.eq(self.clear),
            ]
        if config.tap_bits:
            self._windows(m, self.reading & bias_last, Mux(part < spare, 0, part - spare))
        else:
            self._rows(m, self.reading & bias_last, self.reading & (part >= spare))
        return m

    def _rows(self, m, taken, bias_read):
        """A fully connected layer: row by row into word by word."""
        row, bias_address = Signal.like(self.step.row), Signal.like(self.step.bias_address, name="bias_address")
        rows_left, words_left = (Signal(range(self.config.acc_depth + 1), name=name)
                                 for name in ("rows_left", "words_left"))
        m.d.comb += [self.step.row.eq(row), self.step.bias_address.eq(bias_address)]
        with m.If(bias_read):
            m.d.sync += bias_address.eq(bias_address + 1)
        with m.If(taken):
            m.d.sync += [row.eq(row + 1), rows_left.eq(rows_left - 1), self.reading.eq(rows_left != 1)]
        with m.If(self.arrived & self.busy):
            m.d.sync += [self.address.eq(self.address + 1), words_left.eq(words_left - 1),
                         self.busy.eq(words_left != 1)]
        with m.If(self.start):
            words = Mux(self.clear, self.config.acc_depth, self.layer.output_words)
            m.d.sync += [
                row.eq(0), self.busy.eq(1), bias_address.eq(self.layer.bias_base),
                rows_left.eq(words), words_left.eq(words), self.address.eq(self.layer.output_base),
            ]

    def _windows(self, m, taken, bias_word):
        """Pooling window by pooling window; a pixel's words lie ``output_pixel_words`` from the next one's."""
        m.submodules.windows = windows = Windows(self.config)
        m.d.comb += [
            windows.start.eq(self.start), windows.layer.eq(self.layer), windows.clear.eq(self.clear),
            windows.step.eq(taken),
            self.step.row.eq(windows.row), self.step.keep.eq(windows.keep),
            self.step.bias_address.eq(windows.bias_address + bias_word),
        ]
        with m.If(taken & windows.last):
            m.d.sync += self.reading.eq(0)
        # Words that the PEs still owe.
        owed = Signal(range(32))
        m.d.sync += owed.eq(owed + taken - (self.arrived & self.busy))
        m.d.comb += self.busy.eq(self.reading | (owed != 0))
        slot, slots, pixel, pixel_words, band_step = (Signal.like(self.address) for _ in range(5))
        # The lower band's slots come after the upper one's; their lanes are those of the PEs half around.
        m.d.comb += self.address.eq(pixel + slot + Mux(self.swap, band_step, 0))
        with m.If(self.write):
            m.d.sync += slot.eq(slot + 1)
            with m.If(slot + 1 == slots):
                m.d.sync += [slot.eq(0), self.swap.eq(0), pixel.eq(pixel + pixel_words)]
            with m.Elif(slot + 1 == pixel_words):
                m.d.sync += self.swap.eq(1)
        with m.If(self.start):
            m.d.sync += [slot.eq(0), self.swap.eq(0), slots.eq(self.layer.output_words),
                         pixel.eq(self.layer.output_base), pixel_words.eq(self.layer.output_pixel_words),
                         band_step.eq(self.layer.band_step)]
