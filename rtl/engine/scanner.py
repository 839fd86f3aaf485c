# SPDX-License-Identifier: Apache-2.0
"""The scanner: finds the non-zero activations of a layer's input, block by block."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from rtl.layouts import beat_layout, descriptor_layout
from rtl.structure import forwards, scan_groups

from .gates import but_lowest
from .pixels import Pixels

__all__ = ["Scanner"]


class Scanner(wiring.Component):
    """Emits one beat a cycle: each non-zero activation, and one beat for a block that has none.

    The first beat appears ``latency_cycles`` after ``start`` if its word is readable.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    start : In(1), next : In(descriptor_layout)
        A layer begins, and which one; its input is noted in the cycle of ``start``.
    layer : In(descriptor_layout)
        The same from the next cycle on, for its pixels. Only with ``config.tap_bits``; without, the input is one pixel.
    grows : In(1), growing : In(1)
        Another word of the input can be read two cycles later, beside the ``chase_words``; from ``start`` on: some
        cannot be read yet.
    fresh : In(pes * act_bits)
        That word. Only with `rtl.structure.forwards`: it need not be read if nothing else is left to scan.
    peek : In
        While nothing is scanned, what lies at this address appears at ``newest`` three cycles later.
    stop : In(1)
        Some PE's queue is nearly full: emit nothing.
    address : Out, read : Out(1), word : In(pes * act_bits), nonzero : In(pes)
        To the activation memory, which says which activations are not zero.
    newest : Out(pes * act_bits)
        The word in a register.
    beats : Out(beat_layout), beats_valid : Out(1)
    stalled : Out(1)
        There was a beat to emit, but ``stop``.
    done : Out(1)
        Every beat of the layer has left.
    """

    stop_cycles = 1
    """From ``stop`` to the first cycle without a beat."""

    @staticmethod
    def latency_cycles(config):
        """From ``start`` to the first beat: one cycle more where words go on in groups, one more for pixels."""
        return 5 + (scan_groups(config) > 1) + (config.tap_bits > 0)

    def __init__(self, config):
        self.config = config
        super().__init__({
            "start": In(1),
            "next": In(descriptor_layout(config)),
            **({"layer": In(descriptor_layout(config))} if config.tap_bits else {}),
            "grows": In(1),
            "growing": In(1),
            **({"fresh": In(config.pes * config.act_bits)} if forwards(config) else {}),
            "peek": In(ceil_log2(config.act_depth)),
            "stop": In(1),
            "address": Out(ceil_log2(config.act_depth)),
            "read": Out(1),
            "word": In(config.pes * config.act_bits),
            "nonzero": In(config.pes),
            "newest": Out(config.pes * config.act_bits),
            "beats": Out(beat_layout(config)),
            "beats_valid": Out(1),
            "stalled": Out(1),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        act_bits, cols = config.act_bits, config.block_cols
        blocks = config.pes // cols

        # Read: the next word, as soon as it is there (known a cycle late) and has somewhere to go.
        running, there = Signal(), Signal(name="there")
        read_valid, read_ready = Signal(), Signal(name="read_ready")
        step, forward = Signal(), Signal(name="forward")
        # Words that can be read and were not yet, while there are others.
        ahead = Signal(range(config.act_depth + config.acc_depth + 1))
        m.d.comb += [step.eq(running & there & read_ready), self.read.eq(read_ready & (there | ~running))]
        with m.If(~running):
            m.d.sync += self.address.eq(Mux(self.start, self.next.input_base, self.peek))
        if config.tap_bits:
            m.submodules.pixels = pixels = Pixels(config)
            m.d.comb += [pixels.start.eq(self.start), pixels.layer.eq(self.layer), pixels.step.eq(step)]
            last_word = self._go_through(m, pixels, step, there)
        else:
            last_word = self._count_down(m, step, there, ahead, forward)
        with m.If(step | forward):
            m.d.sync += running.eq(~last_word)
        with m.If(self.start):
            m.d.sync += running.eq(1)

        # Word: in a register, from which it goes on part by part.
        word, word_valid, word_ready = Signal(config.pes * act_bits, reset_less=True), Signal(), \
            Signal(name="word_ready")
        word_nonzero = Signal(config.pes, reset_less=True)
        word_wraps = Signal(reset_less=True)
        word_taken = Signal()
        groups = scan_groups(config)
        # The way from `stop` to the memory's read enable is long. A word of several blocks takes so long that none need
        # be read in the cycle in which the one before moves on, nor, if it has groups of them, take its place at once.
        # Only a pixel's last word can be as short as a block.
        m.d.comb += [
            word_ready.eq(~word_valid | (word_taken if groups == 1 or config.tap_bits else 0)),
            read_ready.eq(~read_valid | (word_ready if blocks == 1 or config.tap_bits else 0)),
            self.newest.eq(word),
        ]
        with m.If(word_ready):
            m.d.sync += read_valid.eq(0)
        with m.If(read_ready):
            m.d.sync += read_valid.eq(step)
        with m.If(word_taken):
            m.d.sync += word_valid.eq(0)
        # One flag is not enough for all lanes of a wide word; `keep` stops synthesis from making one of its copies.
        frees = [Signal(init=1, name=f"word_free_{number}", attrs={"keep": 1}) for number in range(groups)] \
            if groups > 1 and not config.tap_bits else [word_ready]
        if len(frees) > 1:
            for free in frees:
                with m.If(word_taken):
                    m.d.sync += free.eq(1)
                with m.Elif(word_ready):
                    m.d.sync += free.eq(~read_valid)
        with m.If(word_ready):
            m.d.sync += word_valid.eq(read_valid)
        for number, free in enumerate(frees):
            with m.If(free):
                m.d.sync += [here.word_select(number, len(here) // len(frees)).eq(
                    read.word_select(number, len(here) // len(frees)))
                    for here, read in ((word, self.word), (word_nonzero, self.nonzero))]

        # Group: a part of a wide word, in a register from which it goes on block by block.
        last_block = Mux(word_wraps, self.layer.last_block, blocks - 1) if config.tap_bits else Const(blocks - 1)
        take_block, block_ready = Signal(), Signal(name="block_ready")
        if groups > 1:
            group_blocks, lanes = blocks // groups, config.pes // groups
            group, group_nonzero = Signal(len(word) // groups, reset_less=True), \
                Signal(config.pes // groups, reset_less=True, name="group_nonzero")
            group_valid, group_ready, take_group = Signal(), Signal(), Signal(name="take_group")
            group_last_block = Signal(range(group_blocks), reset_less=True)
            # Copies of the numbers, since they lead to all lanes: for each lane of a group, and of a block.
            copies, last_group = self._count(m, "group", groups, take_group, last_block >> exact_log2(group_blocks),
                                             lanes)
            block_numbers, last_in_group = self._count(m, "block", group_blocks, take_block, group_last_block, cols)
            m.d.comb += [
                take_group.eq(word_valid & group_ready), word_taken.eq(take_group & last_group),
                take_block.eq(group_valid & block_ready), group_ready.eq(~group_valid | (take_block & last_in_group)),
            ]
            with m.If(group_ready):
                m.d.sync += [
                    group_valid.eq(word_valid), group_last_block.eq(Mux(last_group, last_block, group_blocks - 1)),
                    *(here.word_select(lane, bits).eq(
                        Array(whole.word_select(place * lanes + lane, bits) for place in range(groups))[copy])
                      for here, whole, bits in ((group, word, act_bits), (group_nonzero, word_nonzero, 1))
                      for lane, copy in enumerate(copies))]
            part, part_nonzero, part_valid = group, group_nonzero, group_valid
            part_last = self._single(group_nonzero)
        else:
            (block_number,), last_in_word = self._count(m, "block", blocks, take_block, last_block)
            block_numbers = [block_number] * cols
            part, part_nonzero, part_valid, before_word = word, word_nonzero, word_valid, 0
            part_last = self._single(word_nonzero)
            if forwards(config):
                idle = (ahead == 0) & ~(self.start | there | read_valid | word_valid)
                fresh, fresh_nonzero, before_word, goes_first = self._forward(
                    m, running & idle, forward, take_block & last_in_word)
                part, part_nonzero, part_valid, part_last = (
                    Mux(goes_first, fresh, word), Mux(goes_first, fresh_nonzero, word_nonzero),
                    before_word | word_valid, Mux(goes_first, self._single(fresh_nonzero), part_last))
            m.d.comb += [take_block.eq(part_valid & block_ready),
                         word_taken.eq(take_block & last_in_word & ~before_word)]

        # Block: its activations, and which of its non-zero ones are still to be sent.
        block = Signal(data.ArrayLayout(act_bits, cols), reset_less=True)
        pending = Signal(cols, reset_less=True)
        block_valid, last = Signal(), Signal(name="last")
        with m.If(block_ready):
            m.d.sync += [block_valid.eq(part_valid), last.eq(part_last.bit_select(block_numbers[0], 1))]
            for col, number in enumerate(block_numbers):
                # The same column of all blocks.
                acts = Cat(part.word_select(place, act_bits) for place in range(col, len(part) // act_bits, cols))
                m.d.sync += [pending[col].eq(part_nonzero[col::cols].bit_select(number, 1)),
                             block[col].eq(acts.word_select(number, act_bits))]

        self._emit(m, block, block_valid, block_ready, pending, last)
        if config.tap_bits:
            # The position goes along with the word, and with each of its blocks.
            at = pixels.position.shape()
            read_at, word_at, block_at = (Signal(at, name=f"{step}_at", reset_less=True)
                                          for step in ("read", "word", "block"))
            read_wraps, block_wraps = Signal(reset_less=True), Signal(reset_less=True, name="block_wraps")
            with m.If(read_ready):
                m.d.sync += [read_at.eq(pixels.position), read_wraps.eq(pixels.wraps)]
            with m.If(word_ready):
                m.d.sync += [word_at.eq(read_at), word_wraps.eq(read_wraps)]
            if groups > 1:
                group_at, group_wraps = Signal(at, reset_less=True), Signal(reset_less=True, name="group_wraps")
                with m.If(group_ready):
                    m.d.sync += [group_at.eq(word_at), group_wraps.eq(word_wraps & last_group)]
                part_at, part_wraps = group_at, group_wraps & last_in_group
            else:
                part_at, part_wraps = word_at, word_wraps & last_in_word
            with m.If(block_ready):
                m.d.sync += [block_at.eq(part_at), block_wraps.eq(part_wraps)]
            m.d.sync += [*(self.beats[name].eq(block_at[name]) for name, _ in at), self.beats.wraps.eq(block_wraps)]
        m.d.comb += self.done.eq(~(running | read_valid | word_valid | (group_valid if groups > 1 else before_word)
                                   | block_valid | self.beats_valid))
        return m

    def _emit(self, m, block, block_valid, block_ready, pending, last):
        """A beat for the lowest that is ``pending``; whether it is the block's ``last`` is known from before."""
        emit, rest = Signal(), Signal.like(pending, name="rest")
        col = Signal(range(len(pending)))
        act = Signal(self.config.act_bits)
        for place_in_block in reversed(range(len(pending))):
            with m.If(pending[place_in_block]):
                m.d.comb += col.eq(place_in_block)
        m.d.comb += [
            act.eq(block[col]),
            rest.eq(but_lowest(pending)),
            emit.eq(block_valid & ~self.stop),
            block_ready.eq(~block_valid | (emit & last)),
            self.stalled.eq(block_valid & self.stop),
        ]
        with m.If(emit & ~last):
            m.d.sync += [pending.eq(rest), last.eq(but_lowest(rest) == 0)]
        m.d.sync += [
            self.beats_valid.eq(emit),
            self.beats.act.eq(act),
            self.beats.col.eq(col),
            self.beats.present.eq(pending != 0),
            self.beats.last.eq(last),
        ]

    def _forward(self, m, idle, forward, gone):
        """A word that is not read lies in a register of its own, and goes first.

        Parameters
        ----------
        idle, forward, gone : value of 1 bit
            Nothing else is left to scan; a word comes that need not be read (to be driven here); its last block leaves.

        Returns
        -------
        fresh, fresh_nonzero : Signal
            The word, and which of its activations are not zero.
        before_word, goes_first : Signal(1)
            There is such a word: a flag for what decides, and a copy of it that leads to all lanes.
        """
        config = self.config
        fresh = Signal(config.pes * config.act_bits, name="fresh_word")
        fresh_nonzero = Signal(config.pes)
        # `keep` stops synthesis from making one of the flags.
        before_word = Signal(attrs={"keep": 1})
        goes_first = Signal(attrs={"keep": 1})
        # That there is nothing else is known from the cycle before, since it leads to much.
        waits = Signal()
        m.d.sync += waits.eq(idle & self.growing & ~(self.grows | before_word))
        m.d.comb += forward.eq(waits & self.grows)
        for flag in (before_word, goes_first):
            with m.If(gone):
                m.d.sync += flag.eq(0)
            with m.If(forward):
                m.d.sync += flag.eq(1)
        with m.If(~goes_first):
            m.d.sync += [fresh.eq(self.fresh), fresh_nonzero.eq(
                Cat(self.fresh.word_select(lane, config.act_bits).any() for lane in range(config.pes)))]
        return fresh, fresh_nonzero, before_word, goes_first

    def _single(self, nonzero):
        """Of each block whether one beat is enough."""
        cols = self.config.block_cols
        return Cat(but_lowest(nonzero[first:first + cols]) == 0 for first in range(0, len(nonzero), cols))

    def _count_down(self, m, step, there, ahead, forward):
        """One word after the other, read (``step``) or not (``forward``); returns whether the word is the last."""
        left = Signal(range(self.config.act_depth + 1))
        m.d.sync += [ahead.eq(ahead + (self.grows & ~forward) - step),
                     there.eq(~self.growing | Mux(step, ahead > 1, ahead != 0))]
        with m.If(step | forward):
            m.d.sync += [self.address.eq(self.address + 1), left.eq(left - 1)]
        with m.If(self.start):
            m.d.sync += [left.eq(self.next.input_words), ahead.eq(self.next.chase_words),
                         there.eq(~self.growing | (self.next.chase_words != 0))]
        return left == 1

    def _go_through(self, m, pixels, step, there):
        """Pixel by pixel; returns whether the word is the last."""
        base, readable = Signal.like(self.address), Signal(range(2 * self.config.act_depth + 1), name="readable")
        m.d.sync += [readable.eq(readable + self.grows),
                     there.eq(~self.growing | (Mux(step, pixels.next_offset, pixels.offset) < readable))]
        with m.If(step):
            m.d.sync += self.address.eq(base + pixels.next_offset)
        with m.If(self.start):
            m.d.sync += [base.eq(self.next.input_base), readable.eq(self.next.chase_words), there.eq(0)]
        return pixels.last

    @staticmethod
    def _count(m, name, parts, take, last, copies=1):
        """Counts parts as they are taken, from 0 to ``last``.

        Returns
        -------
        numbers : list of Signal
            So many copies of the number; `keep` stops synthesis from making one of them.
        is_last : Signal(1)
        """
        numbers = [Signal(range(parts), name=f"{name}_number_{copy}", attrs={"keep": 1} if copies > 1 else {})
                   for copy in range(copies)]
        is_last = Signal(name=f"{name}_is_last")
        m.d.comb += is_last.eq(numbers[0] == last)
        with m.If(take):
            m.d.sync += [number.eq(Mux(is_last, 0, numbers[0] + 1)) for number in numbers]
        return numbers, is_last
