# SPDX-License-Identifier: Apache-2.0
"""The watchdog bites an inference that reaches its limit, and no other."""

from rtl.config import EngineConfig
from rtl.engine.watchdog import Watchdog
from rtl.image_format import LIMIT_STEP
from tests.support.pysim import simulate


def test_an_inference_that_reaches_its_limit_is_stopped():
    watchdog = Watchdog(EngineConfig())
    assert LIMIT_STEP == 256

    async def run(ctx):
        async def cycle(**inputs):
            for name, value in inputs.items():
                ctx.set(getattr(watchdog, name), value)
            await ctx.tick()
            return ctx.get(watchdog.bite), ctx.get(watchdog.timed_out)

        assert await cycle(limit=3, running=1, cycles=0) == (0, 0)
        assert await cycle(cycles=767) == (0, 0)
        assert await cycle(cycles=768) == (1, 0)
        assert await cycle(cycles=769) == (1, 1)
        # It has stopped; that it timed out is known until the next one begins.
        assert await cycle(running=0) == (0, 1)
        assert await cycle() == (0, 1)
        assert await cycle(clear=1) == (0, 0)
        assert await cycle(clear=0, running=1, cycles=1) == (0, 0)

    simulate(watchdog, run)
