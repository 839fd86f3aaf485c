# SPDX-License-Identifier: Apache-2.0
"""Loads an image that is part of the bitstream, before the link is open."""

from itertools import pairwise

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from rtl.protocol import SYNC

__all__ = ["Boot"]

BLOCK_BYTES = 2048
"""Size of one block RAM of an ECP5, and of most other FPGAs."""

CHOICE = 8
"""Inputs of each registered byte multiplexer."""


class Boot(wiring.Component):
    """Lies between UART and engine. After a reset it sends the stored packets to the engine, then connects the UART.

    The bytes are link packets, with any bytes but SYNC around them, which the engine ignores. Their responses are
    discarded. Bytes that come from the UART meanwhile are lost, which ``lost`` reports to the engine.

    Parameters
    ----------
    content : bytes
        Initial contents of block RAM, at least two bytes. No logic depends on their values, so that a finished
        bitstream can be patched with others.

    Members
    -------
    from_uart : In(stream.Signature(8)), to_uart : Out(stream.Signature(8))
    to_engine : Out(stream.Signature(8)), from_engine : In(stream.Signature(8))
    engine_busy : In(1)
        The engine's ``busy``.
    uart_lost : In(1), lost : Out(1)
        A byte that may begin a packet is lost, see `Uart`: in the UART, and anywhere before the engine.
    """

    def __init__(self, content):
        self.content = content
        byte = stream.Signature(8)
        super().__init__({
            "from_uart": In(byte), "to_uart": Out(byte), "to_engine": Out(byte), "from_engine": In(byte),
            "engine_busy": In(1), "uart_lost": In(1), "lost": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        # A register behind each block RAM, and one behind each multiplexer: block RAMs are slow, and lie far apart.
        address = Signal(ceil_log2(len(self.content)))
        blocks = []
        for first in range(0, len(self.content), BLOCK_BYTES):
            content = self.content[first:first + BLOCK_BYTES]
            m.submodules[f"block_{len(blocks)}"] = block = memory.Memory(shape=8, depth=BLOCK_BYTES, init=content)
            read = block.read_port()
            m.d.comb += [read.addr.eq(address), read.en.eq(1)]
            blocks.append(Signal(8, name=f"byte_{len(blocks)}", reset_less=True))
            m.d.sync += blocks[-1].eq(read.data)
        place, choices = address // BLOCK_BYTES, 0
        while len(blocks) > 1:
            chosen = [Signal(8, name=f"chosen_{choices}_{first // CHOICE}", reset_less=True)
                      for first in range(0, len(blocks), CHOICE)]
            m.d.sync += [one.eq(Array(blocks[CHOICE * number:CHOICE * (number + 1)])[place % CHOICE])
                         for number, one in enumerate(chosen)]
            blocks, place, choices = chosen, place // CHOICE, choices + 1
        m.d.comb += [self.from_uart.ready.eq(1), self.from_engine.ready.eq(1)]
        missed = Signal()
        with m.If(self.from_uart.valid & (self.from_uart.payload == SYNC)):
            m.d.sync += missed.eq(1)
        steps = ("READ", "KEEP", *(f"CHOOSE {choice}" for choice in range(choices)), "SEND")
        with m.FSM():
            for state, following in pairwise(steps):
                with m.State(state):
                    m.next = following
            with m.State("SEND"):
                m.d.comb += [self.to_engine.payload.eq(blocks[0]), self.to_engine.valid.eq(1)]
                with m.If(self.to_engine.ready):
                    m.d.sync += address.eq(address + 1)
                    m.next = "READ"
                    with m.If(address == len(self.content) - 1):
                        m.next = "FINISH"
            with m.State("FINISH"):
                with m.If(~self.engine_busy):
                    m.next = "LINK"
            with m.State("LINK"):
                connect(m, flipped(self.from_uart), flipped(self.to_engine))
                connect(m, flipped(self.from_engine), flipped(self.to_uart))
                m.d.comb += self.lost.eq(self.uart_lost | missed)
                m.d.sync += missed.eq(0)
        return m
