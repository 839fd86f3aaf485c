# SPDX-License-Identifier: Apache-2.0
"""Benches of small stand-in devices: they prove the simulation itself, see ``tests/sim/``.

`everything_arrives` is also the pattern for the bench of a stream unit.
"""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import cocotb
from amaranth.lib import data
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from sim.cocotb_kit.harness import bench, parameters, start
from sim.cocotb_kit.streams import Scoreboard, StreamDriver, StreamMonitor, take

PAIR = data.StructLayout({"code": 4, "steps": data.ArrayLayout(data.StructLayout({"by": 3, "up": 1}), 2)})
"""The payload of the stand-in buffer."""


@bench()
async def everything_arrives(dut: Any) -> None:
    dut.fault.value = 0
    driver = StreamDriver(dut, "i", shape=PAIR, idle=parameters()["idle"])
    monitor = StreamMonitor(dut, "o", shape=PAIR, stall=parameters()["stall"])
    await start(dut)
    items = [{"code": random.randrange(16), "steps": [{"by": place % 8, "up": 1}, {"by": 3, "up": place % 2}]}
             for place in range(parameters()["count"])]
    async with Scoreboard(monitor, items):
        await driver.send(items)
    Path(parameters()["report"]).write_text(json.dumps(monitor.cycles))


@cocotb.parametrize(fault=range(8))
@bench(cycles=2000)
async def faulty_device_is_found(dut: Any, fault: int) -> None:
    """Fails for every value of the input ``fault`` but 0."""
    dut.fault.value = fault
    driver = StreamDriver(dut, "i")
    monitor = StreamMonitor(dut, "o", stall=0.5)
    await start(dut)
    items = [random.getrandbits(len(dut.i__payload)) for _ in range(50)]
    async with Scoreboard(monitor, items, patience_cycles=100):
        await driver.send(items)


@cocotb.parametrize(fault=[0, 5, 6])
@bench(cycles=2000)
async def some_are_taken(dut: Any, fault: int) -> None:
    """Fails for every value of the input ``fault`` but 0."""
    dut.fault.value = fault
    dut.o__ready.value = 0
    driver = StreamDriver(dut, "i")
    await start(dut)
    items = [random.getrandbits(len(dut.i__payload)) for _ in range(50)]
    driver.start(items)
    for first, end in ((0, 1), (1, 20), (20, 50)):
        assert await take(dut, "o", end - first, stall=0.5) == items[first:end]
        await ClockCycles(dut.clk, 5)


@bench()
async def read_uninitialised(dut: Any) -> None:
    """Writes what the device holds before anything was written to the file ``report``."""
    dut.write.value = 0
    await start(dut)
    contents = []
    for address in range(16):
        dut.address.value = address
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)
        contents.append([int(dut.written.value), int(dut.constant.value)])
    state = {"memory": contents, "loose": int(dut.loose.value), "counted": int(dut.counted.value)}
    Path(parameters()["report"]).write_text(json.dumps(state))


@bench(cycles=100)
async def never_ends(dut: Any) -> None:
    await start(dut)
    while True:
        await RisingEdge(dut.clk)


@cocotb.test()
async def blocks(dut: Any) -> None:
    """Stops the simulator itself, where the time-out of cocotb cannot help."""
    time.sleep(60)


@cocotb.test()
async def leaves(dut: Any) -> None:
    """Ends the process without results."""
    os._exit(3)


@bench()
async def stores_apart(dut: Any) -> None:
    """Three stores: each starts with contents of its own, and keeps what it alone was given."""
    async def contents() -> list[tuple[int, ...]]:
        words = []
        for address in range(4):
            dut.address.value = address
            await ClockCycles(dut.clk, 2)
            await FallingEdge(dut.clk)
            words.append(int(dut.o.value).to_bytes(3, "little"))
        return list(zip(*words, strict=True))

    dut.write.value = 0
    await start(dut)
    assert len(set(await contents())) == 3
    for number in range(3):
        for address in range(4):
            # What is to be stored passes a register.
            dut.address.value, dut.data.value = address, 10 * address
            await FallingEdge(dut.clk)
            dut.write.value = 1 << number
            await FallingEdge(dut.clk)
            dut.write.value = 0
    assert await contents() == [tuple(10 * address + number for address in range(4)) for number in range(3)]
