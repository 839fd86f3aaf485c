# SPDX-License-Identifier: Apache-2.0
"""The codebook against a dictionary, while its values are replaced."""

import random
from typing import Any

from cocotb.triggers import RisingEdge

from rtl.config import EngineConfig
from rtl.engine.codebook import Codebook
from rtl.layouts import codebook_write_layout
from sim.cocotb_kit.harness import bench, parameters, scramble, start
from sim.cocotb_kit.payloads import pack


@bench()
async def codes_become_weights(dut: Any) -> None:
    config = EngineConfig(**parameters())
    half = 1 << (config.weight_bits - 1)
    codes = range(1 << config.code_bits)
    weights = {code: code - 2 * half if code >= half else code for code in codes} if config.direct_weights else {}
    dut.write__valid.value = 0
    await start(dut)
    due: dict[int, int] = {}
    compared = 0
    for cycle in range(3000):
        write = random.random() < (0.5, 0.0, 0.05)[cycle // 200 % 3]
        written = {"code": random.choice(codes), "weight": random.randrange(-half, half)}
        code = random.choice(codes)
        dut.code.value = code
        dut.write__valid.value = int(write)
        scramble(dut.write__payload)
        if write:
            dut.write__payload.value = pack(codebook_write_layout(config), written)
        # A code that is written in this cycle is not looked up: the result would be undefined.
        if code in weights and (config.direct_weights or not (write and code == written["code"])):
            due[cycle + Codebook.latency_cycles] = weights[code]
        if write and not config.direct_weights:
            weights[written["code"]] = written["weight"]
        await RisingEdge(dut.clk)

        if cycle in due:
            assert dut.weight.value.to_signed() == due.pop(cycle), f"cycle {cycle}"
            compared += 1
    assert compared > 2000
