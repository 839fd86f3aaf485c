# SPDX-License-Identifier: Apache-2.0
"""The packets in the bitstream reach the engine whole; then those of the serial port do."""

from typing import Any

from cocotb.triggers import ClockCycles

from rtl.protocol import SYNC
from sim.cocotb_kit.harness import bench, parameters, start
from sim.cocotb_kit.streams import Scoreboard, StreamDriver, StreamMonitor


@bench(cycles=1_000_000)
async def the_content_comes_first_and_then_the_port(dut: Any) -> None:
    content = bytes.fromhex(parameters()["content"])
    later, told = [7, 0, 255], 0
    monitor, back = StreamMonitor(dut, "to_engine"), StreamMonitor(dut, "to_uart")
    port, engine = StreamDriver(dut, "from_uart"), StreamDriver(dut, "from_engine")
    early = parameters()["early"]
    dut.engine_busy.value = dut.uart_lost.value = 0
    await start(dut)
    async with Scoreboard(back, later), Scoreboard(monitor, [*content, *later]):
        # Neither answers to the content go on, nor what the port says meanwhile.
        await port.send(early)
        await engine.send([4, 5, 6])
        while len(monitor.items) < len(content):
            await ClockCycles(dut.clk, 1)
            told += int(dut.lost.value)
        for _ in range(5):
            await ClockCycles(dut.clk, 1)
            told += int(dut.lost.value)
        # A request that has begun too soon is noticed, once.
        assert told == (SYNC in early)
        dut.uart_lost.value = 1
        await ClockCycles(dut.clk, 2)
        assert dut.lost.value
        dut.uart_lost.value = 0
        await port.send(later)
        await engine.send(later)
