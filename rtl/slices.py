# SPDX-License-Identifier: Apache-2.0
"""Slice lookup: where this PE's entries of a column start, and how many they are.

Slice memory stores lengths only, one word for each block of columns. Since the scan visits every block, in order,
the start of a block is the sum of all lengths before it: the running ``base``. No pointer is stored.
"""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .layouts import beat_layout, entry_address_shape, job_layout, memory_write_layout, slice_length_bits

__all__ = ["SliceLookup"]


class SliceLookup(wiring.Component):
    """Turns beats into jobs for the walker; a beat whose slice is empty ends here.

    A beat comes out five cycles later. There is no back-pressure: whoever sends beats stops in time
    (`rtl.pe.ProcessingElement.hold`).

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    load : In(memory_write_layout), load_valid : In(1)
        A word of the image that is for these slices.
    start : In(1), slice_base : In, entry_base : In, wide_lengths : In(1)
        A layer begins: addresses of its first slice word and entry word, and its length width.
    beats : In(beat_layout), beats_valid : In(1)
    jobs : Out(job_layout), jobs_valid : Out(1)
    dropped : Out(1)
        A present activation met an empty slice.
    empty : Out(1)
        No beat is under way.
    """

    latency_cycles = 5

    def __init__(self, config):
        self.config = config
        super().__init__({
            "load": In(memory_write_layout(config)),
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
            write.en.eq(self.load_valid),
        ]

        # Read: the word of the block that the beat belongs to.
        address = Signal(ceil_log2(config.slice_depth))
        m.d.comb += [read.addr.eq(address), read.en.eq(1)]
        with m.If(self.start):
            m.d.sync += address.eq(self.slice_base)
        with m.Elif(self.beats_valid & self.beats.last):
            m.d.sync += address.eq(address + 1)

        # A register behind the memory's output (it is slow), one behind the sums of pairs, one behind the other sums.
        beat, valid = self.beats, self.beats_valid
        valids = []
        for step in ("read", "word", "pair", "sum"):
            next_beat = Signal(beat_layout(config), reset_less=True, name=f"{step}_beat")
            next_valid = Signal(name=f"{step}_valid")
            m.d.sync += [next_beat.eq(beat), next_valid.eq(valid)]
            beat, valid = next_beat, next_valid
            valids.append((beat, valid))
        (word_beat, _), (pair_beat, _), (sum_beat, sum_valid) = valids[1:]
        word = Signal(config.slice_word_bits, reset_less=True)
        m.d.sync += word.eq(read.data)

        # Pairs of lengths; with wide lengths a pair is one length. All ones stand for twice that, plus one.
        fields = [word[place * bits:(place + 1) * bits] for place in range(count)]
        lengths = [Cat(field, field.all()) for field in fields]
        joined = [Cat(low, high, low.all() & high.all()) for low, high in zip(fields[0::2], fields[1::2], strict=True)]
        pairs = []
        for number, (low, high) in enumerate(zip(lengths[0::2], lengths[1::2], strict=True)):
            pair = Signal(slice_length_bits(config), name=f"pair_{number}", reset_less=True)
            m.d.sync += pair.eq(Mux(self.wide_lengths, joined[number], low + high))
            pairs.append(pair)

        # What lies before a column: for each bit of its place, the sum of as many lengths to the left.
        pair_bits = ceil_log2(count // 2)
        odd = word_beat.col[0] & ~self.wide_lengths
        neighbour = Signal(bits + 1, reset_less=True)
        length, pair_length = Signal(slice_length_bits(config), reset_less=True), Signal(slice_length_bits(config))
        m.d.comb += pair_length.eq(Array(joined)[word_beat.col[:pair_bits]])
        m.d.sync += [
            neighbour.eq(Mux(odd, Array(lengths[0::2])[word_beat.col[1:]], 0)),
            length.eq(Mux(self.wide_lengths, pair_length, Array(lengths)[word_beat.col])),
        ]
        place = Mux(self.wide_lengths, pair_beat.col[:pair_bits], pair_beat.col[1:])
        before = neighbour
        sums = pairs
        for level in range(pair_bits):
            before = before + Mux(place[level], Array(sums[0::2])[place[level + 1:]], 0)
            sums = [low + high for low, high in zip(sums[0::2], sums[1::2], strict=True)]
        before_sum, block_sum = Signal.like(sums[0], reset_less=True), Signal.like(sums[0], reset_less=True)
        sum_length = Signal.like(length, reset_less=True)
        m.d.sync += [before_sum.eq(before), block_sum.eq(sums[0]), sum_length.eq(length)]

        # Add the running base.
        base = Signal(entry_address_shape(config))
        with m.If(self.start):
            m.d.sync += base.eq(self.entry_base * config.entries_per_word)
        with m.Elif(sum_valid & sum_beat.last):
            m.d.sync += base.eq(base + block_sum)
        m.d.sync += [
            self.jobs_valid.eq(sum_valid & sum_beat.present & (sum_length != 0)),
            self.dropped.eq(sum_valid & sum_beat.present & (sum_length == 0)),
            self.jobs.start.eq(base + before_sum),
            self.jobs.length.eq(sum_length),
            self.jobs.act.eq(sum_beat.act),
        ]
        m.d.comb += self.empty.eq(~(self.beats_valid | Cat(valid for _, valid in valids).any() | self.jobs_valid))
        return m
