# SPDX-License-Identifier: Apache-2.0
"""The trees from the loader and to the clusters' settings: everything arrives where it belongs."""

import random

import pytest

from rtl.config import EngineConfig
from rtl.engine.fan_out import FanOut
from rtl.engine.load_tree import LoadTree
from rtl.image_format import SectionKind
from rtl.structure import unhurried_cycles
from tests.support.pysim import simulate

CONFIGS = [EngineConfig(pes=4, slice_word_bits=16), EngineConfig(pes=16, index_bits=(4, 6)), EngineConfig(pes=64)]
IDS = ["one cluster", "four clusters", "sixteen clusters"]


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_words_arrive_at_their_memory(config):
    tree = LoadTree(config)
    choices = random.Random(2)
    several = config.clusters > 1
    cycles = unhurried_cycles(config) + several

    async def load(ctx):
        write = tree.write.payload
        for _ in range(30):
            kind, pe = choices.choice([*range(2 + len(config.plane_bits))]), choices.randrange(config.pes)
            address, word = choices.randrange(16), choices.getrandbits(16)
            for field, value in ((write.kind, kind), (write.pe, pe), (write.address, address), (write.word, word)):
                ctx.set(field, value)
            await ctx.tick().repeat(2)  # the kind is there before the word
            ctx.set(tree.write.valid, 1)
            seen = []
            for cycle in range(cycles + 3):
                if ctx.get(tree.program.valid):
                    seen.append(("program", cycle))
                    assert ctx.get(tree.program.payload.kind) == kind and ctx.get(tree.program.payload.word) == word
                for number, cluster in enumerate(tree.clusters):
                    if ctx.get(cluster.valid):
                        seen.append((number, cycle))
                        sent = cluster.payload
                        assert (ctx.get(sent.address), ctx.get(sent.word)) == (address, word)
                        assert ctx.get(sent.place) == pe % config.cluster_pes
                        assert ctx.get(sent.slices) == (kind == SectionKind.SLICES.value)
                        assert ctx.get(sent.planes) == (1 << kind >> SectionKind.ENTRIES.value if kind > 1 else 0)
                await ctx.tick()
                ctx.set(tree.write.valid, 0)
            assert seen == [("program", int(several)), (pe // config.cluster_pes, cycles)]

    simulate(tree, load)


@pytest.mark.parametrize("config", CONFIGS[1:], ids=IDS[1:])
def test_settings_arrive_at_all_clusters(config):
    fan_out = FanOut(config)
    cycles = unhurried_cycles(config)

    async def tell(ctx):
        layer = fan_out.scan.layer
        for field, value in ((layer.slice_base, 5), (layer.entry_base, 6), (layer.input_signed, 1),
                             (fan_out.requant.multiplier, 77)):
            ctx.set(field, value)
        ctx.set(fan_out.scan.start, 1)
        for cycle in range(cycles + 2):
            if cycle == 1:
                ctx.set(fan_out.scan.start, 0)
            for cluster in fan_out.clusters:
                assert ctx.get(cluster.start) == (cycle == cycles)
                if cycle >= cycles:
                    told = cluster.layer
                    assert (ctx.get(told.slice_base), ctx.get(told.entry_base), ctx.get(told.pe.input_signed),
                            ctx.get(cluster.requant.multiplier)) == (5, 6, 1, 77)
            await ctx.tick()

    simulate(fan_out, tell)
