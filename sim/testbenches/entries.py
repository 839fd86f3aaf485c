# SPDX-License-Identifier: Apache-2.0
"""Entry memory against dictionaries of words, with the writes of other processing elements in between."""

import random
from typing import Any

from amaranth.hdl import unsigned
from amaranth.lib import data
from cocotb.triggers import RisingEdge

from rtl.config import EngineConfig
from rtl.layouts import entry_layout, memory_write_layout, pe_layer_layout
from sim.cocotb_kit.harness import bench, parameters, scramble, start
from sim.cocotb_kit.payloads import pack, unpack

LAYER = 60
"""Cycles between two changes of the index width."""


class Planes:
    """The words that were written: for each plane, by address."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.words: list[dict[int, int]] = [{} for _ in config.plane_bits]

    def entries(self, address: int, mode: int, offsets: list[int]) -> list[dict[str, int]]:
        """The entries of a word: the index from its plane 0, and above it the bits from the planes of the mode."""
        config, each = self.config, self.config.entries_per_word
        layout = data.ArrayLayout(entry_layout(config, config.index_bits[0]), each)
        entries: list[dict[str, int]] = unpack(layout, self.words[0][address])
        for plane in range(1, mode + 1):
            narrow, wide = config.index_bits[plane - 1:plane + 1]
            word = self.words[plane][address - offsets[plane - 1]]
            for entry, bits in zip(entries, unpack(data.ArrayLayout(unsigned(wide - narrow), each), word), strict=True):
                entry["index"] |= bits << narrow
        return entries


def layer_bits(config: EngineConfig, mode: int, offsets: list[int]) -> int:
    """The settings of a layer that the memory needs, with random bits in place of all others."""
    told: dict[str, Any] = {"input_signed": random.getrandbits(1)}
    if len(config.index_bits) > 1:
        room = (1 << (config.entry_depth - 1).bit_length()) - 1
        told["index_mode"] = mode
        told["plane_offsets"] = [offset & room for offset in offsets[:len(config.index_bits) - 1]]
    return pack(pe_layer_layout(config), told)


@bench()
async def words_are_read_as_written(dut: Any) -> None:
    config = EngineConfig(**parameters())
    depth, planes = config.entry_depth, Planes(config)
    word_layout = data.ArrayLayout(entry_layout(config, config.index_bits[-1]), config.entries_per_word)
    filling = [(plane, address) for plane in range(len(config.plane_bits)) for address in range(depth)]
    random.shuffle(filling)
    mode, base, offsets = 0, 0, [0, 0, 0]
    # At the memory's output, and in the register behind it; biases by the cycle in which they appear.
    there: list[dict[str, int]] | None = None
    shown: list[dict[str, int]] | None = None
    biases: dict[int, int] = {}
    dut.load_planes.value = dut.read.value = dut.take.value = 0
    await start(dut)
    compared = 0
    for cycle in range(len(filling) * 2 + 2500):
        if cycle % LAYER == 0:
            mode, base = random.randrange(len(config.index_bits)), random.randrange(depth)
            # Planes that the layer does not use lie anywhere.
            offsets = [random.randint(0, base) if plane < mode else random.getrandbits(16) for plane in range(3)]
            there = shown = None
            dut.layer.value = layer_bits(config, mode, offsets)
        scramble(dut.address, dut.bias_address)
        action = random.choices(["write", "read", "wait"], [6, 0, 1] if filling else [1, 6, 3])[0]
        plane, address = random.randrange(len(config.plane_bits)), random.randrange(depth)
        if action == "write" and filling:
            plane, address = filling.pop()
        # What looks like a write means nothing unless it is for a plane.
        word = random.getrandbits(config.plane_bits[plane])
        if action == "write":
            planes.words[plane][address] = word
        dut.load.value = pack(memory_write_layout(config), {"address": address, "word": word})
        dut.load_planes.value, dut.read.value = (1 << plane if action == "write" else 0), 0
        dut.bias.value = 0
        if action == "read":
            address = dut.address.value = random.randrange(base, depth)
            dut.read.value = 1
        # With a single port a bias is read instead of entries, otherwise beside them, where words are written.
        bias = not filling and action == ("read" if config.single_port else random.choice(["read", "wait"])) \
            and random.random() < 0.2
        if bias:
            place = dut.bias_address.value = random.randrange(depth)
            dut.bias.value = 1
            biases[cycle + 1 + config.deep_pipeline] = planes.words[0][place]
        take = dut.take.value = random.getrandbits(1)
        await RisingEdge(dut.clk)

        if cycle in biases:
            assert int(dut.raw.value) == biases[cycle], f"cycle {cycle}"
        if shown is not None:
            assert unpack(word_layout, int(dut.word.value)) == shown, f"cycle {cycle}"
            compared += 1
        if take:
            shown = there
        if action == "read":
            there = None if bias and config.single_port else planes.entries(address, mode, offsets)
        if not config.deep_pipeline:
            shown = there
    assert not filling and compared > 1500 and len(biases) > 200
