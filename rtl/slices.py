# SPDX-License-Identifier: Apache-2.0
"""Slice lookup: where this PE's entries of a column start, and how many they are.

Slice memory stores lengths only, one word for each block of columns. Since the scan visits every block, in order,
the start of a block is the sum of all lengths before it: the running ``base``. No pointer is stored.
"""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .layouts import beat_layout, entry_address_shape, job_layout, memory_write_layout, position_fields

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
    start : In(1), slice_base : In, entry_base : In
        A layer begins: addresses of its first slice word and entry word, which hold until the next one.
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
            "beats": In(beat_layout(config)),
            "beats_valid": In(1),
            "jobs": Out(job_layout(config)),
            "jobs_valid": Out(1),
            "dropped": Out(1),
            "empty": Out(1),
        })

    def _wraps(self, beat):
        """With this beat a pixel ends: the next one has the same slices."""
        return beat.wraps if self.config.tap_bits else 0

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
            m.d.sync += address.eq(Mux(self._wraps(self.beats), self.slice_base, address + 1))

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

        # Lengths, of which all ones stand for twice that, plus one; and the sums of pairs of them.
        fields = [word[place * bits:(place + 1) * bits] for place in range(count)]
        lengths = [Cat(field, field.all()) for field in fields]
        sums = []
        for number, (low, high) in enumerate(zip(lengths[0::2], lengths[1::2], strict=True)):
            pair = Signal(bits + 2, name=f"pair_{number}", reset_less=True)
            m.d.sync += pair.eq(low + high)
            sums.append(pair)

        # What lies before a column: for each bit of its place, the sum of as many lengths to the left.
        length, neighbour = Signal(bits + 1, reset_less=True), Signal(bits + 1, reset_less=True)
        m.d.sync += [
            length.eq(Array(lengths)[word_beat.col]),
            neighbour.eq(Mux(word_beat.col[0], Array(lengths[0::2])[word_beat.col[1:]], 0)),
        ]
        before = neighbour
        for level in range(1, len(word_beat.col)):
            before = before + Mux(pair_beat.col[level], Array(sums[0::2])[pair_beat.col[level + 1:]], 0)
            sums = [low + high for low, high in zip(sums[0::2], sums[1::2], strict=True)]
        before_sum, block_sum = Signal.like(sums[0], reset_less=True), Signal.like(sums[0], reset_less=True)
        sum_length = Signal.like(length, reset_less=True)
        m.d.sync += [before_sum.eq(before), block_sum.eq(sums[0]), sum_length.eq(length)]

        # Add the running base.
        base = Signal(entry_address_shape(config))
        with m.If(self.start):
            m.d.sync += base.eq(self.entry_base * config.entries_per_word)
        with m.Elif(sum_valid & sum_beat.last):
            m.d.sync += base.eq(Mux(self._wraps(sum_beat), self.entry_base * config.entries_per_word,
                                    base + block_sum))
        m.d.sync += [
            self.jobs_valid.eq(sum_valid & sum_beat.present & (sum_length != 0)),
            self.dropped.eq(sum_valid & sum_beat.present & (sum_length == 0)),
            self.jobs.start.eq(base + before_sum),
            self.jobs.length.eq(sum_length),
            self.jobs.act.eq(sum_beat.act),
            *(self.jobs[name].eq(sum_beat[name]) for name in (position_fields(config) if config.tap_bits else ())),
        ]
        m.d.comb += self.empty.eq(~(self.beats_valid | Cat(valid for _, valid in valids).any() | self.jobs_valid))
        return m
