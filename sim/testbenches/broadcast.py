# SPDX-License-Identifier: Apache-2.0
"""The broadcast: every copy shows every item once, a fixed number of cycles later."""

import random
from typing import Any

from cocotb.triggers import RisingEdge

from sim.cocotb_kit.harness import bench, parameters, scramble, start


@bench()
async def every_copy_arrives_in_time(dut: Any) -> None:
    latency, copies = parameters()["cycles"], parameters()["copies"]
    dut.i_valid.value = 0
    await start(dut)
    sent: list[int | None] = []
    for cycle in range(1500):
        # Bursts, a mixture, single items and pauses longer than the tree is deep.
        valid = random.random() < (1.0, 0.5, 0.1, 0.0)[cycle // 20 % 4]
        scramble(dut.i)
        item = random.getrandbits(len(dut.i))
        dut.i_valid.value = int(valid)
        if valid:
            dut.i.value = item
        sent.append(item if valid else None)
        await RisingEdge(dut.clk)

        arrived = sent[cycle - latency] if cycle >= latency else None
        assert int(dut.o_valid.value) == (0 if arrived is None else (1 << copies) - 1), f"cycle {cycle}"
        if arrived is not None:
            assert int(dut.o.value) == sum(arrived << copy * len(dut.i) for copy in range(copies)), f"cycle {cycle}"
        # What arrives in this cycle is still under way.
        under_way = any(one is not None for one in sent[max(0, cycle - latency):cycle])
        assert bool(dut.empty.value) == (not under_way), f"cycle {cycle}"
    assert sum(item is not None for item in sent) > 300


@bench()
async def a_reset_clears_the_flags_under_way(dut: Any) -> None:
    latency, copies, flags = parameters()["cycles"], parameters()["copies"], parameters()["flags"]
    dut.i_valid.value = 0
    await start(dut)
    kept = 0
    for _ in range(100):
        dut.i.value = (1 << len(dut.i)) - 1
        dut.i_valid.value = 1
        for _ in range(random.randint(0, latency)):
            await RisingEdge(dut.clk)
        dut.rst.value, dut.i.value, dut.i_valid.value = 1, 0, 0
        await RisingEdge(dut.clk)
        dut.rst.value = 0
        for _ in range(latency + 1):
            await RisingEdge(dut.clk)
            arrived = int(dut.o.value)
            assert not dut.o_valid.value
            assert all(not arrived >> copy * len(dut.i) & flags for copy in range(copies))
            kept += arrived != 0
    assert kept > 50
