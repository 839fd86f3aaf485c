# SPDX-License-Identifier: Apache-2.0
"""The queue between a writer that pauses at random and a monitor that stalls at random."""

import random
from typing import Any

from cocotb.triggers import FallingEdge

from sim.cocotb_kit.harness import bench, parameters, scramble, start
from sim.cocotb_kit.streams import Scoreboard, StreamMonitor


async def write(dut: Any, items: list[int], *, depth: int, idle: float) -> None:
    """Writes the items in order, none while the queue is full."""
    for item in items:
        while dut.level.value == depth or random.random() < idle:
            dut.i__valid.value = 0
            scramble(dut.i__payload)
            await FallingEdge(dut.clk)
        dut.i__valid.value, dut.i__payload.value = 1, item
        await FallingEdge(dut.clk)
    dut.i__valid.value = 0


@bench()
async def everything_arrives_in_order(dut: Any) -> None:
    dut.i__valid.value = 0
    monitor = StreamMonitor(dut, "o", stall=parameters()["stall"])
    await start(dut)
    items = [random.getrandbits(8) for _ in range(500)]
    async with Scoreboard(monitor, items):
        await FallingEdge(dut.clk)
        await write(dut, items, depth=parameters()["depth"], idle=parameters()["idle"])
