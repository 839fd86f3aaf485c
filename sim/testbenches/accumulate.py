# SPDX-License-Identifier: Apache-2.0
"""The accumulator against a list of sums, which adds every term at once."""

import random
from typing import Any

from cocotb.triggers import RisingEdge

from rtl.config import EngineConfig
from rtl.engine.accumulate import Accumulator
from sim.cocotb_kit.harness import bench, parameters, scramble, start

BURST = 40
"""Cycles in which operations are alike."""


@bench()
async def sums_are_exact(dut: Any) -> None:
    config = EngineConfig(**parameters())
    modulus = 1 << config.acc_bits
    # What a row holds before it was drained for the first time is unknown.
    sums: list[int | None] = [None] * config.acc_depth
    terms: dict[int, int] = {}
    totals: dict[int, int | None] = {}
    dut.valid.value = 0
    await start(dut)
    compared = 0
    drained: list[int | None] = [None] * 3
    for cycle in range(4000):
        if cycle % BURST == 0:
            # From the same row in every cycle to any of them, from pauses to work in every cycle.
            rows = random.sample(range(config.acc_depth), random.choice([1, 2, 3, 4, 5, 6, config.acc_depth]))
            valid_rate, drain_rate = random.choice([0.3, 0.8, 1.0]), random.choice([0.0, 0.1, 0.5, 1.0])
            magnitude = random.randint(1, config.acc_bits)
        valid, drain = random.random() < valid_rate, random.random() < drain_rate
        row, term = random.choice(rows), random.getrandbits(magnitude) * random.choice([-1, 1])
        # Nothing comes in the cycle after a row that is drained, if they are apart, and not that row in the next two.
        valid = valid and not (config.row_cycles > 1 and (drained[0] is not None or row in drained))
        drained = [row if valid and drain else None, *drained[:2]]
        dut.row.value, dut.valid.value, dut.drain.value = row, int(valid), int(drain)
        if valid:
            terms[cycle + Accumulator.term_cycles] = term
            before = sums[row]
            after = None if before is None else (before + term) % modulus
            sums[row] = 0 if drain else after
            if drain:
                totals[cycle + Accumulator.latency_cycles(config)] = after
        scramble(dut.term)
        if cycle in terms:
            dut.term.value = terms.pop(cycle) % modulus
        await RisingEdge(dut.clk)

        assert bool(dut.total_valid.value) == (cycle in totals), f"cycle {cycle}"
        total = totals.pop(cycle, None)
        if total is not None:
            assert int(dut.total.value) == total, f"cycle {cycle}"
            compared += 1
    assert compared > 500
