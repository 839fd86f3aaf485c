# SPDX-License-Identifier: Apache-2.0
"""The activation memory against a dictionary; what is read while it is written is undefined."""

import random
from typing import Any

from cocotb.triggers import RisingEdge

from rtl.config import EngineConfig
from sim.cocotb_kit.harness import bench, parameters, start


@bench()
async def words_come_out_as_they_were_written(dut: Any) -> None:
    config = EngineConfig(**parameters()["config"])
    depth, act_bits = config.act_depth, config.act_bits
    dut.write__enable.value = dut.read__enable.value = 0
    await start(dut)
    contents: dict[int, int] = {}
    shown: int | None = None
    compared = collisions = 0
    for _ in range(4000):
        write, read = random.random() < 0.5, random.random() < 0.7
        acts = [random.getrandbits(act_bits) * random.getrandbits(1) for _ in range(config.pes)]
        write_address, word = random.randrange(depth), sum(act << lane * act_bits for lane, act in enumerate(acts))
        read_address = write_address if random.random() < 0.3 else random.randrange(depth)
        dut.write__enable.value, dut.write__address.value, dut.write__word.value = write, write_address, word
        dut.read__enable.value, dut.read__address.value = read, read_address
        await RisingEdge(dut.clk)
        if shown is not None:
            assert int(dut.read__word.value) == shown
            assert int(dut.read__nonzero.value) == sum((shown >> lane * act_bits & (1 << act_bits) - 1 != 0) << lane
                                                 for lane in range(config.pes))
            compared += 1
        if read:
            collision = write and read_address == write_address
            collisions += collision
            shown = None if collision else contents.get(read_address)
        if write:
            contents[write_address] = word
    assert compared > 2000 and collisions > 300 and len(contents) == depth
