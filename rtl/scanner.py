# SPDX-License-Identifier: Apache-2.0
"""The scanner: finds the non-zero activations of a layer's input, block by block."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .layouts import beat_layout, but_lowest

__all__ = ["Scanner"]


class Scanner(wiring.Component):
    """Emits one beat a cycle: each non-zero activation, and one beat for a block that has none.

    The first beat appears six cycles after ``start`` if its word is readable.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    start : In(1)
        A layer begins; the members below must hold from the next cycle on.
    base : In, words : In(16), signed_acts : In(1), wide_lengths : In(1)
        The layer's input: address and number of words, whether its activations are two's complement, and the size
        of a block.
    readable : In(17)
        Words of the input that are there already.
    stop : In(1)
        Some PE's queue is nearly full: emit nothing.
    address : Out, read : Out(1), word : In(pes * act_bits)
        To the activation memory.
    beats : Out(beat_layout), beats_valid : Out(1)
    stalled : Out(1)
        There was a beat to emit, but ``stop``.
    done : Out(1)
        Every beat of the layer has left.
    """

    latency_cycles = 6

    def __init__(self, config):
        self.config = config
        super().__init__({
            "start": In(1),
            "base": In(16),
            "words": In(16),
            "signed_acts": In(1),
            "wide_lengths": In(1),
            "readable": In(17),
            "stop": In(1),
            "address": Out(ceil_log2(config.act_depth)),
            "read": Out(1),
            "word": In(config.pes * config.act_bits),
            "beats": Out(beat_layout(config)),
            "beats_valid": Out(1),
            "stalled": Out(1),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        act_bits, half_cols = config.act_bits, config.block_cols // 2
        halves = config.pes // half_cols

        # Read: the next word, as soon as it is there (known a cycle late) and has somewhere to go.
        place = Signal(16)
        running, there = Signal(), Signal()
        read_valid, read_ready = Signal(), Signal()
        m.d.comb += [
            self.read.eq(running & there & read_ready),
            self.address.eq(self.base + place),
        ]
        m.d.sync += there.eq(Mux(self.read, place + 1 < self.readable, place < self.readable))
        with m.If(self.read):
            m.d.sync += [place.eq(place + 1), running.eq(place + 1 != self.words)]
        with m.If(self.start):
            m.d.sync += [place.eq(0), running.eq(1), there.eq(0)]

        # Word: in a register, from which it goes on block by block; a block is one or two halves.
        word, word_valid, word_ready = Signal(config.pes * act_bits, reset_less=True), Signal(), Signal()
        half = Signal(range(halves))
        step = Mux(self.wide_lengths, 1, 2)
        m.d.comb += read_ready.eq(~read_valid | word_ready)
        with m.If(read_ready):
            m.d.sync += read_valid.eq(self.read)
        with m.If(word_ready):
            m.d.sync += [word_valid.eq(read_valid), word.eq(self.word)]

        # Block: its activations, and which of its non-zero ones are still to be sent.
        block = [Signal(act_bits, name=f"act_{col}", reset_less=True) for col in range(config.block_cols)]
        pending = Signal(config.block_cols, reset_less=True)
        block_valid, block_ready = Signal(), Signal()
        take_block = Signal()
        last_half, last = Signal(), Signal()
        m.d.comb += [
            last_half.eq(half + step >= halves),
            take_block.eq(word_valid & block_ready),
            word_ready.eq(~word_valid | (take_block & last_half)),
        ]
        low = [word.word_select(half * half_cols + col, act_bits) for col in range(half_cols)]
        high = [word.word_select((half | 1) * half_cols + col, act_bits) for col in range(half_cols)]
        nonzero_act = Cat(word.word_select(lane, act_bits).any() for lane in range(config.pes))
        nonzero = Cat(nonzero_act.word_select(half, half_cols),
                      Mux(self.wide_lengths, 0, nonzero_act.word_select(half | 1, half_cols)))
        with m.If(block_ready):
            m.d.sync += [block_valid.eq(word_valid), pending.eq(nonzero), last.eq(but_lowest(nonzero) == 0)]
            m.d.sync += [kept.eq(act) for kept, act in zip(block, low + high, strict=True)]
        with m.If(take_block):
            m.d.sync += half.eq(Mux(last_half, 0, half + step))

        # Emit the lowest; whether it is the block's last is known from the cycle before.
        emit, rest = Signal(), Signal(config.block_cols)
        col = Signal(range(config.block_cols))
        act = Signal(act_bits)
        for number in reversed(range(config.block_cols)):
            with m.If(pending[number]):
                m.d.comb += col.eq(number)
        m.d.comb += [
            act.eq(Array(block)[col]),
            rest.eq(but_lowest(pending)),
            emit.eq(block_valid & ~self.stop),
            block_ready.eq(~block_valid | (emit & last)),
            self.stalled.eq(block_valid & self.stop),
        ]
        with m.If(emit & ~last):
            m.d.sync += [pending.eq(rest), last.eq(but_lowest(rest) == 0)]
        m.d.sync += [
            self.beats_valid.eq(emit),
            self.beats.act.eq(Cat(act, self.signed_acts & act[-1]).as_signed()),
            self.beats.col.eq(col),
            self.beats.present.eq(pending != 0),
            self.beats.last.eq(last),
        ]
        m.d.comb += self.done.eq(~(running | read_valid | word_valid | block_valid | self.beats_valid))
        return m
