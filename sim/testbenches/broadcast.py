# SPDX-License-Identifier: Apache-2.0
"""The broadcast: every copy shows every item once, a fixed number of cycles later."""

import random
from typing import Any

from cocotb.triggers import RisingEdge

from sim.cocotb_kit.harness import bench, parameters, scramble, start


def receivers(dut: Any) -> list[tuple[Any, Any]]:
    """Payload and ``valid`` of each copy."""
    return [(getattr(dut, f"o__{copy}__payload"), getattr(dut, f"o__{copy}__valid"))
            for copy in range(parameters()["copies"])]


@bench()
async def every_copy_arrives_in_time(dut: Any) -> None:
    latency, received = parameters()["cycles"], receivers(dut)
    dut.i__valid.value = 0
    await start(dut)
    sent: list[int | None] = []
    for cycle in range(1500):
        # Bursts, a mixture, single items and pauses longer than the tree is deep.
        valid = random.random() < (1.0, 0.5, 0.1, 0.0)[cycle // 20 % 4]
        scramble(dut.i__payload)
        item = random.getrandbits(len(dut.i__payload))
        dut.i__valid.value = int(valid)
        if valid:
            dut.i__payload.value = item
        sent.append(item if valid else None)
        await RisingEdge(dut.clk)

        arrived = sent[cycle - latency] if cycle >= latency else None
        for payload, valid in received:
            assert bool(valid.value) == (arrived is not None), f"cycle {cycle}"
            assert arrived in (None, int(payload.value)), f"cycle {cycle}"
        # What arrives in this cycle is still under way.
        under_way = any(one is not None for one in sent[max(0, cycle - latency):cycle])
        assert bool(dut.empty.value) == (not under_way), f"cycle {cycle}"
    assert sum(item is not None for item in sent) > 300


@bench()
async def a_reset_clears_the_flags_under_way(dut: Any) -> None:
    latency, flags, received = parameters()["cycles"], parameters()["flags"], receivers(dut)
    dut.i__valid.value = 0
    await start(dut)
    kept = 0
    for _ in range(100):
        dut.i__payload.value = (1 << len(dut.i__payload)) - 1
        dut.i__valid.value = 1
        for _ in range(random.randint(0, latency)):
            await RisingEdge(dut.clk)
        dut.rst.value, dut.i__payload.value, dut.i__valid.value = 1, 0, 0
        await RisingEdge(dut.clk)
        dut.rst.value = 0
        for _ in range(latency + 1):
            await RisingEdge(dut.clk)
            for payload, valid in received:
                assert not valid.value and not int(payload.value) & flags
                kept += int(payload.value) != 0
    assert kept > 50
