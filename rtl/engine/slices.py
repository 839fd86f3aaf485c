# SPDX-License-Identifier: Apache-2.0
"""Slice lookup: where a PE's entries of a column start, and how many they are.

Slice memory stores lengths only, one word for each block of columns. Since the scan visits every block, in order,
the start of a block is the sum of all lengths before it: the running ``base``. No pointer is stored.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from rtl.layouts import beat_layout, entry_address_shape, field_or_zero, job_layout, memory_write_layout

from .interfaces import flow

__all__ = ["SliceLookup"]


def _select(values, place):
    """Multiplexer, most significant bit of ``place`` first: even and odd places share its first stages."""
    for bit in reversed(place):
        half = len(values) // 2
        values = [Mux(bit, high, low) for low, high in zip(values[:half], values[half:], strict=True)]
    return values[0]


class SliceLookup(wiring.Component):
    """Turns beats into jobs for the walkers of some PEs; a beat whose slice is empty ends here.

    A job comes ``latency_cycles`` after its beat. There is no back-pressure: the sender of beats stops in time, see
    `rtl.engine.backpressure`.

    Parameters
    ----------
    config : EngineConfig
    pes : int
        PEs whose slices are looked up. They read at the same address, and take the same steps.

    Members
    -------
    load : In(memory_write_layout), load_pes : In(pes)
        A word of the image, and the PE whose slices it is for, if any.
    start : In(1), slice_base : In, entry_base : In
        A layer begins: addresses of its first slice word and entry word, which hold until the next one.
    beats : In(flow(beat_layout))
    jobs : Out(flow(job_layout)).array(pes)
    dropped : Out(pes)
        A present activation met an empty slice.
    empty : Out(1)
        No beat is under way.
    """

    def __init__(self, config, pes):
        self.config = config
        self.pes = pes
        super().__init__({
            "load": In(memory_write_layout(config)),
            "load_pes": In(pes),
            "start": In(1),
            "slice_base": In(ceil_log2(config.slice_depth)),
            "entry_base": In(ceil_log2(config.entry_depth)),
            "beats": In(flow(beat_layout(config))),
            "jobs": Out(flow(job_layout(config))).array(pes),
            "dropped": Out(pes),
            "empty": Out(1),
        })

    @staticmethod
    def _steps(config):
        """Registers before that of the jobs: behind the memory (if deep, two, since it is slow), and two of sums."""
        return ("read", *(("word",) if config.deep_pipeline else ()), "pair", "sum")

    @staticmethod
    def latency_cycles(config):
        """Cycles from a beat to its jobs."""
        return len(SliceLookup._steps(config)) + 1

    def elaborate(self, platform):
        m = Module()
        config = self.config

        # Read: the word of the block that the beat belongs to.
        address = Signal(ceil_log2(config.slice_depth))
        beat, valid = self.beats.payload, self.beats.valid
        begins = Signal()
        # All pixels have the same slices: at the end of a pixel the address starts over.
        m.d.comb += begins.eq(self.start | field_or_zero(beat, "wraps"))
        with m.If(self.start | (valid & beat.last)):
            m.d.sync += address.eq(Mux(begins, self.slice_base, address) + ~begins)

        # One memory for all, since they read at the same address; each writes its part of a word.
        m.submodules.words = words = memory.Memory(shape=config.slice_word_bits * self.pes, depth=config.slice_depth,
                                                   init=[])
        write = words.write_port(granularity=config.slice_word_bits)
        read = words.read_port()
        m.d.comb += [
            write.addr.eq(self.load.address),
            write.data.eq(self.load.word[:config.slice_word_bits].replicate(self.pes)),
            write.en.eq(self.load_pes),
            read.addr.eq(address), read.en.eq(1),
        ]

        # The beat is delayed with its word, with the sums of pairs and with the other sums.
        beats, valids = [], []
        for step in self._steps(config):
            next_beat = Signal(beat_layout(config), reset_less=True, name=f"{step}_beat")
            next_valid = Signal(name=f"{step}_valid")
            m.d.sync += [next_beat.eq(beat), next_valid.eq(valid)]
            beat, valid = next_beat, next_valid
            beats.append(beat)
            valids.append(valid)

        started = Signal()
        m.d.sync += started.eq(self.start)

        # The fields that a job copies from its beat are the same in all PEs.
        carried = {name: Signal(shape, name=f"job_{name}", reset_less=True)
                   for name, shape in job_layout(config).members.items() if name not in ("start", "last")}
        m.d.sync += [one.eq(beat[name]) for name, one in carried.items()]
        for pe in range(self.pes):
            m.d.comb += [self.jobs[pe].payload[name].eq(one) for name, one in carried.items()]
            self._look_up(m, pe, read.data.word_select(pe, config.slice_word_bits), beats[-3:], valid, started)
        jobs_valid = Cat(job.valid for job in self.jobs)
        m.d.comb += self.empty.eq(~(self.beats.valid | Cat(valids).any() | jobs_valid.any()))
        return m

    def _look_up(self, m, pe, read, beats, sum_valid, started):
        """One PE's start and length of each beat's slice."""
        config = self.config
        bits = config.length_bits
        word_beat, pair_beat, sum_beat = beats

        word = Signal(config.slice_word_bits, name=f"word_{pe}", reset_less=True)
        m.d["sync" if config.deep_pipeline else "comb"] += word.eq(read)

        # Lengths, and the sums of pairs of them. A field of all ones stands for twice its value plus one.
        fields = [word[place * bits:(place + 1) * bits] for place in range(config.block_cols)]
        lengths = [Cat(field, field.all()) for field in fields]
        sums = []
        for number, (low, high) in enumerate(zip(lengths[0::2], lengths[1::2], strict=True)):
            pair = Signal(bits + 2, name=f"pair_{pe}_{number}", reset_less=True)
            m.d.sync += pair.eq(low + high)
            sums.append(pair)

        # Entries before a column: for each set bit of the column's place, the sum of 2**bit lengths to its left.
        field, neighbour, sum_length = (Signal(width, name=f"{name}_{pe}", reset_less=True) for name, width in (
            ("field", bits), ("neighbour", bits + 1), ("sum_length", bits + 1)))
        m.d.sync += [
            field.eq(_select(fields, word_beat.col)),
            neighbour.eq(Mux(word_beat.col[0], _select(lengths[0::2], word_beat.col[1:]), 0)),
            sum_length.eq(Cat(field, field.all())),
        ]
        before = neighbour
        for level in range(1, len(word_beat.col)):
            before = before + Mux(pair_beat.col[level], _select(sums[0::2], pair_beat.col[level + 1:]), 0)
            sums = [low + high for low, high in zip(sums[0::2], sums[1::2], strict=True)]
        before_sum, block_sum = (Signal.like(sums[0], name=f"{name}_{pe}", reset_less=True)
                                 for name in ("before_sum", "block_sum"))
        m.d.sync += [before_sum.eq(before), block_sum.eq(sums[0])]

        # Add the running base. It begins at zero, to which the layer's first entry is added a cycle later: so the
        # operand is selected before the adder, in the adder's own cells.
        base = Signal(entry_address_shape(config), name=f"base_{pe}")
        entry_base = self.entry_base * config.entries_per_word
        with m.If(self.start):
            m.d.sync += base.eq(0)
        with m.Elif(field_or_zero(sum_beat, "wraps") & sum_valid & sum_beat.last):
            m.d.sync += base.eq(entry_base)
        with m.Elif(started | (sum_valid & sum_beat.last)):
            m.d.sync += base.eq(base + Mux(started, entry_base, block_sum))
        job = self.jobs[pe].payload
        job_start, job_last = (Signal.like(one, name=f"{name}_{pe}", reset_less=True)
                               for name, one in (("job_start", job.start), ("job_last", job.last)))
        start = Signal(entry_address_shape(config), name=f"start_{pe}")
        place_bits = exact_log2(config.entries_per_word)
        m.d.comb += start.eq(base + before_sum)
        m.d.sync += [
            self.jobs[pe].valid.eq(sum_valid & sum_beat.present & (sum_length != 0)),
            self.dropped[pe].eq(sum_valid & sum_beat.present & (sum_length == 0)),
            job_start.eq(start), job_last.eq(start[:place_bits] + sum_length - 1),
        ]
        m.d.comb += [job.start.eq(job_start), job.last.eq(job_last)]
