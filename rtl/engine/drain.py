# SPDX-License-Identifier: Apache-2.0
"""The drain: reads the same row out of every PE at once and writes the activations that come back."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.layouts import drain_step_layout, requant_layout

from .interfaces import drain_port, flow, progress_port, word_port

__all__ = ["Drain"]


class Drain(wiring.Component):
    """One row of all PEs every ``config.row_cycles`` cycles, in the last of which its bias is read.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    sequencer : In(drain_port)
    steps : Out(flow(drain_step_layout))
        To the PEs.
    requant : Out(requant_layout)
        The constants of the layer that drains.
    writer : Out(word_port)
    progress : Out(progress_port)
        Words are reported as they are written, except those of a lower band, which are read in another order.
    reading : Out(1)
        Rows are left to be read.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "sequencer": In(drain_port(config)),
            "steps": Out(flow(drain_step_layout(config))),
            "requant": Out(requant_layout(config)),
            "writer": Out(word_port(config)),
            "progress": Out(progress_port()),
            "reading": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, new, start = self.config, self.sequencer.layer, self.sequencer.start
        clearing = Signal()
        part = Signal(range(config.row_cycles))
        spare = config.row_cycles - config.bias_words
        bias_last = part == config.row_cycles - 1
        completes = self.writer.complete & self.writer.busy
        m.d.comb += [
            self.steps.payload.bias_last.eq(bias_last), self.steps.valid.eq(self.reading),
            self.writer.write.eq(completes & ~clearing), self.sequencer.busy.eq(self.writer.busy),
            self.progress.growing.eq(self.writer.busy | start),
        ]
        with m.If(self.reading):
            m.d.sync += part.eq(Mux(bias_last, 0, part + 1))
        with m.If(start):
            m.d.sync += [
                self.reading.eq(1), part.eq(0),
                *(self.requant[name].eq(new[name]) for name, _ in self.requant.shape()),
                clearing.eq(self.sequencer.clear),
            ]
        self._order(m, self.reading & bias_last, part, spare, completes)
        return m

    def _order(self, m, taken, part, spare, completes):
        """Chooses the row to be read and the address to be written, in order.

        Parameters
        ----------
        m : Module
        taken : value of 1 bit
            This cycle is the last of a row.
        part : Signal
            The row's cycle.
        spare : int
            Cycles of a row before those in which words of its bias are read.
        completes : value of 1 bit
            A word is complete.
        """
        row, bias_address = Signal.like(self.steps.payload.row, name="row"), \
            Signal.like(self.steps.payload.bias_address, name="bias_address")
        rows_left, words_left = (Signal(range(self.config.acc_depth + 1), name=name)
                                 for name in ("rows_left", "words_left"))
        m.d.comb += [self.steps.payload.row.eq(row), self.steps.payload.bias_address.eq(bias_address),
                     self.progress.grows.eq(completes)]
        with m.If(self.reading & (part >= spare)):
            m.d.sync += bias_address.eq(bias_address + 1)
        with m.If(taken):
            m.d.sync += [row.eq(row + 1), rows_left.eq(rows_left - 1), self.reading.eq(rows_left != 1)]
        with m.If(self.writer.arrived & self.writer.busy):
            m.d.sync += [self.writer.address.eq(self.writer.address + 1), words_left.eq(words_left - 1),
                         self.writer.busy.eq(words_left != 1)]
        with m.If(self.sequencer.start):
            layer = self.sequencer.layer
            words = Mux(self.sequencer.clear, self.config.acc_depth, layer.output_words)
            m.d.sync += [
                row.eq(0), self.writer.busy.eq(1), bias_address.eq(layer.bias_base),
                rows_left.eq(words), words_left.eq(words), self.writer.address.eq(layer.output_base),
            ]
