# SPDX-License-Identifier: Apache-2.0
"""The codebook: from a weight's code to its value."""

from amaranth.hdl import Module, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from rtl.layouts import codebook_write_layout

from .interfaces import flow

__all__ = ["Codebook"]


class Codebook(wiring.Component):
    """Looks a code up; the weight appears ``latency_cycles`` later. With direct weights the code is the weight.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    write : In(flow(codebook_write_layout))
    code : In(code_bits)
    weight : Out(signed(weight_bits))
    """

    latency_cycles = 1

    def __init__(self, config):
        self.config = config
        super().__init__({
            "write": In(flow(codebook_write_layout(config))),
            "code": In(config.code_bits),
            "weight": Out(signed(config.weight_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        if self.config.direct_weights:
            m.d.sync += self.weight.eq(self.code.as_signed())
            return m
        m.submodules.weights = weights = memory.Memory(shape=signed(self.config.weight_bits),
                                                       depth=1 << self.config.code_bits, init=[])
        write = weights.write_port()
        read = weights.read_port()
        m.d.comb += [
            write.addr.eq(self.write.payload.code),
            write.data.eq(self.write.payload.weight),
            write.en.eq(self.write.valid),
            read.addr.eq(self.code),
            read.en.eq(1),
            self.weight.eq(read.data),
        ]
        return m
