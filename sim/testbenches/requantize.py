# SPDX-License-Identifier: Apache-2.0
"""The requantiser against the numbers contract, in plain integers."""

import random
from typing import Any

from cocotb.triggers import FallingEdge

from rtl.numbers import MULTIPLIER_BITS, PRE_SHIFTS, Activation, requantize
from sim.cocotb_kit.harness import bench, parameters, start


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def random_total() -> int:
    """Every magnitude is as likely as any other, and the extremes come often."""
    extreme = random.choice([-(1 << 31), (1 << 31) - 1, 0, -1])
    sign = random.choice([-1, 1])
    return extreme if random.random() < 0.1 else sign * random.getrandbits(random.randint(1, 31))


@bench()
async def activations_follow_the_contract(dut: Any) -> None:
    act_bits = parameters()["act_bits"]
    dut.totals__valid.value = 0
    await start(dut)
    compared = 0
    for _ in range(60):
        activation, pre_shift = random.choice(list(Activation)), random.randrange(len(PRE_SHIFTS))
        multiplier = random.getrandbits(random.randint(1, MULTIPLIER_BITS))
        dut.layer.value = multiplier | pre_shift << 16 | activation.value << 18
        expected: list[int] = []
        there = False
        # Drain the pipeline after each layer, as the engine does before it changes the constants.
        for step in range(30):
            await FallingEdge(dut.clk)
            if there:
                assert int(dut.act.value) == expected.pop(0)
                compared += 1
            there = bool(dut.act_coming.value)
            valid = step < 24 and random.random() < 0.8
            total = random_total()
            dut.totals__valid.value = int(valid)
            dut.totals__payload.value = total & 0xFFFFFFFF
            if valid:
                act = requantize(total, multiplier=multiplier, pre_shift=PRE_SHIFTS[pre_shift],
                                 signed=activation.signed, act_bits=act_bits, clamp=clamp)
                expected.append(act & ((1 << act_bits) - 1))
        assert not expected
    assert compared > 800
