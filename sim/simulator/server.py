# SPDX-License-Identifier: Apache-2.0
"""The simulated engine as a server: a cocotb test that takes whole packets from a socket, see `sim.simulator.link`."""

from multiprocessing.connection import Connection
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.handle import Immediate
from cocotb.triggers import ClockCycles, FallingEdge
from cocotb.types import LogicArray

from sim.cocotb_kit.harness import CLOCK_NS, parameters


class LinkPort:
    """Drives ``link_port.sv``: sends packets to the engine and receives its responses.

    Parameters
    ----------
    dut
        The simulation's top module.
    """

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.block_bits = len(dut.request[0])
        self.capacity_bytes = len(dut.request) * self.block_bits // 8

    async def start(self, *, idle: float, stall: float, seed: int) -> None:
        """Starts the clock and resets everything.

        Parameters
        ----------
        idle, stall : float
            Probabilities that a byte is held back in a cycle on the way to the engine, and from it.
        seed : int
            Decides which bytes are held back.
        """
        self.dut.start.value = 0
        self.dut.rx_idle.value = round(256 * idle)
        self.dut.tx_stall.value = round(256 * stall)
        self.dut.seed.value = seed
        self.dut.rst.value = 1
        Clock(self.dut.clk, CLOCK_NS, unit="ns", impl="gpi", set_action=Immediate).start()
        await self.reset()

    async def reset(self) -> None:
        """Resets everything, for two cycles."""
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 2)
        await FallingEdge(self.dut.clk)
        self.dut.rst.value = 0
        await FallingEdge(self.dut.clk)

    def begin(self, request: bytes, patience_cycles: int) -> None:
        """Starts sending the bytes ``request``, at most the capacity, without waiting for their end.

        The exchange ends after ``patience_cycles`` without a byte in either direction.
        """
        size = self.block_bits // 8
        for block, place in enumerate(range(0, len(request), size)):
            bits = int.from_bytes(request[place:place + size], "little")
            self.dut.request[block].value = LogicArray.from_unsigned(bits, self.block_bits)
        self.dut.request_bytes.value = len(request)
        self.dut.patience_cycles.value = patience_cycles
        self.dut.start.value = 1 - int(self.dut.done.value)

    async def exchange(self, request: bytes, patience_cycles: int) -> bytes:
        """Sends the bytes ``request`` and returns the response; ``patience_cycles`` as of `begin`."""
        self.begin(request, patience_cycles)
        await self.dut.done.value_change
        count = int(self.dut.response_bytes.value)
        assert count <= self.capacity_bytes, (
            f"a response of {count} bytes; the link port holds {self.capacity_bytes}")
        size = self.block_bits // 8
        blocks = (int(self.dut.response[block].value) for block in range(-(-count // size)))
        return b"".join(bits.to_bytes(size, "little") for bits in blocks)[:count]

    async def interrupt(self, request: bytes, cycles: int) -> None:
        """Starts sending the bytes ``request``, and resets everything after ``cycles`` clock cycles."""
        self.begin(request, 0xFFFF_FFFF)
        await ClockCycles(self.dut.clk, cycles)
        await self.reset()


@cocotb.test()
async def serve(dut: Any) -> None:
    """Answers commands for the top module ``dut`` until the socket is closed; time stands still between them."""
    told = parameters()
    port = LinkPort(dut)
    await port.start(idle=told["idle"], stall=told["stall"], seed=told["seed"])
    with Connection(told["socket"]) as connection:
        connection.send(port.capacity_bytes)
        while True:
            try:
                command, *arguments = connection.recv()
            except EOFError:
                return
            answer: Any = None
            if command == "exchange":
                requests, patience_cycles = arguments
                answer = [await port.exchange(request, patience_cycles) for request in requests]
            elif command == "interrupt":
                await port.interrupt(*arguments)
            elif command == "reset":
                await port.reset()
            elif command == "cycles":
                answer = int(dut.cycles.value)
            connection.send(answer)
