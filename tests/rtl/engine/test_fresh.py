# SPDX-License-Identifier: Apache-2.0
"""A drained word goes to the scanner at once, if that waits for it."""

from rtl.config import EngineConfig
from rtl.engine.fresh import FreshWord
from tests.support.pysim import simulate


def test_a_word_is_kept_from_its_drain_until_it_is_gone():
    fresh = FreshWord(EngineConfig(pes=4, slice_word_bits=16))

    async def run(ctx):
        async def cycle(*, drained=0, grows=0, idle=1, gone=0):
            """Whether the word is forwarded in this cycle; and after it whether there is one, and which."""
            for port, value in ((fresh.progress.growing, 1), (fresh.progress.grows, grows), (fresh.drained, drained),
                                (fresh.idle, idle), (fresh.gone, gone)):
                ctx.set(port, value)
            forward = ctx.get(fresh.forward)
            await ctx.tick()
            assert ctx.get(fresh.there) == ctx.get(fresh.first)
            return forward, (ctx.get(fresh.word), ctx.get(fresh.nonzero)) if ctx.get(fresh.there) else None

        # The scanner has something else to scan, or has waited for less than a cycle.
        assert await cycle(idle=0) == (0, None)
        assert await cycle(drained=0x11223344, grows=1) == (0, None)
        assert await cycle() == (0, None)
        assert await cycle(drained=0x80000500, grows=1) == (1, (0x80000500, 0b1010))
        # The word after it must be read: this one is still there.
        assert await cycle(drained=0x11223344, grows=1) == (0, (0x80000500, 0b1010))
        assert await cycle(drained=0x11223344) == (0, (0x80000500, 0b1010))
        assert await cycle(gone=1) == (0, None)
        assert await cycle() == (0, None)
        assert await cycle(drained=0x00010000, grows=1) == (1, (0x00010000, 0b0100))

    simulate(fresh, run)
