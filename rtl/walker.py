# SPDX-License-Identifier: Apache-2.0
"""The walker: visits the entries of a slice and decodes their relative indices into rows."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from .layouts import entry_layout, job_layout, visit_layout

__all__ = ["Walker"]


class Walker(wiring.Component):
    """Reads the words of a slice and emits one useful entry in each cycle.

    A skip (code 0) costs no cycle if the entry after it lies in the same word, and one otherwise. The first entry of a
    slice appears at ``visits`` four cycles after its job was taken. ``visits`` has no back-pressure.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    hold : In(1)
        Read no word.
    index_mode : In(2)
        The layer's index width, as a place in ``config.index_bits``.
    jobs : In(stream.Signature(job_layout))
    address : Out, read : Out(1), word : In(ArrayLayout(entry_layout))
        To the entry memory, which answers a cycle later and holds its answer.
    visits : Out(visit_layout), visits_valid : Out(1)
    empty : Out(1)
        No word is under way; a visit may be on offer.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "hold": In(1),
            "index_mode": In(2),
            "jobs": In(stream.Signature(job_layout(config))),
            "address": Out(ceil_log2(config.entry_depth)),
            "read": Out(1),
            "word": In(data.ArrayLayout(entry_layout(config, config.index_bits[-1]), config.entries_per_word)),
            "visits": Out(visit_layout(config)),
            "visits_valid": Out(1),
            "empty": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        place_bits = exact_log2(config.entries_per_word)
        job = job_layout(config)
        place = data.StructLayout({"first": place_bits, "last": place_bits, "begins": 1, "act": job["act"].shape})

        # Fetch: one word a cycle. `last` is the place of the slice's last entry, counted from the word's first.
        address, last = Signal.like(self.address, reset_less=True), Signal(job["length"].width + 1, reset_less=True)
        first, begins = Signal(place_bits, reset_less=True), Signal(reset_less=True)
        act = Signal.like(self.jobs.payload.act, reset_less=True)
        job_valid, fetch, ends, read_ready = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            fetch.eq(job_valid & read_ready & ~self.hold),
            ends.eq(last[place_bits:] == 0),
            self.jobs.ready.eq(~job_valid | (fetch & ends)),
            self.address.eq(address),
            self.read.eq(fetch),
        ]
        with m.If(self.jobs.ready):
            m.d.sync += [
                job_valid.eq(self.jobs.valid),
                Cat(first, address).eq(self.jobs.payload.start),
                last.eq(self.jobs.payload.start[:place_bits] + self.jobs.payload.length - 1),
                begins.eq(1),
                act.eq(self.jobs.payload.act),
            ]
        with m.Elif(fetch):
            m.d.sync += [
                Cat(first, address).eq((address + 1) << place_bits),
                last[place_bits:].eq(last[place_bits:] - 1),
                begins.eq(0),
            ]

        # The word lies at the memory's output, then in a register of its own, beside it which of its entries are skips.
        read_valid, read_place = Signal(), Signal(place, reset_less=True)
        word_valid, word_place = Signal(), Signal(place, reset_less=True)
        word, skip_at = Signal.like(self.word, reset_less=True), Signal(config.entries_per_word, reset_less=True)
        word_ready, done = Signal(), Signal()
        m.d.comb += [read_ready.eq(~read_valid | word_ready), word_ready.eq(~word_valid | done)]
        with m.If(read_ready):
            m.d.sync += [
                read_valid.eq(fetch),
                read_place.first.eq(first), read_place.last.eq(Mux(ends, last[:place_bits], ~0)),
                read_place.begins.eq(begins), read_place.act.eq(act),
            ]
        with m.If(word_ready):
            m.d.sync += [
                word_valid.eq(read_valid), word_place.eq(read_place), word.eq(self.word),
                skip_at.eq(Cat(entry.code == 0 for entry in self.word)),
            ]

        # Decode: an entry, together with the skip before it.
        entries = Array(word[number] for number in range(config.entries_per_word))
        following = (word_place.first + 1)[:place_bits]
        here, after = Signal.like(word[0]), Signal.like(word[0])
        at_last, skips, pair, useful = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            here.eq(entries[word_place.first]),
            after.eq(entries[following]),
            at_last.eq(word_place.first == word_place.last),
            skips.eq(skip_at.bit_select(word_place.first, 1)),
            pair.eq(skips & ~at_last & ~skip_at.bit_select(following, 1)),
            useful.eq(~skips | pair),
            done.eq(at_last | (pair & (following == word_place.last))),
        ]

        # Row: the last entry's, plus one, plus the gap; a slice begins at row 0.
        rows = visit_layout(config)["row"].shape
        row, last_row = Signal(rows), Signal(rows, reset_less=True)
        last_useful, carry = Signal(reset_less=True), Signal()
        index, gap = Signal.like(here.index), Signal(rows)
        m.d.comb += [
            index.eq(Mux(skips, Mux(pair, after.index, 0), here.index)),
            carry.eq(last_useful & ~word_place.begins),
            # The carry enters the adder below its lowest bit.
            row.eq((Cat(1, Mux(word_place.begins, 0, last_row)) + Cat(carry, gap))[1:]),
        ]
        with m.Switch(self.index_mode):
            for mode, bits in enumerate(config.index_bits):
                with m.Case(mode):
                    m.d.comb += gap.eq(Cat(index[:bits], Mux(skips, here.index[:bits] + 1, 0)))
        with m.If(word_valid):
            m.d.sync += [last_row.eq(row), last_useful.eq(useful)]
            with m.If(~done):
                m.d.sync += [word_place.first.eq(word_place.first + 1 + pair), word_place.begins.eq(0)]

        m.d.sync += [
            self.visits_valid.eq(word_valid & useful),
            self.visits.row.eq(row),
            self.visits.code.eq(Mux(skips, after.code, here.code)),
            self.visits.act.eq(word_place.act),
        ]
        m.d.comb += self.empty.eq(~(job_valid | read_valid | word_valid))
        return m
