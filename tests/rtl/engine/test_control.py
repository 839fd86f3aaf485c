# SPDX-License-Identifier: Apache-2.0
"""The control tree: all clusters are told the same, as late as they get their beats."""

import pytest

from rtl.config import PRESETS, EngineConfig
from rtl.engine.control import ControlTree
from rtl.layouts import control_flags
from rtl.structure import broadcast_cycles
from tests.support.pysim import simulate


@pytest.mark.parametrize("config, cycles", [
    (EngineConfig(pes=32), 2), (EngineConfig(pes=64), 3), (PRESETS["conv"], 1), (EngineConfig(act_table=True), 1)],
    ids=["eight clusters", "sixteen clusters", "convolutions", "tables"])
def test_every_cluster_is_told_what_to_do(config, cycles):
    tree = ControlTree(config)
    assert broadcast_cycles(config) == cycles
    flags = control_flags(config)
    tables = {"codebook": {"code": 3, "weight": -7}, **({"taps": {"tap": 9, "offset": 77}} if config.tap_bits else {}),
              **({"act_table": {"place": 300, "act": 200}} if config.act_table else {})}
    assert flags == ("hold", "drain", *(f"write_{table}" for table in tables))

    async def run(ctx):
        async def told(port, value, *expected):
            """These flags, as long as ``port`` has this value; none before."""
            ctx.set(port, value)
            for cycle in range(cycles + 1):
                for cluster in tree.clusters:
                    assert [flag for flag in flags if ctx.get(cluster[flag])] == list(expected) * (cycle == cycles)
                if cycle < cycles:
                    await ctx.tick()

        async def end(port):
            ctx.set(port, 0)
            await ctx.tick().repeat(cycles + 1)

        for port in (tree.reading, tree.tables.busy):
            await told(port, 1, "hold")
            await end(port)
        step = tree.steps.payload
        for field, value in ((step.row, 5), (step.bias_address, 11), (step.bias_last, 1)):
            ctx.set(field, value)
        await told(tree.steps.valid, 1, "drain")
        for cluster in tree.clusters:
            found = cluster.drain_step
            assert (ctx.get(found.row), ctx.get(found.bias_address), ctx.get(found.bias_last)) == (5, 11, 1)
        await end(tree.steps.valid)
        for table, values in tables.items():
            port = getattr(tree.tables, table)
            for field, value in values.items():
                ctx.set(port.payload[field], value)
            await told(port.valid, 1, f"write_{table}")
            for cluster in tree.clusters:
                assert {field: ctx.get(cluster[table][field]) for field in values} == values
            await end(port.valid)

    simulate(tree, run)
