# SPDX-License-Identifier: Apache-2.0
"""The reset of all that an inference goes through."""

from rtl.engine.run_reset import RunReset
from tests.support.pysim import simulate


def test_it_comes_at_power_up_and_when_an_image_becomes_invalid():
    run_reset = RunReset()
    seen = []

    async def run(ctx):
        for loaded in (0, 0, 1, 1, 1, 0, 0, 1, 0, 0):
            ctx.set(run_reset.loaded, loaded)
            seen.append(ctx.get(run_reset.reset))
            await ctx.tick()

    simulate(run_reset, run)
    # A register: it follows the cycle in which there is no image any more.
    assert seen == [1, 0, 0, 0, 0, 0, 1, 0, 0, 1]
