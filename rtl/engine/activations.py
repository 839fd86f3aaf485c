# SPDX-License-Identifier: Apache-2.0
"""Activation memory: the vectors between the layers, one activation of each PE in a word."""

from amaranth.hdl import Cat, Module
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["ActivationMemory"]


class ActivationMemory(wiring.Component):
    """One word written and one read in each cycle; a word appears a cycle after its ``read`` and stays.

    Beside each activation lies whether it is one at all, in the ninth bit that block RAM has for each byte: the scanner
    needs that soon. Only the block RAMs of an iCE40 have none; there it is found when the word is read.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    write_address : In, write_word : In(pes * act_bits), write : In(1)
    read_address : In, word : Out(pes * act_bits), nonzero : Out(pes), read : In(1)
        A word that is written in the cycle in which it is read is undefined.
    """

    def __init__(self, config):
        self.config = config
        address, word = ceil_log2(config.act_depth), config.pes * config.act_bits
        super().__init__({
            "write_address": In(address), "write_word": In(word), "write": In(1),
            "read_address": In(address), "word": Out(word), "nonzero": Out(self.config.pes), "read": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        act_bits = config.act_bits
        m.submodules.acts = acts = memory.Memory(shape=data.ArrayLayout(act_bits + config.act_flag_bits, config.pes),
                                                 depth=config.act_depth, init=[])
        write = acts.write_port()
        read = acts.read_port()
        m.d.comb += [
            write.addr.eq(self.write_address), write.en.eq(self.write),
            read.addr.eq(self.read_address), read.en.eq(self.read),
        ]
        for lane in range(config.pes):
            written, found = self.write_word.word_select(lane, act_bits), read.data[lane][:act_bits]
            m.d.comb += [
                write.data[lane].eq(Cat(written, written.any())[:len(write.data[lane])]),
                self.word.word_select(lane, act_bits).eq(found),
                self.nonzero[lane].eq(read.data[lane][-1] if config.act_flag_bits else found.any()),
            ]
        return m
