# SPDX-License-Identifier: Apache-2.0
"""Slice lookup: where this PE's entries of a column start, and how many they are.

Slice memory stores lengths only, one word for each block of columns. Since the scan visits every block, in order,
the start of a block is the sum of all lengths before it: the running ``base``. No pointer is stored.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .layouts import SectionKind, beat_layout, entry_address_shape, job_layout, load_write_layout, slice_length_bits

__all__ = ["SliceLookup"]


class SliceLookup(wiring.Component):
    """Turns beats into jobs for the walker; a beat whose slice is empty ends here.

    A beat comes out four cycles later. There is no back-pressure: whoever sends beats stops in time
    (`rtl.pe.ProcessingElement.hold`).

    Parameters
    ----------
    config : EngineConfig
    pe : int
        Number of this PE, for its own sections of the image.

    Members
    -------
    load : In(load_write_layout), load_valid : In(1)
        Words of the image; those for this PE's slices are kept.
    start : In(1), slice_base : In, entry_base : In, wide_lengths : In(1)
        A layer begins: addresses of its first slice word and entry word, and its length width.
    beats : In(beat_layout), beats_valid : In(1)
    jobs : Out(job_layout), jobs_valid : Out(1)
    dropped : Out(1)
        A present activation met an empty slice.
    empty : Out(1)
        No beat is under way.
    """

    latency_cycles = 4

    def __init__(self, config, pe):
        self.config = config
        self.pe = pe
        super().__init__({
            "load": In(load_write_layout(config)),
            "load_valid": In(1),
            "start": In(1),
            "slice_base": In(ceil_log2(config.slice_depth)),
            "entry_base": In(ceil_log2(config.entry_depth)),
            "wide_lengths": In(1),
            "beats": In(beat_layout(config)),
            "beats_valid": In(1),
            "jobs": Out(job_layout(config)),
            "jobs_valid": Out(1),
            "dropped": Out(1),
            "empty": Out(1),
        })

    def _sums(self, fields, taken, long):
        """Even and odd lengths and long slices among the ``taken`` fields, each summed."""
        width = self.config.length_bits + ceil_log2(len(fields))
        even, odd, longs = Signal(width), Signal(width), Signal(range(len(fields) + 1))
        masked = [Mux(take, field, 0) for field, take in zip(fields, taken, strict=True)]
        sums = [even.eq(sum(masked[0::2])), odd.eq(sum(masked[1::2])),
                longs.eq(sum(one & take for one, take in zip(long, taken, strict=True)))]
        return sums, even, odd, longs

    def _merged(self, even, odd, longs):
        """The sum of lengths from its parts, for the width that the layer uses."""
        bits = self.config.length_bits
        return even + Mux(self.wide_lengths, odd << bits, odd) \
            + Mux(self.wide_lengths, longs << (2 * bits), longs << bits)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        bits = config.length_bits
        count = config.block_cols

        m.submodules.words = words = memory.Memory(shape=config.slice_word_bits, depth=config.slice_depth, init=[])
        write = words.write_port()
        read = words.read_port()
        m.d.comb += [
            write.addr.eq(self.load.address),
            write.data.eq(self.load.word),
            write.en.eq(self.load_valid & (self.load.kind == SectionKind.SLICES.value)
                        & (self.load.pe == self.pe)),
        ]

        # Read: the word of the block that the beat belongs to.
        address = Signal(ceil_log2(config.slice_depth))
        m.d.comb += [read.addr.eq(address), read.en.eq(1)]
        with m.If(self.start):
            m.d.sync += address.eq(self.slice_base)
        with m.Elif(self.beats_valid & self.beats.last):
            m.d.sync += address.eq(address + 1)

        # Two registers behind the memory's output: it is slow, and so is what follows.
        read_valid, word_valid, sum_valid = Signal(), Signal(), Signal()
        read_beat, word_beat, sum_beat = (Signal(beat_layout(config), reset_less=True, name=f"{name}_beat")
                                          for name in ("read", "word", "sum"))
        word = Signal(config.slice_word_bits, reset_less=True)
        m.d.sync += [
            read_valid.eq(self.beats_valid), read_beat.eq(self.beats),
            word_valid.eq(read_valid), word_beat.eq(read_beat), word.eq(read.data),
            sum_valid.eq(word_valid), sum_beat.eq(word_beat),
        ]

        # Sum the lengths before the column, and those of the whole block.
        fields = [word[place * bits:(place + 1) * bits] for place in range(count)]
        ones = [field.all() for field in fields]
        long = [Mux(self.wide_lengths, ones[place] & ones[place ^ 1] if place % 2 == 0 else 0, ones[place])
                for place in range(count)]
        col = word_beat.col
        before = [Mux(self.wide_lengths, place // 2 < col, place < col) for place in range(count)]
        before_sums, *before_parts = self._sums(fields, before, long)
        block_sums, *block_parts = self._sums(fields, [1] * count, long)
        m.d.sync += [*before_sums, *block_sums]

        own, own_long = Signal(2 * bits, reset_less=True), Signal(reset_less=True)
        pairs = Cat(fields).word_select(col[:max(1, ceil_log2(count // 2))], 2 * bits) if count > 2 else Cat(fields)
        narrow = Cat(fields).word_select(col, bits)
        m.d.sync += [
            own.eq(Mux(self.wide_lengths, pairs, narrow)),
            own_long.eq(Mux(self.wide_lengths, pairs.all(), narrow.all())),
        ]

        # Add the running base.
        base = Signal(entry_address_shape(config))
        length = Signal(slice_length_bits(config))
        m.d.comb += length.eq(own + Mux(own_long, Mux(self.wide_lengths, 1 << (2 * bits), 1 << bits), 0))
        with m.If(self.start):
            m.d.sync += base.eq(self.entry_base * config.entries_per_word)
        with m.Elif(sum_valid & sum_beat.last):
            m.d.sync += base.eq(base + self._merged(*block_parts))
        m.d.sync += [
            self.jobs_valid.eq(sum_valid & sum_beat.present & (own != 0)),
            self.dropped.eq(sum_valid & sum_beat.present & (own == 0)),
            self.jobs.start.eq(base + self._merged(*before_parts)),
            self.jobs.length.eq(length),
            self.jobs.act.eq(sum_beat.act),
        ]
        m.d.comb += self.empty.eq(~(self.beats_valid | read_valid | word_valid | sum_valid | self.jobs_valid))
        return m
