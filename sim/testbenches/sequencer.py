# SPDX-License-Identifier: Apache-2.0
"""The sequencer among a program, a scan and a drain that each take as long as they like."""

import random
from typing import Any

from cocotb.triggers import ClockCycles, RisingEdge

from sim.cocotb_kit.harness import bench, start

SETTLE_CYCLES = 5
"""Most cycles from the last thing that the sequencer waits for to its next step."""


def duration() -> int:
    return random.choice([1, 1, 2, 3, random.randint(1, 40)])


def descriptors(dut: Any, layers: int) -> list[int]:
    return [random.getrandbits(len(dut.program__next)) for _ in range(layers)]


class Surroundings:
    """Stands for all units that the sequencer directs; fails if things happen in a wrong order.

    The program's items are descriptor 0, codebook 0, descriptor 1 and so on; ``place`` counts those read since the
    program was rewound. A layer is first scanned and then drained, once in each inference.

    Attributes
    ----------
    inferences : int
        Inferences that have ended with the last layer drained.
    ready, running : bool
        The sequencer waits for a run; an inference runs.
    """

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.inferences = 0
        self.forget()

    def forget(self) -> None:
        """The state after a reset."""
        self.ready = self.running = self.cleared = self.shifting = False
        self.place = self.program_left = self.drain_left = self.scan_left = 0
        self.scanned = self.drained = -1
        self.dut.program__busy.value = self.dut.drain__busy.value = 0
        self.dut.quiet.value = 1
        self.load([])

    def load(self, descriptors: list[int]) -> None:
        """Another image is in the memories; none if it is empty."""
        self.descriptors = descriptors
        self.fetched: int | None = None
        self.waited = 0
        self.dut.loaded.value = bool(descriptors)
        self.dut.layers.value = len(descriptors) or random.getrandbits(len(self.dut.layers))

    async def step(self, *, run: bool = False) -> None:
        """One cycle, in which an inference is started if ``run``."""
        self.dut.inferences__run.value = run
        await RisingEdge(self.dut.clk)
        self._watch_state(run)
        self._watch_program()
        self._watch_drain()
        self._watch_start(run)
        self._go_on()

    async def steps(self, count: int) -> None:
        for _ in range(count):
            await self.step()

    def _watch_state(self, run: bool) -> None:
        """The sequencer's status outputs."""
        dut, layers = self.dut, len(self.descriptors)
        others_wait = self.program_left == self.drain_left == self.scan_left == 0
        self.ready = bool(dut.inferences__ready.value)
        if self.ready:
            assert others_wait and self.cleared and layers and self.place == 2 and self.fetched == 0
        assert self.ready or not run
        if self.running and not dut.inferences__running.value:
            assert others_wait and self.drained == layers - 1
            self.running = False
            self.inferences += 1
        assert dut.inferences__running.value == self.running
        if self.ready or self.running:
            assert dut.inferences__settled.value
        elif self.program_left or self.drain_left or layers:
            assert not dut.inferences__settled.value
        self.waited = self.waited + 1 if others_wait and not run else 0
        if self.waited > SETTLE_CYCLES:
            assert dut.inferences__settled.value and not self.running and self.ready == bool(layers)

    def _watch_program(self) -> None:
        dut, layers = self.dut, len(self.descriptors)
        self.fetching, load_tables = bool(dut.program__fetch.value), bool(dut.program__load_tables.value)
        self.asked = self.fetching or load_tables
        assert self.program_left == 0 or not (self.asked or dut.program__rewind.value)
        if dut.program__rewind.value:
            assert not self.running or self.drained == layers - 1
            self.place = 0
        if load_tables:
            # The walkers need that of the layer before until its scan has ended.
            assert self.place % 2 == 1 and self.scan_left == 0
            self.place += 1
        if self.fetching:
            assert self.place % 2 == 0 and self.place < 2 * layers
            self.fetched = self.place // 2
            self.place += 1

    def _watch_drain(self) -> None:
        dut = self.dut
        self.drain_started = bool(dut.drain__start.value)
        if self.drain_started:
            assert self.drain_left == 0 and dut.drain__clear.value != self.cleared
            if self.cleared:
                assert self.running and self.scan_left == 0 and self.drained == self.scanned - 1
                self.drained += 1
            self.cleared = True
        if self.running and self.scanned >= 0:
            assert int(dut.scan__layer.value) == self.descriptors[self.scanned]

    def _watch_start(self, run: bool) -> None:
        if run:
            self.running, self.scanned, self.drained = True, -1, -1
        self.started = bool(self.dut.scan__start.value)
        if self.started:
            # The layer before is being drained; this one's descriptor is there, its codebook at least on its way.
            assert self.running and self.scan_left == 0 and self.program_left == 0
            assert self.drained == self.scanned
            self.scanned += 1
            assert int(self.dut.program__next.value) == self.descriptors[self.scanned]
            assert self.place >= 2 * self.scanned + 2

    def _go_on(self) -> None:
        """The inputs of the next cycle."""
        dut = self.dut
        dut.quiet.value = self.scan_left == 0
        self.scan_left = duration() if self.started else max(0, self.scan_left - 1)
        self.drain_left = duration() if self.drain_started else max(0, self.drain_left - 1)
        self.program_left = duration() if self.asked else max(0, self.program_left - 1)
        dut.drain__busy.value, dut.program__busy.value = self.drain_left > 0, self.program_left > 0
        # A descriptor arrives in parts.
        self.shifting = (self.shifting or self.fetching) and self.program_left > 0
        if self.shifting or self.fetched is None:
            dut.program__next.value = random.getrandbits(len(dut.program__next))
        else:
            dut.program__next.value = self.descriptors[self.fetched]


async def inferences(surroundings: Surroundings, count: int) -> None:
    """Runs ``count`` inferences, each some time after the sequencer is ready, and waits for the last."""
    before = surroundings.inferences
    for _ in range(count):
        while not surroundings.ready:
            await surroundings.step()
        await surroundings.steps(random.choice([0, 0, 1, 8]))
        await surroundings.step(run=True)
        await surroundings.step()
    while surroundings.running:
        await surroundings.step()
    assert surroundings.inferences == before + count


async def reset(surroundings: Surroundings) -> None:
    dut = surroundings.dut
    dut.rst.value = 1
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
    surroundings.forget()
    await surroundings.steps(random.choice([0, 3, 60]))


@bench()
async def layers_run_in_order(dut: Any) -> None:
    surroundings = Surroundings(dut)
    await start(dut)
    for _ in range(60):
        for _ in range(random.randint(1, 3)):
            surroundings.load(descriptors(dut, random.choice([1, 1, 2, 3, 6])))
            await inferences(surroundings, random.randint(1, 4))
            while not surroundings.ready:
                await surroundings.step()
            # An image that is replaced ends with a reset.
            await reset(surroundings)
        # A reset may come at any time.
        surroundings.load(descriptors(dut, 4))
        await surroundings.steps(random.randint(1, 40))
        if surroundings.ready:
            await surroundings.step(run=True)
            await surroundings.steps(random.randint(1, 60))
        await reset(surroundings)
