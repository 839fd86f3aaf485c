# SPDX-License-Identifier: Apache-2.0
"""Max pooling in the drain: the order in which accumulators are read, and the greatest activation of a window."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .layouts import descriptor_layout

__all__ = ["MaxPool", "Windows"]


class Windows(wiring.Component):
    """Goes through the accumulators of each window, window by window, for each slot of each pooled pixel.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    start : In(1), layer : In(descriptor_layout), clear : In(1)
        A drain begins; ``layer`` is noted. With ``clear`` every accumulator is a slot of one pixel.
    step : In(1)
        On to the next accumulator.
    row : Out(16), keep : Out(1)
        The accumulator, and whether a later window wants it as well.
    bias_address : Out
        Of the row's slot.
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
        slots, pool, pool_step = Signal(16), Signal(4), Signal(4)
        cols, rows, row_pitch, bias_base = Signal(16), Signal(16), Signal(16), Signal.like(self.bias_address)
        across, down = Signal(16), Signal(16)
        window_col, window_row = Signal(4), Signal(4)
        slot, col, row = Signal(16), Signal(16), Signal(16)
        # Where the window's row, the slot, the pixel and the row of pixels begin.
        line, slot_first, pixel_first, row_first = Signal(16), Signal(16), Signal(16), Signal(16)
        m.d.comb += [
            across.eq(pool_step * slots), down.eq(pool_step * row_pitch),
            self.keep.eq(((window_col >= pool_step) & (col + 1 != cols))
                         | ((window_row >= pool_step) & (row + 1 != rows))),
            self.last.eq((window_col + 1 == pool) & (window_row + 1 == pool) & (slot + 1 == slots)
                         & (col + 1 == cols) & (row + 1 == rows)),
        ]
        following = Signal(16)
        with m.If(self.step):
            m.d.sync += [self.row.eq(following), window_col.eq(0), line.eq(following)]
            with m.If(window_col + 1 != pool):
                m.d.comb += following.eq(self.row + slots)
                m.d.sync += [window_col.eq(window_col + 1), line.eq(line)]
            with m.Elif(window_row + 1 != pool):
                m.d.comb += following.eq(line + row_pitch)
                m.d.sync += window_row.eq(window_row + 1)
            with m.Else():
                m.d.sync += [window_row.eq(0), slot_first.eq(following)]
                with m.If(slot + 1 != slots):
                    m.d.comb += following.eq(slot_first + 1)
                    m.d.sync += [slot.eq(slot + 1), self.bias_address.eq(self.bias_address + config.bias_words)]
                with m.Else():
                    m.d.sync += [slot.eq(0), self.bias_address.eq(bias_base), pixel_first.eq(following)]
                    with m.If(col + 1 != cols):
                        m.d.comb += following.eq(pixel_first + across)
                        m.d.sync += col.eq(col + 1)
                    with m.Else():
                        m.d.comb += following.eq(row_first + down)
                        m.d.sync += [col.eq(0), row.eq(row + 1), row_first.eq(following)]
        with m.If(self.start):
            m.d.sync += [
                slots.eq(Mux(self.clear, config.acc_depth, layer.output_words)),
                pool.eq(Mux(self.clear, 1, layer.pool)), pool_step.eq(Mux(self.clear, 1, layer.pool_step)),
                cols.eq(Mux(self.clear, 1, layer.pooled_cols)), rows.eq(Mux(self.clear, 1, layer.pooled_rows)),
                row_pitch.eq(layer.row_pitch), bias_base.eq(layer.bias_base), self.bias_address.eq(layer.bias_base),
                self.row.eq(0), window_col.eq(0), window_row.eq(0), slot.eq(0), col.eq(0), row.eq(0),
                line.eq(0), slot_first.eq(0), pixel_first.eq(0), row_first.eq(0),
            ]
        return m


class MaxPool(wiring.Component):
    """The greatest activation of each window, lane by lane, in the cycle in which the window's last one arrives.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    start : In(1), pool : In(4)
        A drain begins, with windows of so many activations a side.
    relu : In(1)
        Activations are unsigned.
    drained : In(ArrayLayout(act_bits, pes)), arrived : In(1)
    word : Out(pes * act_bits), valid : Out(1)
    """

    def __init__(self, config):
        self.config = config
        lanes = data.ArrayLayout(config.act_bits, config.pes)
        super().__init__({
            "start": In(1),
            "pool": In(4),
            "relu": In(1),
            "drained": In(lanes),
            "arrived": In(1),
            "word": Out(lanes),
            "valid": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        size, number = Signal(8), Signal(8)
        held = Signal.like(self.word, reset_less=True)
        m.d.comb += self.valid.eq(self.arrived & (number + 1 == size))
        with m.If(self.arrived):
            m.d.sync += [number.eq(Mux(self.valid, 0, number + 1)), held.eq(self.word)]
        for act, before, greatest in zip(self.drained, held, self.word, strict=True):
            less = Mux(self.relu, before > act, before.as_signed() > act.as_signed())
            m.d.comb += greatest.eq(Mux((number != 0) & less, before, act))
        with m.If(self.start):
            m.d.sync += [size.eq(self.pool * self.pool), number.eq(0)]
        return m
