# SPDX-License-Identifier: Apache-2.0
"""The performance counters against sums in Python, over two inferences."""

import random

from rtl.config import EngineConfig
from rtl.engine.counters import Counters
from rtl.protocol import COUNTERS
from tests.support.pysim import simulate

CONFIG = EngineConfig(pes=32)
"""Eight clusters: their events are summed four by four."""


def test_events_are_counted_and_held():
    counters = Counters(CONFIG)
    choices = random.Random(1)

    async def run(ctx):
        for cycles in (40, 7):
            ctx.set(counters.clear, 1)
            await ctx.tick()
            ctx.set(counters.clear, 0)
            ctx.set(counters.running, 1)
            expected = dict.fromkeys(COUNTERS, 0)
            for _ in range(cycles):
                beat, present, stalled, reading = (choices.getrandbits(1) for _ in range(4))
                work = [(choices.randint(0, 4), choices.randint(0, 4)) for _ in counters.clusters]
                for port, value in ((counters.beats.valid, beat), (counters.beats.payload.present, present),
                                    (counters.stalled, stalled), (counters.reading, reading)):
                    ctx.set(port, value)
                for cluster, (useful, dropped) in zip(counters.clusters, work, strict=True):
                    ctx.set(cluster.useful, useful)
                    ctx.set(cluster.dropped, dropped)
                for name, events in zip(COUNTERS, (1, beat, beat & present, sum(useful for useful, _ in work),
                                                   sum(dropped for _, dropped in work), stalled, reading), strict=True):
                    expected[name] += events
                await ctx.tick()
            ctx.set(counters.running, 0)
            for port in (counters.beats.valid, counters.stalled, counters.reading):
                ctx.set(port, 0)
            for cluster in counters.clusters:
                ctx.set(cluster.useful, 0)
                ctx.set(cluster.dropped, 0)
            await ctx.tick().repeat(Counters.sum_cycles)
            for _ in range(4):
                assert {name: ctx.get(counters.counts[name]) for name in COUNTERS} == expected
                assert ctx.get(counters.cycles) == cycles
                # Events after an inference are none of it.
                ctx.set(counters.stalled, 1)
                await ctx.tick()
            ctx.set(counters.stalled, 0)
            await ctx.tick().repeat(Counters.sum_cycles)

    simulate(counters, run)
