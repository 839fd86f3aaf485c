# SPDX-License-Identifier: Apache-2.0
"""Gathered status of all clusters; back-pressure, whose levels follow from the latency of gathering."""

import pytest

from rtl.config import PRESETS, EngineConfig
from rtl.engine.backpressure import beat_queue_limit, job_queue_limit, jobs_under_way
from rtl.engine.gather import Gather
from tests.support.pysim import simulate


@pytest.mark.parametrize("config", [EngineConfig(pes=16), EngineConfig(pes=8, single_port=True)],
                         ids=["four clusters, deep pipeline", "two clusters, few registers"])
def test_one_full_cluster_stops_and_all_idle_ones_are_quiet(config):
    gather = Gather(config)

    async def tell(ctx):
        for cluster in gather.clusters:
            ctx.set(cluster.idle, 1)
        ctx.set(gather.done, 1)
        ctx.set(gather.empty, 1)
        await ctx.tick().repeat(3)
        assert ctx.get(gather.quiet) == 1 and ctx.get(gather.stop) == 0
        for cluster in gather.clusters:
            ctx.set(cluster.full, 1)
            ctx.set(cluster.idle, 0)
            await ctx.tick().repeat(Gather.stop_cycles)
            assert ctx.get(gather.stop) == 1
            assert ctx.get(gather.quiet) == 0
            ctx.set(cluster.full, 0)
            ctx.set(cluster.idle, 1)
            await ctx.tick().repeat(2)
            assert ctx.get(gather.stop) == 0 and ctx.get(gather.quiet) == 1
        for port in (gather.done, gather.empty):
            ctx.set(port, 0)
            await ctx.tick().repeat(2)
            assert ctx.get(gather.quiet) == 0
            ctx.set(port, 1)
            await ctx.tick().repeat(2)
            assert ctx.get(gather.quiet) == 1

    simulate(gather, tell)


def test_levels_of_queues():
    assert {name: job_queue_limit(config) for name, config in PRESETS.items()} == {
        "tiny": 7, "up5k": 7, "small": 21, "default": 21, "medium": 21, "large": 20, "wide": 9, "conv": 21}
    assert beat_queue_limit(PRESETS["wide"]) == 56
    assert all(job_queue_limit(config) + jobs_under_way(config) <= config.queue_depth for config in PRESETS.values())
