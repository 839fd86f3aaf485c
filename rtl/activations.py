# SPDX-License-Identifier: Apache-2.0
"""Activation memory: the vectors between the layers, one activation of each PE in a word."""

from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["ActivationMemory"]


class ActivationMemory(wiring.Component):
    """One word written and one read in each cycle; a word appears a cycle after its ``read`` and stays.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    write_address : In, write_word : In(pes * act_bits), write : In(1)
    read_address : In, word : Out(pes * act_bits), read : In(1)
        A word that is written in the cycle in which it is read is undefined.
    """

    def __init__(self, config):
        self.config = config
        address, word = ceil_log2(config.act_depth), config.pes * config.act_bits
        super().__init__({
            "write_address": In(address), "write_word": In(word), "write": In(1),
            "read_address": In(address), "word": Out(word), "read": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.acts = acts = memory.Memory(shape=self.config.pes * self.config.act_bits,
                                                 depth=self.config.act_depth, init=[])
        write = acts.write_port()
        read = acts.read_port()
        m.d.comb += [
            write.addr.eq(self.write_address), write.data.eq(self.write_word), write.en.eq(self.write),
            read.addr.eq(self.read_address), read.en.eq(self.read), self.word.eq(read.data),
        ]
        return m
