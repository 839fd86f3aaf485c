# SPDX-License-Identifier: Apache-2.0
"""The walker of an engine that runs convolutions: entries are taps, scattered around the pixel that was broadcast.

``config`` is the engine's `rtl.config.EngineConfig` in all functions here.
"""

from functools import partial

from amaranth.hdl import Array, Mux, Signal
from amaranth.lib import data, memory
from amaranth.lib.wiring import In
from amaranth.utils import exact_log2

from rtl.layouts import row_bits, tap_write_layout

from .gates import but_lowest
from .interfaces import flow
from .walker import Walker

__all__ = ["ScatterWalker"]


class ScatterWalker(Walker):
    """Emits one useful entry in each cycle; skips, and taps outside the output, are free.

    A word takes a cycle for each of its useful entries. One without any passes while the word before it is picked from;
    only when words arrive too slowly for that does it take a cycle. An entry adds to the slot that the entries up to it
    have reached, see `docs/formats.md`; its accumulator is the job's ``base`` plus the slot minus the tap's offset.

    Members, beside those of `Walker`
    -------
    taps : In(flow(tap_write_layout))
        Entries of the tap table.
    """

    @staticmethod
    def read_cycles(config):
        """Cycles from the read of a slice's first word to its first entry at ``visits``."""
        return 7 + config.deep_pipeline

    @staticmethod
    def late_visits(config):
        """Visits that may still appear once the walker is ``empty``."""
        return 2

    @property
    def tables(self):
        return {"taps": self.taps}

    def __init__(self, config):
        super().__init__(config, taps=In(flow(tap_write_layout(config))))

    def _decode(self, m, raw, raw_valid, raw_ready):
        config = self.config
        count, rows = config.entries_per_word, row_bits(config)
        taps = 2 * config.tap_bits
        code = raw.entries[0].code.shape()
        decoded = data.ArrayLayout(data.StructLayout({"slots": rows, "tap": taps, "code": code}), count)
        word = data.StructLayout({"entries": decoded, "useful": count, "begins": 1, "act": raw.job.act.shape(),
                                  "base": rows})

        # Advance: by how many slots each entry advances, and whether its tap is inside the output.
        advanced, advanced_valid, advanced_ready = Signal(word, reset_less=True), Signal(), \
            Signal(name="advanced_ready")
        m.d.comb += raw_ready.eq(~raw_valid | advanced_ready)
        before_tap, before_weight = Signal(taps, reset_less=True), Signal(reset_less=True, name="before_weight")
        at_tap, at_weight, continues = before_tap, before_weight, ~raw.begins
        with m.If(advanced_ready):
            m.d.sync += [advanced_valid.eq(raw_valid), advanced.begins.eq(raw.begins),
                         advanced.act.eq(raw.job.act), advanced.base.eq(raw.job.base)]
        for place in range(count):
            entry, inside = raw.entries[place], raw.inside[place]
            tap, gap, skipped, fits = self._tap(m, place, entry.index, raw.job)
            weight = Signal(name=f"weight_{place}")
            carry = continues & at_weight & (~weight | (tap <= at_tap))
            m.d.comb += weight.eq(entry.code != 0)
            with m.If(advanced_ready):
                m.d.sync += [
                    advanced.entries[place].slots.eq(Mux(inside, Mux(weight, gap, skipped) + carry, 0)),
                    advanced.entries[place].tap.eq(tap), advanced.entries[place].code.eq(entry.code),
                    advanced.useful[place].eq(inside & weight & fits),
                ]
            at_tap, at_weight, continues = tap, weight, inside
        with m.If(raw_valid & raw_ready):
            m.d.sync += [before_tap.eq(at_tap), before_weight.eq(at_weight)]

        # Sum: slots counted from the start of the word.
        summed, summed_valid, summed_ready = Signal(word, reset_less=True), Signal(), Signal(name="summed_ready")
        m.d.comb += advanced_ready.eq(~advanced_valid | summed_ready)
        with m.If(summed_ready):
            m.d.sync += [summed_valid.eq(advanced_valid), summed.eq(advanced)]
            slots = 0
            for place in range(count):
                slots = (slots + advanced.entries[place].slots)[:rows]
                m.d.sync += summed.entries[place].slots.eq(slots)

        # Base: the accumulator at which the word in `summed` starts. A word that continues a slice starts where the
        # word before it ended, whose base and slots were stored when it left. Words without a useful entry are dropped
        # here.
        useful, last_base, last_slots = Signal(), Signal(rows, reset_less=True), \
            Signal(rows, reset_less=True, name="last_slots")
        base = Signal(rows)
        m.d.comb += [useful.eq(summed.useful.any()),
                     base.eq(Mux(summed.begins, summed.base, last_base + last_slots))]
        with m.If(summed_valid & summed_ready):
            m.d.sync += [last_base.eq(base), last_slots.eq(summed.entries[count - 1].slots)]

        # Pick: the lowest useful entry; `last_step`, that it is the word's last, is registered.
        picking, picking_valid, picking_ready = Signal(word, reset_less=True), Signal(), Signal()
        last_step, rest = Signal(reset_less=True), Signal(count, name="rest")
        m.d.comb += [summed_ready.eq(~summed_valid | picking_ready | ~useful), rest.eq(but_lowest(picking.useful)),
                     picking_ready.eq(~picking_valid | last_step)]
        with m.If(picking_ready):
            m.d.sync += [picking_valid.eq(summed_valid & useful), picking.eq(summed), picking.base.eq(base),
                         last_step.eq(but_lowest(summed.useful) == 0)]
        with m.Else():
            m.d.sync += [picking.useful.eq(rest), last_step.eq(but_lowest(rest) == 0)]
        at = Signal(exact_log2(count))
        for place in reversed(range(count)):
            with m.If(picking.useful[place]):
                m.d.comb += at.eq(place)
        entries = Array(picking.entries[place] for place in range(count))
        picked_valid, picked = Signal(), Signal(data.StructLayout({
            "entry": picking.entries[0].shape(), "base": rows, "act": picking.act.shape()}),
            reset_less=True, name="picked")
        m.d.sync += [picked_valid.eq(picking_valid), picked.entry.eq(entries[at]),
                     picked.base.eq(picking.base), picked.act.eq(picking.act)]

        # Place: computes the slot's accumulator while the tap's offset is looked up, then subtracts that.
        offset = self._tap_table(m, picked.entry.tap)
        placed_valid, placed, placed_row = Signal(), Signal.like(picked), \
            Signal(rows, reset_less=True, name="placed_row")
        m.d.sync += [
            placed_valid.eq(picked_valid), placed.eq(picked), placed_row.eq(picked.base + picked.entry.slots),
            self.visits.valid.eq(placed_valid),
            self.visits.payload.row.eq(placed_row - Mux(self.layer.tap_bits == 0, 0, offset)),
            self.visits.payload.code.eq(placed.entry.code), self.visits.payload.act.eq(placed.act),
        ]
        return advanced_valid | summed_valid | picking_valid | picked_valid

    def _tap(self, m, place, index, position):
        """Tap, gap and length of a skip of an entry, and whether the tap is inside at this position."""
        config = self.config
        edge = config.tap_bits
        tap, fits = Signal(2 * edge, name=f"tap_{place}"), Signal(name=f"fits_{place}")
        gap, skipped = Signal(row_bits(config), name=f"gap_{place}"), Signal(row_bits(config), name=f"skipped_{place}")

        def choose_skip(bits, width):
            if width >= 2 * bits:
                # Within a slot's taps no gap can say "the next slot", so a skip can.
                m.d.comb += skipped.eq((index + (bits == 0)) << (width - 2 * bits))

        with m.Switch(self.layer.tap_bits):
            for bits in sorted({0, 2, edge}):
                with m.Case(bits):
                    tap_row, tap_col = index[bits:2 * bits], index[:bits]
                    m.d.comb += [
                        tap.eq(index[:2 * bits]), gap.eq(index[2 * bits:]),
                        fits.eq(position.tap_rows.bit_select(tap_row, 1) & position.tap_cols.bit_select(tap_col, 1)
                                if bits else position.tap_rows[0] & position.tap_cols[0]),
                    ]
                    self._by_index_width(m, partial(choose_skip, bits))
        return tap, gap, skipped, fits

    def _tap_table(self, m, tap):
        """Offset of a tap, to subtract from the accumulator of tap 0; known a cycle later."""
        config = self.config
        m.submodules.tap_table = table = memory.Memory(shape=row_bits(config), depth=config.taps, init=[])
        write = table.write_port()
        read = table.read_port()
        m.d.comb += [write.addr.eq(self.taps.payload.tap), write.data.eq(self.taps.payload.offset),
                     write.en.eq(self.taps.valid), read.addr.eq(tap), read.en.eq(1)]
        return read.data
