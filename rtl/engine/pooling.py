# SPDX-License-Identifier: Apache-2.0
"""Max pooling in the drain: the order in which accumulators are read, and the greatest activation of a window."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.descriptor import descriptor_layout
from rtl.numbers import Activation

from .act_writer import ActivationWriter
from .drain import Drain
from .interfaces import flow

__all__ = ["MaxPool", "PoolingDrain", "PoolingWriter", "Windows"]


class Windows(wiring.Component):
    """Goes through the accumulators of each window, window by window, for each slot of each pooled pixel.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    start : In(1), layer : In(descriptor_layout), clear : In(1)
        A drain begins; ``layer`` is sampled. With ``clear`` every accumulator is a slot of one pixel.
    step : In(1)
        Advance to the next accumulator.
    row : Out(16), keep : Out(1)
        The accumulator, and whether a later window needs it as well.
    bias_address : Out
        Address of the bias of the row's slot.
    last : Out(1)
        The drain's last accumulator.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "start": In(1),
            "layer": In(descriptor_layout(config)),
            "clear": In(1),
            "step": In(1),
            "row": Out(16),
            "keep": Out(1),
            "bias_address": Out(ceil_log2(config.entry_depth)),
            "last": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, layer = self.config, self.layer
        slots, pool_step, row_pitch = Signal(16), Signal(4), Signal(16, name="row_pitch")
        across, down, bias_base = Signal(16), Signal(16), Signal.like(self.bias_address, name="bias_base")
        # From the innermost loop to the outermost. `last` of each is registered, so that the next accumulator takes a
        # single addition.
        window_col, window_row = _Loop(m, 4, "window_col"), _Loop(m, 4, "window_row")
        slot, col, row = _Loop(m, 16, "slot"), _Loop(m, 16, "col"), _Loop(m, 16, "row")
        # First accumulators of the window's row, the slot, the pixel and the row of pixels.
        line, slot_first, pixel_first, row_first = Signal(16), Signal(16), Signal(16), Signal(16)
        m.d.comb += [
            self.keep.eq(((window_col.turn >= pool_step) & ~col.last) | ((window_row.turn >= pool_step) & ~row.last)),
            self.last.eq(window_col.last & window_row.last & slot.last & col.last & row.last),
        ]
        following = Signal(16)
        with m.If(self.step):
            m.d.sync += self.row.eq(following)
            with m.If(~window_col.last):
                m.d.comb += following.eq(self.row + slots)
                window_col.advance()
            with m.Else():
                m.d.sync += line.eq(following)
                window_col.restart()
                with m.If(~window_row.last):
                    m.d.comb += following.eq(line + row_pitch)
                    window_row.advance()
                with m.Else():
                    m.d.sync += slot_first.eq(following)
                    window_row.restart()
                    with m.If(~slot.last):
                        m.d.comb += following.eq(slot_first + 1)
                        m.d.sync += self.bias_address.eq(self.bias_address + config.bias_words)
                        slot.advance()
                    with m.Else():
                        m.d.sync += [pixel_first.eq(following), self.bias_address.eq(bias_base)]
                        slot.restart()
                        with m.If(~col.last):
                            m.d.comb += following.eq(pixel_first + across)
                            col.advance()
                        with m.Else():
                            m.d.comb += following.eq(row_first + down)
                            m.d.sync += row_first.eq(following)
                            col.restart()
                            row.advance()
        with m.If(self.start):
            for loop, turns in ((window_col, layer.pool), (window_row, layer.pool), (col, layer.pooled_cols),
                                (row, layer.pooled_rows)):
                loop.begin(Mux(self.clear, 1, turns))
            slot.begin(Mux(self.clear, config.acc_depth, layer.output_words))
            m.d.sync += [
                slots.eq(layer.output_words), pool_step.eq(Mux(self.clear, 1, layer.pool_step)),
                row_pitch.eq(layer.row_pitch), bias_base.eq(layer.bias_base), self.bias_address.eq(layer.bias_base),
                across.eq(layer.pool_step * layer.output_words), down.eq(layer.pool_step * layer.row_pitch),
                self.row.eq(0), line.eq(0), slot_first.eq(0), pixel_first.eq(0), row_first.eq(0),
            ]
        return m


class _Loop:
    """A counter of turns, at least one. Its methods add assignments at the place where they are called."""

    def __init__(self, m, width, name):
        self._m, self._turns, self._left = m, Signal(width, name=f"{name}_turns"), Signal(width, name=f"{name}_left")
        self.turn, self.last = Signal(width, name=f"{name}_turn"), Signal(name=f"{name}_last")

    def begin(self, turns):
        self._m.d.sync += self._turns.eq(turns)
        self._first(turns)

    def restart(self):
        self._first(self._turns)

    def advance(self):
        self._m.d.sync += [self.turn.eq(self.turn + 1), self._left.eq(self._left - 1), self.last.eq(self._left == 2)]

    def _first(self, turns):
        self._m.d.sync += [self.turn.eq(0), self._left.eq(turns), self.last.eq(turns == 1)]


class MaxPool(wiring.Component):
    """The greatest activation of each window, lane by lane, in the cycle in which the window's last one arrives.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    start : In(1), pool : In(4)
        A drain begins, with windows of ``pool`` times ``pool`` activations.
    activation : In(Activation)
        Activation function of the layer: whether its activations are unsigned or two's complement.
    drained : In(flow(ArrayLayout(act_bits, pes))), words : Out(flow(ArrayLayout(act_bits, pes)))
    """

    def __init__(self, config):
        self.config = config
        lanes = data.ArrayLayout(config.act_bits, config.pes)
        super().__init__({
            "start": In(1),
            "pool": In(4),
            "activation": In(Activation),
            "drained": In(flow(lanes)),
            "words": Out(flow(lanes)),
        })

    def elaborate(self, platform):
        m = Module()
        size, number = Signal(8), Signal(8, name="number")
        drained, word = self.drained.payload, self.words.payload
        held = Signal.like(word, name="held", reset_less=True)
        m.d.comb += self.words.valid.eq(self.drained.valid & (number + 1 == size))
        with m.If(self.drained.valid):
            m.d.sync += [number.eq(Mux(self.words.valid, 0, number + 1)), held.eq(word)]
        for act, before, greatest in zip(drained, held, word, strict=True):
            less = Mux(self.activation == Activation.RELU, before > act, before.as_signed() > act.as_signed())
            m.d.comb += greatest.eq(Mux((number != 0) & less, before, act))
        with m.If(self.start):
            m.d.sync += [size.eq(self.pool * self.pool), number.eq(0)]
        return m


class PoolingDrain(Drain):
    """Reads pooling window by pooling window; a pixel's words lie ``output_pixel_words`` from the next one's."""

    def _order(self, m, taken, part, spare, completes):
        m.submodules.windows = windows = Windows(self.config)
        step, writer = self.steps.payload, self.writer
        start, layer = self.sequencer.start, self.sequencer.layer
        m.d.comb += [
            windows.start.eq(start), windows.layer.eq(layer), windows.clear.eq(self.sequencer.clear),
            windows.step.eq(taken), step.row.eq(windows.row), step.keep.eq(windows.keep),
            step.bias_address.eq(windows.bias_address + Mux(part < spare, 0, part - spare)),
            writer.start.eq(start), writer.pool.eq(layer.pool), writer.activation.eq(self.requant.activation),
            self.progress.grows.eq(completes & ~writer.swap),
        ]
        with m.If(taken & windows.last):
            m.d.sync += self.reading.eq(0)
        # Rows that have been read and whose activations have not arrived yet.
        owed = Signal(range(32))
        m.d.sync += owed.eq(owed + taken - (writer.arrived & writer.busy))
        m.d.comb += writer.busy.eq(self.reading | (owed != 0))
        slot, slots, pixel, pixel_words, band_step = (
            Signal.like(writer.address, name=name)
            for name in ("slot", "slots", "pixel", "pixel_words", "band_step"))
        # The lower band's slots come after the upper one's; their lanes are rotated by half the PEs.
        m.d.comb += writer.address.eq(pixel + slot + Mux(writer.swap, band_step, 0))
        with m.If(writer.write):
            m.d.sync += slot.eq(slot + 1)
            with m.If(slot + 1 == slots):
                m.d.sync += [slot.eq(0), writer.swap.eq(0), pixel.eq(pixel + pixel_words)]
            with m.Elif(slot + 1 == pixel_words):
                m.d.sync += writer.swap.eq(1)
        with m.If(start):
            m.d.sync += [slot.eq(0), writer.swap.eq(0), slots.eq(layer.output_words), pixel.eq(layer.output_base),
                         pixel_words.eq(layer.output_pixel_words), band_step.eq(layer.band_step)]


class PoolingWriter(ActivationWriter):
    """Writes the greatest activations of each window; swaps the halves of a lower band's word."""

    def _complete(self, m, word):
        m.submodules.pool = pool = MaxPool(self.config)
        turns = Signal.like(word, name="turns")
        m.d.sync += turns.eq(self._lanes(turns))
        m.d.comb += [
            pool.start.eq(self.drain.start), pool.pool.eq(self.drain.pool), pool.activation.eq(self.drain.activation),
            pool.drained.payload.eq(self._lanes(turns)), pool.drained.valid.eq(self.drain.arrived),
            self.drain.complete.eq(pool.words.valid),
        ]
        pooled = pool.words.payload.as_value()
        return Mux(self.drain.swap, pooled.rotate_left(len(pooled) // 2), pooled)
