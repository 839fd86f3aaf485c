# SPDX-License-Identifier: Apache-2.0
"""Both walkers against the rows that random slices were encoded from; each step of them has its cycle."""

import random
from collections import deque
from itertools import pairwise
from typing import Any

from amaranth.lib import data
from cocotb.triggers import RisingEdge

from rtl.config import EngineConfig
from rtl.engine.scatter import ScatterWalker
from rtl.engine.walker import Walker
from rtl.layouts import (
    entry_layout,
    job_layout,
    long_slice,
    pe_layer_layout,
    row_bits,
    tap_write_layout,
    visit_layout,
)
from sim.cocotb_kit.harness import bench, parameters, scramble, start
from sim.cocotb_kit.payloads import pack, unpack
from sim.cocotb_kit.streams import StreamDriver

Entry = dict[str, int]
"""Index, code and, for a weight, its row."""


def random_taps(config: EngineConfig, bits: int, tap_bits: int) -> list[Entry]:
    """A slice of a convolution: each weight's row is its slot, and ``tap`` is its tap."""
    entries: list[Entry] = []
    slot, tap, weight = 0, 0, False
    gap_bits = bits - 2 * tap_bits
    for _ in range(random.choice([1, 2, 3, 10, 30])):
        carry = int(weight)
        if random.random() < 0.2:
            skipped = random.randrange(1 << min(bits, 3))
            slot += carry + (skipped + int(tap_bits == 0) << gap_bits)
            entries.append({"index": skipped, "code": 0})
            weight = False
            continue
        new_tap = random.randrange(1 << 2 * tap_bits)
        gap = random.randrange(1 << gap_bits) if random.random() < 0.5 else 0
        slot += gap + int(weight and new_tap <= tap)
        tap, weight = new_tap, True
        entries.append({"index": gap << 2 * tap_bits | tap, "code": random.randrange(1, 1 << config.code_bits),
                        "row": slot, "tap": tap})
    return entries[:long_slice(config.length_bits)]


def random_slice(config: EngineConfig, bits: int) -> list[Entry]:
    """A slice with random rows, its skips in random portions; sometimes with padding behind, or nothing else."""
    entries: list[Entry] = []
    row, farthest = 0, random.choice([1, 1 << bits, config.acc_depth])
    for _ in range(random.choice([0, 1, 2, 3, 10, 30])):
        gap = random.randrange(farthest)
        if row + gap >= config.acc_depth:
            break
        units = gap >> bits
        while units:
            skipped = random.randint(1, min(units, 1 << bits))
            entries.append({"index": skipped - 1, "code": 0})
            units -= skipped
        row += gap + 1
        entries.append({"index": gap % (1 << bits), "code": random.randrange(1, 1 << config.code_bits), "row": row - 1})
    padding = [{"index": random.getrandbits(bits), "code": 0} for _ in range(random.choice([0, 0, 0, 1, 7]))]
    return (entries + padding)[:long_slice(config.length_bits)] or random_slice(config, bits)


def useful_taps(entries: list[Entry], job: dict[str, int], tap_bits: int) -> list[Entry]:
    """The entries of one word that take a cycle each in a convolution: the weights whose tap is inside."""
    return [entry for entry in entries if entry["code"]
            and job["tap_rows"] >> (entry["tap"] >> tap_bits) & 1
            and job["tap_cols"] >> (entry["tap"] & (1 << tap_bits) - 1) & 1]


def steps(entries: list[Entry]) -> list[Entry | None]:
    """The steps of one word, a cycle each: a weight, with or without a skip, or a skip alone."""
    found: list[Entry | None] = []
    for number, entry in enumerate(entries):
        if entry["code"]:
            found.append(entry)
        elif number + 1 == len(entries) or not entries[number + 1]["code"]:
            found.append(None)
    return found


class Layer:
    """Random slices, one behind the other in memory; between some lie entries that belong to no slice."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.mode = random.randrange(len(config.index_bits))
        each, bits = config.entries_per_word, config.index_bits[self.mode]
        memory: list[Entry] = []
        self.base = random.randrange(config.entry_depth // 2)
        self.jobs: list[dict[str, int]] = []
        self.slices: list[list[tuple[int, list[Entry | None]]]] = []
        # The pass's taps; their offsets; what is added to every row.
        self.tap_bits = random.choice([width for width in {0, 2, config.tap_bits} if 2 * width <= bits]) \
            if config.tap_bits else 0
        self.offsets = [random.randrange(config.acc_depth) for _ in range(config.taps)]
        while len(memory) < 600:
            entries = random_taps(config, bits, self.tap_bits) if config.tap_bits else random_slice(config, bits)
            memory += ({"index": random.getrandbits(bits), "code": random.getrandbits(config.code_bits)}
                       for _ in range(random.choice([0, 0, 0, 3])))
            first = self.base * each + len(memory)
            act = random.randrange(1, 1 << config.act_bits)
            job = {"start": first, "last": first % each + len(entries) - 1, "act": act}
            if config.tap_bits:
                inside = 1 << config.tap_bits
                job |= {"base": random.randrange(config.acc_depth),
                        "tap_rows": random.getrandbits(inside) if self.tap_bits else 1,
                        "tap_cols": random.getrandbits(inside) if self.tap_bits else 1}
            self.jobs.append(job)
            ends = [0, *range(each - first % each, len(entries), each), len(entries)]
            self.slices.append([((first + begin) // each, self.steps(entries[begin:end], job))
                                for begin, end in pairwise(ends)])
            memory += entries
        memory += [{"index": 0, "code": 0}] * (-len(memory) % each)
        layout = data.ArrayLayout(entry_layout(config, config.index_bits[-1]), each)
        bare = [{name: entry[name] for name in ("index", "code")} for entry in memory]
        self.words = [pack(layout, bare[place:place + each]) for place in range(0, len(bare), each)]
        assert self.base + len(self.words) <= config.entry_depth

    def bits(self) -> int:
        """The settings of the layer that the walker needs."""
        told = {}
        if len(self.config.index_bits) > 1:
            told["index_mode"] = self.mode
        if self.config.tap_bits:
            told["tap_bits"] = self.tap_bits
        return pack(pe_layer_layout(self.config), told)

    def steps(self, entries: list[Entry], job: dict[str, int]) -> list[Entry | None]:
        """The steps of a word, with the accumulators of its visits as rows."""
        if not self.config.tap_bits:
            return steps(entries)
        return [{**entry, "row": (job["base"] + entry["row"] - (self.offsets[entry["tap"]] if self.tap_bits else 0))
                 % (1 << row_bits(self.config))} for entry in useful_taps(entries, job, self.tap_bits)]


class Model:
    """When which visit is due: ``read_cycles`` after the reading of a word, or right behind the word before it.

    A word without steps passes the one before it while that takes its steps, but not the one before that.

    Attributes
    ----------
    late_cycles : int
        Cycles in which the walker could have taken a step and did not.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        walker = ScatterWalker if layer.config.tap_bits else Walker
        self.read_cycles, self.late_visits = walker.read_cycles(layer.config), walker.late_visits(layer.config)
        self.jobs = deque(zip(layer.jobs, layer.slices, strict=True))
        # Words of jobs taken, each with the earliest cycle of its first step, its activation and its steps.
        self.words: deque[tuple[int, int, int, list[Entry | None]]] = deque()
        self.due: dict[int, dict[str, int]] = {}
        # The cycles of the last word's reading and of its first step, if it had one; and of the last step.
        self.read_last = self.passed = self.busy_until = 0
        self.late_cycles = 0

    def take(self, cycle: int) -> None:
        job, words = self.jobs.popleft()
        self.words += ((address, cycle + 1 + self.read_cycles + number, job["act"], steps)
                       for number, (address, steps) in enumerate(words))

    def read(self, cycle: int, address: int) -> int:
        """A word is read; returns it."""
        assert self.words, f"cycle {cycle}: a word too many"
        expected, earliest, act, steps = self.words.popleft()
        assert address == expected, f"cycle {cycle}"
        free = max(self.passed, self.busy_until if steps else 0) + 1
        begin = max(cycle + self.read_cycles, free)
        self.late_cycles += begin - max(earliest, free)
        for number, entry in enumerate(steps):
            if entry is not None:
                self.due[begin + number] = {"row": entry["row"], "code": entry["code"], "act": act}
        self.read_last, self.passed = cycle, begin
        self.busy_until = max(self.busy_until, begin + len(steps) - 1)
        return self.layer.words[address - self.layer.base]

    def under_way(self, cycle: int) -> bool:
        """A visit is due that does not come out by itself, of jobs from before this cycle."""
        return bool(self.words) or self.read_last < cycle < max(self.due, default=0) - self.late_visits + 1

    def idle(self, cycle: int) -> bool:
        """All steps were taken before this cycle."""
        return not self.words and cycle > max(self.passed, self.busy_until)


async def walk(dut: Any, driver: StreamDriver, layer: Layer, *, hold_rate: float) -> int:
    """Runs a layer; returns its visits."""
    model, layout = Model(layer), visit_layout(layer.config)
    dut.layer.value = layer.bits()
    if layer.config.tap_bits:
        dut.taps__valid.value = 1
        for tap, offset in enumerate(layer.offsets):
            dut.taps__payload.value = pack(tap_write_layout(layer.config), {"tap": tap, "offset": offset})
            await RisingEdge(dut.clk)
        dut.taps__valid.value = 0
    sending = driver.start(layer.jobs)
    visits = cycle = hold = 0
    answer = random.getrandbits(len(dut.word))
    while model.jobs or not model.idle(cycle):
        cycle += 1
        hold = int(random.random() < (0.8 if hold else hold_rate))
        dut.hold.value = hold
        if hold and cycle > model.busy_until:
            # The drain reads biases.
            answer = random.getrandbits(len(dut.word))
        await RisingEdge(dut.clk)

        expected = model.due.pop(cycle, None)
        assert bool(dut.visits__valid.value) == (expected is not None), f"cycle {cycle}"
        if expected is not None:
            assert unpack(layout, int(dut.visits__payload.value)) == expected, f"cycle {cycle}"
            visits += 1
        # While the last visits come out, either will do.
        assert not (dut.empty.value and model.under_way(cycle)), f"cycle {cycle}"
        assert dut.empty.value or not model.idle(cycle), f"cycle {cycle}"
        if layer.config.deep_pipeline and dut.take.value:
            dut.word.value = answer
        if dut.read.value:
            assert not hold, f"cycle {cycle}"
            answer = model.read(cycle, int(dut.address.value))
        elif dut.ready.value:
            answer = random.getrandbits(len(dut.word))
        if not layer.config.deep_pipeline:
            dut.word.value = answer
        if dut.jobs__valid.value and dut.jobs__ready.value:
            model.take(cycle)
    await sending
    assert hold_rate or not model.late_cycles
    return visits


@bench()
async def useful_entries_are_visited(dut: Any) -> None:
    config = EngineConfig(**parameters())
    driver = StreamDriver(dut, "jobs", shape=job_layout(config))
    dut.hold.value = 0
    scramble(dut.word, dut.layer)
    if config.tap_bits:
        dut.taps__valid.value = 0
    await start(dut)
    visits = 0
    for idle, hold_rate in [(0.0, 0.0), (0.7, 0.0), (0.0, 0.2), (0.3, 0.1)] * 2:
        driver.idle = idle
        visits += await walk(dut, driver, Layer(config), hold_rate=hold_rate)
    assert visits > 1500, visits
