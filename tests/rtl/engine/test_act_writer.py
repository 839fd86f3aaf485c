# SPDX-License-Identifier: Apache-2.0
"""The activation writer: words from the clusters, with PEs that take turns, and words from the host's bytes."""

import random
from dataclasses import replace

import pytest

from rtl.engine.act_writer import ActivationWriter
from tests.support.pysim import simulate
from tests.support.units import UNIT


@pytest.mark.parametrize("share", [1, 2, 4])
def test_rows_of_the_clusters_become_words(share):
    config = replace(UNIT, pes=8, slice_word_bits=16, pes_per_requantizer=share)
    writer = ActivationWriter(config)
    choices = random.Random(share)

    async def drain(ctx):
        ctx.set(writer.drain.busy, 1)
        await ctx.tick().repeat(2)
        for address in (3, 4, 9):
            acts = [choices.randrange(256) for _ in range(config.pes)]
            # One after the other, the last PE of each requantiser a cycle after `coming`.
            for turn in range(share):
                for number, cluster in enumerate(writer.clusters):
                    ctx.set(cluster.coming, turn == share - 1)
                    for requantizer, act in enumerate(cluster.acts):
                        first = number * config.cluster_pes + requantizer * share
                        ctx.set(act, acts[first + turn - 1] if turn else choices.randrange(256))
                await ctx.tick()
            for number, cluster in enumerate(writer.clusters):
                ctx.set(cluster.coming, 0)
                for requantizer, act in enumerate(cluster.acts):
                    ctx.set(act, acts[number * config.cluster_pes + (requantizer + 1) * share - 1])
            assert ctx.get(writer.drain.arrived) == 1 and ctx.get(writer.drain.complete) == 1
            expected = sum(act << 8 * lane for lane, act in enumerate(acts))
            assert ctx.get(writer.drained) == expected
            ctx.set(writer.drain.write, 1)
            ctx.set(writer.drain.address, address)
            await ctx.tick()
            ctx.set(writer.drain.write, 0)
            memory = writer.memory
            assert (ctx.get(memory.enable), ctx.get(memory.address), ctx.get(memory.word)) == (1, address, expected)

    simulate(writer, drain)


def test_bytes_of_the_host_become_words():
    writer = ActivationWriter(UNIT)
    words = [bytes(range(number, number + UNIT.pes)) for number in (1, 20, 90)]
    seen = []

    async def send(ctx):
        for address, word in enumerate(words, 5):
            for place, byte in enumerate(word):
                ctx.set(writer.host.byte, byte)
                ctx.set(writer.host.shift, 1)
                ctx.set(writer.host.write, place == UNIT.pes - 1)
                ctx.set(writer.host.address, address)
                await ctx.tick()
        ctx.set(writer.host.shift, 0)
        ctx.set(writer.host.write, 0)
        await ctx.tick().repeat(4)

    async def watch(ctx):
        for _ in range(3 * UNIT.pes + 4):
            if ctx.get(writer.memory.enable):
                seen.append((ctx.get(writer.memory.address), ctx.get(writer.memory.word).to_bytes(UNIT.pes, "little")))
            await ctx.tick()

    simulate(writer, send, watch)
    assert seen == list(enumerate(words, 5))
