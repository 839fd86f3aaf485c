# SPDX-License-Identifier: Apache-2.0
"""The scanner: finds the non-zero activations of a layer's input, block by block."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from rtl.layouts import beat_layout, pixel_fields
from rtl.structure import scan_groups

from .emitter import Emitter
from .fresh import FreshWord
from .gates import but_lowest
from .interfaces import act_read_port, flow, host_read_port, progress_port, scan_port
from .variants import variant

__all__ = ["Scanner"]


class Scanner(wiring.Component):
    """Emits one beat a cycle: each non-zero activation, and one beat for a block that has none.

    A word goes through registers part by part: read, held, in groups of blocks if it is wide, and block by block.
    The first beat appears ``latency_cycles`` after ``start`` if its word is readable.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    scan : In(scan_port), progress : In(progress_port)
        The layer; the address of its input is sampled in the cycle of ``start``.
    fresh : In(pes * act_bits)
        The word that ``grows`` announces. If the scanner `forwards` it need not be read if nothing else is left to
        scan.
    host : In(host_read_port)
    stop : In(1)
        A queue is nearly full: emit nothing.
    memory : Out(act_read_port)
    beats : Out(flow(beat_layout))
    stalled : Out(1)
        A beat is held back by ``stop``.
    done : Out(1)
        Every beat of the layer has left.
    """

    stop_cycles = 1
    """Cycles from ``stop`` to the first cycle without a beat."""

    @staticmethod
    def latency_cycles(config):
        """Cycles from ``start`` to the first beat: one more where words go on in groups."""
        return 5 + (scan_groups(config) > 1) + variant(config).order.start_cycles

    @staticmethod
    def forwards(config):
        """Whether a drained word also comes here directly if nothing else is left to scan."""
        return config.hurried and variant(config).order.forwards and scan_groups(config) == 1

    def __init__(self, config):
        self.config = config
        super().__init__({
            "scan": In(scan_port(config)),
            "progress": In(progress_port()),
            "fresh": In(config.pes * config.act_bits),
            "host": In(host_read_port(config)),
            "stop": In(1),
            "memory": Out(act_read_port(config)),
            "beats": Out(flow(beat_layout(config))),
            "stalled": Out(1),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.order = order = variant(config).order(config)
        m.submodules.emitter = emitter = Emitter(config)
        connect(m, flipped(self.scan), order.scan)
        connect(m, flipped(self.progress), order.progress)
        connect(m, emitter.beats, flipped(self.beats))
        running, read_valid = Signal(), Signal(name="read_valid")
        word_ready, word_taken = Signal(), Signal(name="word_taken")
        read = self._read(m, order, running, read_valid, word_ready)
        word, word_valid = self._hold(m, order, read, read_valid, word_ready, word_taken)
        last_block = order.last_block(word, self.scan.layer)
        if scan_groups(config) > 1:
            waiting = self._send_groups(m, emitter, word, word_valid, word_taken, last_block)
        elif self.forwards(config):
            idle = running & ~(order.some | self.scan.start | order.there | read_valid | word_valid)
            waiting = self._send_with_fresh(m, order, emitter, word, word_valid, word_taken, last_block, idle)
        else:
            waiting = 0
            leaves = self._send_blocks(m, emitter.blocks, word, word_valid, last_block)
            m.d.comb += word_taken.eq(leaves)
        m.d.comb += [
            emitter.stop.eq(self.stop), self.stalled.eq(emitter.stalled),
            self.done.eq(~(running | read_valid | word_valid | waiting | emitter.busy)),
        ]
        return m

    def _read(self, m, order, running, read_valid, word_ready):
        """Read stage: reads the next word as soon as it is there (known a cycle late) and its register is free.

        Returns
        -------
        dict of Signal
            Fields that accompany the word, see `pixel_fields`.
        """
        step, ready = Signal(), Signal(name="read_ready")
        at_once = self.config.pes == self.config.block_cols or order.short_words
        m.d.comb += [
            # The critical path leads from `stop` to this enable. A word of several blocks takes several cycles, so that
            # no read is needed in the cycle in which the word before moves on.
            ready.eq(~read_valid | (word_ready if at_once else 0)),
            step.eq(running & order.there & ready), order.step.eq(step), order.address.eq(self.memory.address),
            self.memory.enable.eq(ready & (order.there | ~running)),
        ]
        with m.If(~running):
            m.d.sync += self.memory.address.eq(Mux(self.scan.start, self.scan.next.input_base, self.host.address))
        with m.If(step | order.forward):
            m.d.sync += [self.memory.address.eq(order.following), running.eq(~order.last)]
        with m.If(self.scan.start):
            m.d.sync += running.eq(1)
        read = {name: Signal(shape, name=f"read_{name}", reset_less=True)
                for name, shape in pixel_fields(self.config).items()}
        with m.If(word_ready):
            m.d.sync += read_valid.eq(0)
        with m.If(ready):
            m.d.sync += [read_valid.eq(step), *(register.eq(order.pixel[name]) for name, register in read.items())]
        return read

    def _hold(self, m, order, read, read_valid, word_ready, word_taken):
        """Hold stage: a register for the word, from which it is sent part by part."""
        config = self.config
        word = Signal(data.StructLayout({"acts": config.pes * config.act_bits, "nonzero": config.pes,
                                         **pixel_fields(config)}), reset_less=True)
        valid = Signal(name="word_valid")
        groups = scan_groups(config)
        # A word sent in groups occupies this register for several cycles, so it need not be refilled in the cycle in
        # which it empties.
        at_once = groups == 1 or order.short_words
        m.d.comb += [word_ready.eq(~valid | (word_taken if at_once else 0)), self.host.word.eq(word.acts)]
        with m.If(word_taken):
            m.d.sync += valid.eq(0)
        # One flag is not enough for all lanes of a wide word; `keep` stops synthesis from making one of its copies.
        frees = [word_ready] if at_once else [Signal(init=1, name=f"word_free_{number}", attrs={"keep": 1})
                                              for number in range(groups)]
        if not at_once:
            for free in frees:
                with m.If(word_taken):
                    m.d.sync += free.eq(1)
                with m.Elif(word_ready):
                    m.d.sync += free.eq(~read_valid)
        with m.If(word_ready):
            m.d.sync += [valid.eq(read_valid), *(word[name].eq(register) for name, register in read.items())]
        for number, free in enumerate(frees):
            with m.If(free):
                m.d.sync += [here.word_select(number, len(here) // len(frees)).eq(
                    found.word_select(number, len(here) // len(frees)))
                    for here, found in ((word.acts, self.memory.word), (word.nonzero, self.memory.nonzero))]
        return word, valid

    def _send_blocks(self, m, blocks, part, valid, last_block, singles=None):
        """Sends a part of a word block by block; returns whether its last block leaves.

        Parameters
        ----------
        blocks : stream.Interface
            The `Emitter`'s.
        part : data.View
            ``acts``, ``nonzero`` and the `pixel_fields`.
        valid, last_block : value
        singles : value, optional
            A bit for each block: one beat is enough.
        """
        config = self.config
        act_bits, cols = config.act_bits, config.block_cols
        count = len(part.nonzero) // cols
        takes = Signal(name="take_block")
        # Copies of the number, one for each column of a block, since they select among all lanes of a wide word.
        numbers, is_last = self._count(m, "block", count, takes, last_block, cols if scan_groups(config) > 1 else 1)
        numbers = numbers * (cols // len(numbers))
        singles = self._singles(part.nonzero) if singles is None else singles
        m.d.comb += [blocks.valid.eq(valid), takes.eq(valid & blocks.ready),
                     blocks.payload.single.eq(singles.bit_select(numbers[0], 1))]
        for col, number in enumerate(numbers):
            # The same column of all blocks.
            acts = Cat(part.acts.word_select(place, act_bits) for place in range(col, count * cols, cols))
            m.d.comb += [blocks.payload.nonzero[col].eq(part.nonzero[col::cols].bit_select(number, 1)),
                         blocks.payload.acts[col].eq(acts.word_select(number, act_bits))]
        m.d.comb += [blocks.payload[name].eq(part[name] & is_last if name == "wraps" else part[name])
                     for name in pixel_fields(config)]
        return takes & is_last

    def _send_with_fresh(self, m, order, emitter, word, word_valid, word_taken, last_block, idle):
        """Sends words that were read, after a forwarded word if there is one; returns whether there is one."""
        m.submodules.fresh = fresh = FreshWord(self.config)
        connect(m, flipped(self.progress), fresh.progress)
        part = Signal(word.shape(), name="part")
        m.d.comb += [
            fresh.drained.eq(self.fresh), fresh.idle.eq(idle), order.forward.eq(fresh.forward),
            part.acts.eq(Mux(fresh.first, fresh.word, word.acts)),
            part.nonzero.eq(Mux(fresh.first, fresh.nonzero, word.nonzero)),
        ]
        singles = Mux(fresh.first, self._singles(fresh.nonzero), self._singles(word.nonzero))
        leaves = self._send_blocks(m, emitter.blocks, part, fresh.there | word_valid, last_block, singles)
        m.d.comb += [fresh.gone.eq(leaves), word_taken.eq(leaves & ~fresh.there)]
        return fresh.there

    def _send_groups(self, m, emitter, word, word_valid, word_taken, last_block):
        """Sends a wide word in groups of blocks, each in a register; returns whether there is a group."""
        config = self.config
        groups = scan_groups(config)
        lanes, blocks = config.pes // groups, config.pes // config.block_cols // groups
        group = Signal(data.StructLayout({"acts": lanes * config.act_bits, "nonzero": lanes, **pixel_fields(config)}),
                       reset_less=True)
        group_last_block = Signal(range(blocks), reset_less=True)
        valid, ready, takes = Signal(name="group_valid"), Signal(name="group_ready"), Signal(name="take_group")
        # Copies of the group's number, one for each of its lanes.
        copies, is_last = self._count(m, "group", groups, takes, last_block >> exact_log2(blocks), lanes)
        leaves = self._send_blocks(m, emitter.blocks, group, valid, group_last_block)
        m.d.comb += [takes.eq(word_valid & ready), word_taken.eq(takes & is_last), ready.eq(~valid | leaves)]
        with m.If(ready):
            m.d.sync += [
                valid.eq(word_valid), group_last_block.eq(Mux(is_last, last_block, blocks - 1)),
                *(group[name].eq(word[name] & is_last if name == "wraps" else word[name])
                  for name in pixel_fields(config)),
                *(here.word_select(lane, bits).eq(
                    Array(whole.word_select(place * lanes + lane, bits) for place in range(groups))[copy])
                  for here, whole, bits in ((group.acts, word.acts, config.act_bits), (group.nonzero, word.nonzero, 1))
                  for lane, copy in enumerate(copies))]
        return valid

    def _singles(self, nonzero):
        """A bit for each block: one beat is enough."""
        cols = self.config.block_cols
        return Cat(but_lowest(nonzero[first:first + cols]) == 0 for first in range(0, len(nonzero), cols))

    @staticmethod
    def _count(m, name, parts, take, last, copies=1):
        """Counts parts as they are taken, from 0 to ``last``.

        Returns
        -------
        numbers : list of Signal
            ``copies`` registers with the number; `keep` stops synthesis from making one of them.
        is_last : Signal(1)
        """
        numbers = [Signal(range(parts), name=f"{name}_number_{copy}", attrs={"keep": 1} if copies > 1 else {})
                   for copy in range(copies)]
        is_last = Signal(name=f"{name}_is_last")
        m.d.comb += is_last.eq(numbers[0] == last)
        with m.If(take):
            m.d.sync += [number.eq(Mux(is_last, 0, numbers[0] + 1)) for number in numbers]
        return numbers, is_last
