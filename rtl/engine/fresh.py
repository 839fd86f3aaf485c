# SPDX-License-Identifier: Apache-2.0
"""A shortcut between two layers: a word that is drained goes to the scanner at once, if it has nothing else to scan."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .interfaces import progress_port

__all__ = ["FreshWord"]


class FreshWord(wiring.Component):
    """A register for such a word, which need not be read from the activation memory.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    progress : In(progress_port), drained : In(pes * act_bits)
        Progress of the drain; the word that it writes.
    idle : In(1)
        Nothing else is left to scan.
    forward : Out(1)
        A word comes that need not be read.
    gone : In(1)
        The last block of the word leaves.
    word : Out(pes * act_bits), nonzero : Out(pes)
        The word, and which of its activations are not zero.
    there : Out(1), first : Out(1)
        A forwarded word is present: a flag for control, and a copy of it that drives all lanes.
    """

    def __init__(self, config):
        self.config = config
        word = config.pes * config.act_bits
        super().__init__({
            "progress": In(progress_port()), "drained": In(word), "idle": In(1), "forward": Out(1), "gone": In(1),
            "word": Out(word), "nonzero": Out(config.pes), "there": Out(1), "first": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        # `keep` stops synthesis from making one of the flags.
        there = Signal(attrs={"keep": 1})
        first = Signal(attrs={"keep": 1})
        # Registered, because it has a large fan-out.
        waits = Signal()
        m.d.sync += waits.eq(self.idle & self.progress.growing & ~(self.progress.grows | there))
        m.d.comb += [self.forward.eq(waits & self.progress.grows), self.there.eq(there), self.first.eq(first)]
        for flag in (there, first):
            with m.If(self.gone):
                m.d.sync += flag.eq(0)
            with m.If(self.forward):
                m.d.sync += flag.eq(1)
        with m.If(~first):
            m.d.sync += [self.word.eq(self.drained), self.nonzero.eq(
                Cat(self.drained.word_select(lane, self.config.act_bits).any() for lane in range(self.config.pes)))]
        return m
