# SPDX-License-Identifier: Apache-2.0
"""Slice lookup against lists of lengths: a slice starts where all slices before it end."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cocotb.triggers import RisingEdge

from rtl.config import EngineConfig
from rtl.engine.scanner import Scanner
from rtl.engine.slices import SliceLookup
from rtl.layouts import beat_layout, job_layout, long_slice, memory_write_layout
from sim.cocotb_kit.harness import bench, parameters, scramble, start
from sim.cocotb_kit.payloads import pack, unpack


@dataclass
class Step:
    """The inputs of a cycle, and the expected job of its beat, or None."""

    load: dict[str, int] | None = None
    start: dict[str, int] | None = None
    beat: dict[str, int] | None = None
    job: dict[str, int] | None = None
    dropped: bool = False


class Layer:
    """A random layer: for each block the lengths as they are stored."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.bits = config.length_bits
        blocks = random.randint(1, min(40, config.slice_depth))
        self.slice_base = random.randrange(config.slice_depth - blocks + 1)
        self.entry_base = random.randrange(config.entry_depth // 2)
        room = config.entries_per_word * (config.entry_depth - self.entry_base)
        self.blocks = []
        for _ in range(blocks):
            lengths = []
            for _ in range(config.block_cols):
                stored = random.choice([0, 0, 1, random.getrandbits(self.bits), (1 << self.bits) - 1])
                if self.entries(stored) > room:
                    stored = 0
                room -= self.entries(stored)
                lengths.append(stored)
            self.blocks.append(lengths)

    def entries(self, stored: int) -> int:
        return long_slice(self.bits) if stored == (1 << self.bits) - 1 else stored

    def writes(self) -> Iterator[dict[str, int]]:
        """The image's words of the layer, without the PE."""
        for number, lengths in enumerate(self.blocks):
            word = sum(stored << place * self.bits for place, stored in enumerate(lengths))
            yield {"address": self.slice_base + number, "word": word}

    def scan(self) -> Iterator[Step]:
        """The beats of an input with outcomes; a block without an activation is one beat."""
        place = self.entry_base * self.config.entries_per_word
        highest = (1 << self.config.act_bits) - 1
        for lengths in self.blocks:
            density = random.choice([0.0, 0.3, 1.0])
            present = [col for col in range(len(lengths)) if random.random() < density]
            for col, stored in enumerate(lengths):
                if col in present:
                    act = random.randint(1, highest)
                    beat = {"act": act, "col": col, "present": 1, "last": int(col == present[-1])}
                    last = place % self.config.entries_per_word + self.entries(stored) - 1
                    job = {"start": place, "last": last, "act": act}
                    yield Step(beat=beat, job=job if stored else None, dropped=not stored)
                place += self.entries(stored)
            if not present:
                col = random.randrange(len(lengths))
                yield Step(beat={"act": random.randint(0, highest), "col": col, "present": 0, "last": 1})


def steps(config: EngineConfig, pause: float) -> Iterator[Step]:
    """A layer from its loading until its last beat has arrived."""
    layer = Layer(config)
    for write in layer.writes():
        while random.random() < 0.3:
            yield Step()
        yield Step(load=write)
    yield Step()
    yield Step(start={"slice_base": layer.slice_base, "entry_base": layer.entry_base})
    # No beat comes sooner, for the scanner has to read its first word.
    yield from (Step() for _ in range(Scanner.latency_cycles(layer.config) - 1 + random.randrange(3)))
    for step in layer.scan():
        while random.random() < pause:
            yield Step()
        yield step
    yield from (Step() for _ in range(SliceLookup.latency_cycles(config) + random.randrange(3)))


def drive(dut: Any, config: EngineConfig, step: Step, pes: int, own: int) -> None:
    scramble(dut.beats__payload)
    # What looks like a write means nothing unless it is valid.
    write = step.load or {"address": random.randrange(config.slice_depth),
                          "word": random.getrandbits(config.slice_word_bits)}
    dut.load.value = pack(memory_write_layout(config), write)
    # The other PEs' words are of no concern, unless they are this one's as well.
    others = random.getrandbits(pes) & ~(1 << own) if step.load is None else 0
    dut.load_pes.value, dut.start.value = (step.load is not None) << own | others, int(step.start is not None)
    dut.beats__valid.value = int(step.beat is not None)
    if step.beat is not None:
        dut.beats__payload.value = pack(beat_layout(config), step.beat)
    if step.start is not None:
        for name, value in step.start.items():
            getattr(dut, name).value = value


@bench()
async def beats_become_jobs(dut: Any) -> None:
    config, pes, own = EngineConfig(**parameters()["config"]), parameters()["pes"], parameters()["own"]
    job_out, job_valid = getattr(dut, f"jobs__{own}__payload"), getattr(dut, f"jobs__{own}__valid")
    latency = SliceLookup.latency_cycles(config)
    script = [step for number in range(40) for step in steps(config, (0.0, 0.3, 0.8)[number % 3])]
    drive(dut, config, Step(), pes, own)
    await start(dut)
    jobs = drops = 0
    for cycle, step in enumerate(script):
        drive(dut, config, step, pes, own)
        await RisingEdge(dut.clk)

        ended = script[cycle - latency] if cycle >= latency else Step()
        assert bool(job_valid.value) == (ended.job is not None), f"cycle {cycle}"
        assert int(dut.dropped.value) >> own & 1 == ended.dropped, f"cycle {cycle}"
        if ended.job is not None:
            assert unpack(job_layout(config), int(job_out.value)) == ended.job, f"cycle {cycle}"
        # A beat is under way until its job is on offer, that cycle included. If there is none, that cycle is left open.
        if ended.job is not None or any(one.beat is not None for one in script[max(0, cycle - latency + 1):cycle + 1]):
            assert not dut.empty.value, f"cycle {cycle}"
        elif ended.beat is None:
            assert dut.empty.value, f"cycle {cycle}"
        jobs += ended.job is not None
        drops += ended.dropped
    assert jobs > 100 and drops > 100, (jobs, drops)
