# SPDX-License-Identifier: Apache-2.0
"""The queue between a driver and a monitor that both stall at random."""

import random
from typing import Any

from sim.cocotb_bench import bench, parameters, start
from sim.streams import Scoreboard, StreamDriver, StreamMonitor


@bench()
async def everything_arrives_in_order(dut: Any) -> None:
    driver = StreamDriver(dut, "i", idle=parameters()["idle"])
    monitor = StreamMonitor(dut, "o", stall=parameters()["stall"])
    await start(dut)
    items = [random.getrandbits(8) for _ in range(500)]
    async with Scoreboard(monitor, items):
        await driver.send(items)
