# SPDX-License-Identifier: Apache-2.0
"""The requantiser with a table behind it: the numbers contract, and a bank that is written while the other is read."""

from dataclasses import replace

import numpy as np
import pytest

from rtl.config import PRESETS, EngineConfig
from rtl.engine.requantize import Requantizer
from rtl.engine.table_requantize import TableRequantizer
from rtl.engine.timing import drain_cycles
from rtl.numbers import PRE_SHIFTS, Activation, requantize
from tests.support.pysim import simulate

CONFIGS = {
    "plain": (EngineConfig(act_table=True), 6), "wide": (replace(PRESETS["wide"], act_table=True), 7),
    "tiny": (replace(PRESETS["tiny"], act_table=True), 4),
}


def clamp(value, low, high):
    return max(low, min(high, value))


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_with_and_without_a_table_take_turns(name):
    config, latency = CONFIGS[name]
    component = TableRequantizer(config)
    assert component.latency_cycles(config) == latency > Requantizer.latency_cycles(config)
    assert drain_cycles(config) - drain_cycles(replace(config, act_table=False)) \
        == latency - Requantizer.latency_cycles(config)
    rng = np.random.default_rng(0)
    tables = [rng.integers(0, 256, 256).tolist() for _ in range(5)]
    compared = []

    async def write(ctx, bank, table, places):
        """Some of a table's values, one in each cycle."""
        for place in places:
            ctx.set(component.write.payload.place, bank << 8 | place)
            ctx.set(component.write.payload.act, table[place])
            ctx.set(component.write.valid, 1)
            await ctx.tick()
        ctx.set(component.write.valid, 0)

    async def run(ctx):
        await write(ctx, 0, tables[0], range(256))
        for number, table in enumerate(tables):
            bank, tabled = number % 2, number != 3
            multiplier, shift = int(rng.integers(1 << 14, 1 << 16)), int(rng.integers(4))
            activation = Activation(int(rng.integers(2)))
            for field, value in (("multiplier", multiplier), ("pre_shift", shift), ("activation", activation),
                                 ("table", int(tabled)), ("table_bank", bank)):
                ctx.set(component.layer[field], value)
            totals = [int(one) for one in rng.normal(0, 2200 << PRE_SHIFTS[shift], 256)] + [-(1 << 23), (1 << 23) - 1]
            found, coming = [], False
            following = tables[(number + 1) % len(tables)]
            for step in range(len(totals) + 12):
                given = step < len(totals)
                ctx.set(component.totals.payload, totals[step] if given else 0)
                ctx.set(component.totals.valid, int(given))
                # Meanwhile the next layer's table comes.
                ctx.set(component.write.payload.place, (1 - bank) << 8 | step % 256)
                ctx.set(component.write.payload.act, following[step % 256])
                ctx.set(component.write.valid, 1)
                if coming:
                    assert step - len(found) == latency
                    found.append(ctx.get(component.act))
                coming = bool(ctx.get(component.act_coming))
                await ctx.tick()
            ctx.set(component.write.valid, 0)
            constants = {"multiplier": multiplier, "pre_shift": PRE_SHIFTS[shift], "act_bits": 8, "clamp": clamp}
            expected = [table[requantize(total, signed=True, **constants) & 255] if tabled else
                        requantize(total, signed=activation.signed, **constants) & 255 for total in totals]
            assert found == expected
            compared.append(len(set(found)))

    simulate(component, run)
    assert len(compared) == 5 and min(compared) > 40
