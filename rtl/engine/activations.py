# SPDX-License-Identifier: Apache-2.0
"""Activation memory: the vectors between the layers, one activation of each PE in a word."""

from amaranth.hdl import Cat, Module
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In

from .interfaces import act_read_port, act_write_port

__all__ = ["ActivationMemory"]


class ActivationMemory(wiring.Component):
    """One word written and one read in each cycle; a word appears a cycle after its read and stays.

    A flag beside each activation says whether it is non-zero. It is stored in the ninth bit that block RAM has for each
    byte, since the scanner needs it early in the cycle. The block RAMs of an iCE40 have no such bit; there the flag is
    computed from the word that is read.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    write : In(act_write_port)
    read : In(act_read_port)
        A word that is written in the cycle in which it is read is undefined.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({"write": In(act_write_port(config)), "read": In(act_read_port(config))})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        act_bits = config.act_bits
        m.submodules.acts = acts = memory.Memory(shape=data.ArrayLayout(act_bits + config.act_flag_bits, config.pes),
                                                 depth=config.act_depth, init=[])
        write = acts.write_port()
        read = acts.read_port()
        m.d.comb += [
            write.addr.eq(self.write.address), write.en.eq(self.write.enable),
            read.addr.eq(self.read.address), read.en.eq(self.read.enable),
        ]
        for lane in range(config.pes):
            written, found = self.write.word.word_select(lane, act_bits), read.data[lane][:act_bits]
            m.d.comb += [
                write.data[lane].eq(Cat(written, written.any())[:len(write.data[lane])]),
                self.read.word.word_select(lane, act_bits).eq(found),
                self.read.nonzero[lane].eq(read.data[lane][-1] if config.act_flag_bits else found.any()),
            ]
        return m
