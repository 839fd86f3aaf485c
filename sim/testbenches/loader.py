# SPDX-License-Identifier: Apache-2.0
"""The loader against a reader of images made from docs/formats.md, with sound images and others."""

import random
from collections import Counter
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from rtl.config import EngineConfig
from rtl.image_format import LIMIT_STEP
from rtl.layouts import load_write_layout
from rtl.protocol import Status
from sim.cocotb_kit.harness import bench, parameters, start
from sim.cocotb_kit.payloads import unpack
from sim.cocotb_kit.streams import StreamDriver

from .loader_images import KINDS, Outcome, Section, encode, image_limit, memory, random_section, read, sound

VERDICT_CYCLES = 6
"""Cycles from a byte to the loader's verdict."""


async def collect(dut: Any, config: Any, writes: list[tuple[int, int, int, int]]) -> None:
    layout = load_write_layout(config)
    while True:
        await RisingEdge(dut.clk)
        if dut.write__valid.value:
            write = unpack(layout, int(dut.write__payload.value))
            width = memory(config, write["kind"])[0]
            writes.append((write["kind"], write["pe"], write["address"], write["word"] & (1 << width) - 1))


async def check(dut: Any, outcome: Outcome, writes: list[tuple[int, int, int, int]]) -> None:
    await ClockCycles(dut.clk, VERDICT_CYCLES)
    assert Status(int(dut.image__status.value)) == outcome.status
    assert dut.loaded.value == outcome.loaded and int(dut.image__offset.value) == outcome.offset
    if outcome.loaded:
        assert int(dut.layers.value) == outcome.layers
        assert int(dut.cycle_limit.value) == outcome.limit // LIMIT_STEP % (1 << len(dut.cycle_limit))
    assert writes in (outcome.writes, outcome.writes + outcome.tail)


async def begin(dut: Any) -> StreamDriver:
    driver = StreamDriver(dut, "image__bytes", idle=parameters()["idle"])
    dut.image__begin.value = dut.drop.value = 0
    await start(dut)
    return driver


@bench(cycles=200_000)
async def images_are_taken_apart(dut: Any) -> None:
    config = EngineConfig(**parameters()["config"])
    writes: list[tuple[int, int, int, int]] = []
    driver = await begin(dut)
    cocotb.start_soon(collect(dut, config, writes))
    outcome = Outcome(Status.OK, False, 0, 0, 0, [])
    await driver.send(random.randbytes(40))
    assert not (dut.loaded.value or writes)
    seen: Counter[tuple[Status, bool]] = Counter()
    kinds = []
    for fault in random.sample(KINDS * 14, 14 * len(KINDS)):
        # Mostly there is an image that a wrong one may or may not push out.
        kinds += [sound, fault] if random.random() < 0.8 else [fault]
    for kind in kinds:
        content = kind(config, [random_section(config) for _ in range(random.randint(1, 5))])
        before = outcome
        writes.clear()
        dut.image__begin.value = 1
        await RisingEdge(dut.clk)
        dut.image__begin.value = 0
        cuts = sorted(random.randint(0, len(content)) for _ in range(random.choice([0, 1, 4])))
        for first, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
            await driver.send(content[first:end])
            outcome = read(content[:end], config, before)
            await check(dut, outcome, writes)
        seen[outcome.status, outcome.loaded] += 1
        if outcome.loaded and random.random() < 0.1:
            dut.drop.value = 1
            await RisingEdge(dut.clk)
            dut.drop.value, outcome.loaded = 0, False
            await check(dut, outcome, writes)
    for status in (Status.BAD_MAGIC, Status.BAD_VERSION, Status.WRONG_CONFIG):
        assert seen[status, True], f"no image stayed through {status.name}"
    assert seen[Status.OK, True] > 100
    assert seen[Status.OK, False] and seen[Status.BAD_SECTION, False] and seen[Status.IMAGE_CRC, False]


@bench(cycles=80_000)
async def a_length_that_goes_round_is_refused(dut: Any) -> None:
    """All is right but that the header's length lacks twice what the engine can hold of it."""
    config = EngineConfig(**parameters()["config"])
    driver = await begin(dut)
    sections: list[Section] = []
    round_bytes = 2 * image_limit(config)
    while (length := len(encode(config, sections))) <= round_bytes:
        sections.append(random_section(config))
    dut.image__begin.value = 1
    await RisingEdge(dut.clk)
    dut.image__begin.value = 0
    await driver.send(encode(config, sections, image_bytes=length - round_bytes))
    await check(dut, Outcome(Status.BAD_SECTION, False, 0, 0, 0, []), [])


@bench()
async def a_beginning_forgets_what_was_wrong_just_before(dut: Any) -> None:
    config = EngineConfig(**parameters()["config"])
    writes: list[tuple[int, int, int, int]] = []
    driver = await begin(dut)
    cocotb.start_soon(collect(dut, config, writes))
    content = encode(config, [Section(0, 0, 0, 1, bytes(4))])
    for cycles in range(VERDICT_CYCLES):
        for sent in (b"?", content):
            dut.image__begin.value = 1
            await RisingEdge(dut.clk)
            dut.image__begin.value = 0
            await driver.send(sent)
            if sent != content and cycles:
                await ClockCycles(dut.clk, cycles)
        await check(dut, read(content, config, Outcome(Status.OK, False, 0, 0, 0, [])), writes)
        writes.clear()
