# SPDX-License-Identifier: Apache-2.0
"""The walker: visits the entries of a slice and decodes their relative indices into rows."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from rtl.layouts import entry_layout, job_layout, pe_layer_layout, visit_layout

from .gates import but_lowest
from .interfaces import flow

__all__ = ["Walker"]


class Walker(wiring.Component):
    """Reads the words of a slice and emits one useful entry in each cycle.

    A skip (code 0) costs no cycle if the entry after it lies in the same word, and one otherwise. The first entry of a
    slice appears at ``visits`` ``read_cycles`` after its word was read, a cycle more after its job was taken.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    hold : In(1)
        Read no word.
    layer : In(pe_layer_layout)
        The layer that is scanned.
    jobs : In(stream.Signature(job_layout))
    address : Out, read : Out(1)
        To the entry memory: read a word.
    take : Out(1), word : In(ArrayLayout(entry_layout))
        Store that word in its register; the word in the register.
    ready : Out(1)
        The memory's output may change. This is known earlier in the cycle than ``read``.
    visits : Out(flow(visit_layout))
    empty : Out(1)
        No word left to fetch or decode; up to ``late_visits`` visits may still appear.
    """

    @staticmethod
    def read_cycles(config):
        """Cycles from the read of a slice's first word to its first entry at ``visits``."""
        return 5 if config.deep_pipeline else 2

    @staticmethod
    def late_visits(config):
        """Visits that may still appear once the walker is ``empty``."""
        return 3 if config.deep_pipeline else 1

    @property
    def tables(self):
        """Streams for tables of the layer that the walker needs, by their name in `table_layouts`."""
        return {}

    def __init__(self, config, **members):
        self.config = config
        super().__init__({
            **members,
            "hold": In(1),
            "layer": In(pe_layer_layout(config)),
            "jobs": In(stream.Signature(job_layout(config))),
            "address": Out(ceil_log2(config.entry_depth)),
            "read": Out(1),
            "take": Out(1),
            "ready": Out(1),
            "word": In(data.ArrayLayout(entry_layout(config, config.index_bits[-1]), config.entries_per_word)),
            "visits": Out(flow(visit_layout(config))),
            "empty": Out(1),
        })

    def _by_index_width(self, m, assign):
        """Calls ``assign(width)`` for each index width, selected by the layer's index mode."""
        if len(self.config.index_bits) == 1:
            assign(self.config.index_bits[0])
            return
        with m.Switch(self.layer.index_mode):
            for mode, bits in enumerate(self.config.index_bits):
                with m.Case(mode):
                    assign(bits)

    def elaborate(self, platform):
        m = Module()
        raw, raw_valid, raw_ready, fetching = self._fetch(m)
        decoding = self._decode(m, raw, raw_valid, raw_ready)
        m.d.comb += self.empty.eq(~(fetching | raw_valid | decoding))
        return m

    def _fetch(self, m):
        """Reads the words of the jobs, one a cycle.

        Returns
        -------
        raw : Signal(StructLayout)
            A word as it leaves the entry memory: its ``entries``, which of them are ``inside`` the slice, whether the
            slice ``begins`` with it, and the ``job`` without its address and length.
        raw_valid, raw_ready, fetching : Signal(1)
            There is a word; it is taken; words are on their way.
        """
        config = self.config
        place_bits = exact_log2(config.entries_per_word)
        job = job_layout(config)

        # Fetch: one word a cycle. `last` is the place of the slice's last entry, counted from the word's first.
        address, last = Signal.like(self.address, reset_less=True), Signal(job["last"].width, reset_less=True)
        first, begins = Signal(place_bits, reset_less=True), Signal(reset_less=True)
        rest = data.StructLayout({name: field.shape for name, field in job if name not in ("start", "last")})
        act = Signal(rest, reset_less=True)
        # `ends`: there is no job, or it ends with its word. It is registered, like all signals that select the next
        # word; `moves` arrives late in the cycle and is used only as an enable. Its path to the queue is the critical
        # path of the engine: `barrier` stops synthesis from sharing logic that would lengthen it.
        job_valid, fetch, moves, ends = Signal(), Signal(), Signal(), Signal(init=1)
        read_ready = Signal(attrs={"barrier": 1})
        m.d.comb += [
            fetch.eq(job_valid & read_ready & ~self.hold),
            moves.eq(~job_valid | (read_ready & ~self.hold)),
            self.jobs.ready.eq(moves & ends),
            self.address.eq(address),
            self.read.eq(fetch),
        ]
        new = self.jobs.payload
        with m.If(moves):
            m.d.sync += [
                # A choice before each adder, not behind it, is part of the adder's cells.
                address.eq(Mux(ends, new.start[place_bits:], address) + ~ends),
                last[place_bits:].eq(Mux(ends, new.last[place_bits:], last[place_bits:]) - ~ends),
                first.eq(Mux(ends, new.start[:place_bits], 0)), begins.eq(ends),
            ]
            with m.If(ends):
                m.d.sync += [
                    job_valid.eq(self.jobs.valid), last[:place_bits].eq(new.last[:place_bits]),
                    ends.eq(~self.jobs.valid | (new.last[place_bits:] == 0)),
                    *(act[name].eq(new[name]) for name, _ in rest),
                ]
            with m.Else():
                m.d.sync += ends.eq(last[place_bits:] == 1)

        # The word lies at the memory's output, then in its register, if any; its other fields are delayed with it.
        count = config.entries_per_word
        word_layout = data.StructLayout({"entries": self.word.shape(), "inside": count, "begins": 1, "job": rest})
        read_valid, read_inside, read_begins = Signal(), Signal(count, reset_less=True), \
            Signal(reset_less=True, name="read_begins")
        read_act = Signal.like(act)
        raw_valid, raw, raw_ready = Signal(), Signal(word_layout), Signal(name="raw_ready")
        raw_inside, raw_begins = Signal.like(read_inside), Signal(reset_less=True, name="raw_begins")
        raw_act = Signal.like(act)
        m.d.comb += [read_ready.eq(~read_valid | raw_ready), self.ready.eq(read_ready)]
        advance = [raw_valid.eq(read_valid), raw_inside.eq(read_inside), raw_begins.eq(read_begins),
                   raw_act.eq(read_act)]
        with m.If(read_ready):
            m.d.sync += [
                read_valid.eq(fetch), read_begins.eq(begins), read_act.eq(act),
                read_inside.eq(Cat((first <= number) & (~ends | (last[:place_bits] >= number))
                                   for number in range(count))),
            ]
        if config.deep_pipeline:
            with m.If(raw_ready):
                m.d.sync += advance
        else:
            m.d.comb += advance
        m.d.comb += [self.take.eq(raw_ready), raw.entries.eq(self.word), raw.inside.eq(raw_inside),
                     raw.begins.eq(raw_begins), raw.job.eq(raw_act)]
        return raw, raw_valid, raw_ready, job_valid | read_valid

    def _decode(self, m, raw, raw_valid, raw_ready):
        """Decodes words into visits; returns whether more than ``late_visits`` visits may be left."""
        config = self.config
        count = config.entries_per_word
        place_bits = exact_log2(count)
        word_valid, word, word_ready = Signal(), Signal.like(raw), Signal(init=1)
        m.d.comb += raw_ready.eq(~raw_valid | word_ready)

        # A step is a weight, together with the skip before it (`paired`) if there is one, or a skip that no weight
        # follows; the lowest of `steps` is next. `word_ready`, that it is the word's last or there is no word, is
        # registered.
        steps, rest = Signal(count, reset_less=True), Signal(count, name="rest")
        paired, skips = Signal(count, reset_less=True), Signal(count, reset_less=True, name="skips")
        zero = Cat(raw.entries[number].code == 0 for number in range(count))
        raw_steps = raw.inside & ~(zero & (raw.inside >> 1) & ~(zero >> 1))
        m.d.comb += rest.eq(but_lowest(steps))
        with m.If(word_ready):
            m.d.sync += [
                word_valid.eq(raw_valid), word.eq(raw),
                skips.eq(zero), paired.eq((raw.inside & zero & ~(zero >> 1)) << 1),
                steps.eq(raw_steps), word_ready.eq(~raw_valid | (but_lowest(raw_steps) == 0)),
            ]
        with m.Else():
            m.d.sync += [steps.eq(rest), word_ready.eq(but_lowest(rest) == 0), word.begins.eq(0)]

        # Pick: the step's entry, and the skip that belongs to it.
        at = Signal(place_bits)
        for number in reversed(range(count)):
            with m.If(steps[number]):
                m.d.comb += at.eq(number)
        entries = Array(word.entries[number] for number in range(count))
        before = Signal.like(self.word[0])
        picked_valid, picked = Signal(), Signal(data.StructLayout({
            "index": before.index.shape(), "code": before.code.shape(), "skip": len(before.index) + 1,
            "is_skip": 1, "begins": 1, "act": word.job.act.shape()}), init={"skip": -1}, reset_less=True, name="picked")
        is_skip = skips.bit_select(at, 1)
        own = Signal.like(before)
        m.d.comb += [own.eq(entries[at]), before.eq(Array(word.entries[(number - 1) % count]
                                                          for number in range(count))[at])]
        domain = "sync" if config.deep_pipeline else "comb"
        m.d[domain] += [
            picked_valid.eq(word_valid),
            # A missing field is encoded as a constant, so that no multiplexer is needed later: gap 0, skip -1.
            picked.index.eq(Mux(is_skip, 0, own.index)), picked.code.eq(own.code),
            picked.skip.eq(Mux(is_skip | paired.bit_select(at, 1), Mux(is_skip, own.index, before.index), -1)),
            picked.is_skip.eq(is_skip),
            picked.begins.eq(word.begins), picked.act.eq(word.job.act),
        ]

        # Row: the last entry's, plus one, plus the gap; a slice begins at row 0.
        rows = visit_layout(config)["row"].shape
        row, last_row, gap = Signal(rows), Signal(rows, reset_less=True), Signal(rows, name="gap")
        last_skip, carry = Signal(reset_less=True), Signal(name="carry")
        m.d.comb += [
            carry.eq(~last_skip & ~picked.begins),
            # The carry enters the adder below its lowest bit.
            row.eq((Cat(1, Mux(picked.begins, 0, last_row)) + Cat(carry, gap))[1:]),
        ]

        def choose_gap(bits):
            skip = Cat(picked.skip[:bits], picked.skip[-1])
            m.d.comb += gap.eq(Cat(picked.index[:bits], (skip + 1)[:len(skip)]))

        self._by_index_width(m, choose_gap)
        with m.If(picked_valid):
            m.d.sync += [last_row.eq(row), last_skip.eq(picked.is_skip)]

        m.d[domain] += [
            self.visits.valid.eq(picked_valid & ~picked.is_skip),
            self.visits.payload.row.eq(row),
            self.visits.payload.code.eq(picked.code),
            self.visits.payload.act.eq(picked.act),
        ]
        return ~word_ready
