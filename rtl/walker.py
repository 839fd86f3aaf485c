# SPDX-License-Identifier: Apache-2.0
"""The walker: visits the entries of a slice and decodes their relative indices into rows."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from .layouts import entry_layout, job_layout, visit_layout

__all__ = ["Walker"]


class Walker(wiring.Component):
    """Reads the words of a slice and emits one useful entry in each cycle.

    A skip (code 0) costs no cycle if the entry after it lies in the same word, and one otherwise. The first entry of a
    slice appears at ``visits`` three cycles after its job was taken. ``visits`` has no back-pressure.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    hold : In(1)
        Take no job and read no word.
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
        place = data.StructLayout({"first": place_bits, "last": place_bits, "begins": 1,
                                   "act": job["act"].shape})

        # Fetch: one word a cycle, from the job at the queue's head or the rest of the last one.
        rest, rest_valid = Signal(job, reset_less=True), Signal()
        current, current_valid = Signal(job), Signal()
        fetch = Signal()
        read_ready = Signal()
        room = Signal(range(config.entries_per_word + 1))
        ends = Signal()
        first = current.start[:place_bits]
        m.d.comb += [
            current.eq(Mux(rest_valid, rest, self.jobs.payload)),
            current_valid.eq(rest_valid | self.jobs.valid),
            fetch.eq(current_valid & read_ready & ~self.hold),
            room.eq(config.entries_per_word - first),
            ends.eq(current.length <= room),
            self.jobs.ready.eq(fetch & ~rest_valid),
            self.address.eq(current.start >> place_bits),
            self.read.eq(fetch),
        ]
        with m.If(fetch):
            m.d.sync += [
                rest_valid.eq(~ends),
                rest.start.eq(((current.start >> place_bits) + 1) << place_bits),
                rest.length.eq(current.length - room),
                rest.act.eq(current.act),
            ]

        # The word lies at the memory's output, then in a register of its own.
        read_valid, read_place = Signal(), Signal(place, reset_less=True)
        word_ready = Signal()
        m.d.comb += read_ready.eq(~read_valid | word_ready)
        with m.If(read_ready):
            m.d.sync += [
                read_valid.eq(fetch),
                read_place.first.eq(first),
                read_place.last.eq(Mux(ends, (first + current.length - 1)[:place_bits],
                                       config.entries_per_word - 1)),
                read_place.begins.eq(~rest_valid),
                read_place.act.eq(current.act),
            ]

        word_valid, word_place = Signal(), Signal(place, reset_less=True)
        word = Signal.like(self.word, reset_less=True)
        done = Signal()
        m.d.comb += word_ready.eq(~word_valid | done)
        with m.If(word_ready):
            m.d.sync += [word_valid.eq(read_valid), word_place.eq(read_place), word.eq(self.word)]

        # Decode: an entry, together with the skip before it.
        entries = Array(word[number] for number in range(config.entries_per_word))
        here, after = Signal.like(word[0]), Signal.like(word[0])
        at_last, skips, pair, useful = Signal(), Signal(), Signal(), Signal()
        rows = visit_layout(config)["row"].shape
        next_row = Signal(rows, reset_less=True)
        row, skipped, begin = Signal(rows), Signal(rows), Signal(rows)
        m.d.comb += [
            here.eq(entries[word_place.first]),
            after.eq(entries[(word_place.first + 1)[:place_bits]]),
            at_last.eq(word_place.first == word_place.last),
            skips.eq(here.code == 0),
            pair.eq(skips & ~at_last & (after.code != 0)),
            useful.eq(word_valid & (~skips | pair)),
            done.eq(at_last | (pair & ((word_place.first + 1)[:place_bits] == word_place.last))),
            begin.eq(Mux(word_place.begins, 0, next_row)),
            row.eq(begin + skipped + Mux(skips, after.index, here.index)),
        ]
        with m.Switch(self.index_mode):
            for mode, bits in enumerate(config.index_bits):
                with m.Case(mode):
                    m.d.comb += skipped.eq(Mux(skips, (here.index + 1) << bits, 0))
        with m.If(word_valid):
            m.d.sync += next_row.eq(Mux(useful, row + 1, begin + skipped))
            with m.If(~done):
                m.d.sync += [word_place.first.eq(word_place.first + 1 + pair), word_place.begins.eq(0)]

        m.d.sync += [
            self.visits_valid.eq(useful),
            self.visits.row.eq(row),
            self.visits.code.eq(Mux(skips, after.code, here.code)),
            self.visits.act.eq(word_place.act),
        ]
        m.d.comb += self.empty.eq(~(rest_valid | read_valid | word_valid))
        return m
