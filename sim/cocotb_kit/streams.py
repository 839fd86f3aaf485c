# SPDX-License-Identifier: Apache-2.0
"""Drivers and monitors of Amaranth streams, and the scoreboard that decides whether a bench has passed."""

import random
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, Event, FallingEdge, First, RisingEdge

from .payloads import pack, unpack


class StreamDriver:
    """Offers items to an input stream, with random pauses between them.

    Parameters
    ----------
    dut : handle
        The module, with clock ``clk``.
    name : str
        The stream's name, for instance ``i``, or ``pe__acts`` for one inside another interface.
    shape : ShapeLike, optional
        The payload's shape; items are then Python values as `sim.cocotb_kit.payloads.pack` takes them. Otherwise they
        are the payload's bits as unsigned integers.
    idle : float
        Probability that ``valid`` stays low for a cycle although there is an item, 0 to below 1.
    """

    def __init__(self, dut: Any, name: str, *, shape: Any = None, idle: float = 0.0) -> None:
        self.clk = dut.clk
        self.payload = getattr(dut, f"{name}__payload")
        self.valid = getattr(dut, f"{name}__valid")
        self.ready = getattr(dut, f"{name}__ready")
        self.name = name
        self.shape = shape
        self.idle = idle
        self.random = random.Random(f"{cocotb.RANDOM_SEED} {name}")
        self.valid.value = 0
        self.payload.value = 0

    async def send(self, items: Iterable[Any]) -> None:
        """Sends ``items`` in order; returns after the last was accepted. One call at a time."""
        width = len(self.payload)
        for item in items:
            bits = item if self.shape is None else pack(self.shape, item)
            while self.idle and self.random.random() < self.idle:
                # A payload that is not valid means nothing, so it is a different one in every cycle.
                self.payload.value = self.random.getrandbits(width)
                await RisingEdge(self.clk)
            self.payload.value = bits
            self.valid.value = 1
            await RisingEdge(self.clk)
            while not self.ready.value:
                await RisingEdge(self.clk)
            self.valid.value = 0
            self.payload.value = self.random.getrandbits(width)

    def start(self, items: Iterable[Any]) -> Any:
        """Sends ``items`` in the background; returns the task, which can be awaited."""
        return cocotb.start_soon(self.send(items))


class StreamMonitor:
    """Takes the items of an output stream, with random stalls, and checks the stream's rules.

    Fails the test if ``valid`` falls before the item was accepted, or the payload changes while it waits.

    Parameters
    ----------
    dut, name, shape
        See `StreamDriver`.
    stall : float
        Probability that ``ready`` is low in a cycle, 0 to below 1.
    on_item : callable, optional
        Called with each item.

    Attributes
    ----------
    items : list
        Everything received.
    cycles : list of int
        For each item the clock cycle in which it was accepted, counted from the monitor's start.
    """

    def __init__(self, dut: Any, name: str, *, shape: Any = None, stall: float = 0.0,
                 on_item: Callable[[Any], None] | None = None) -> None:
        self.clk = dut.clk
        self.rst = dut.rst
        self.payload = getattr(dut, f"{name}__payload")
        self.valid = getattr(dut, f"{name}__valid")
        self.ready = getattr(dut, f"{name}__ready")
        self.name = name
        self.shape = shape
        self.stall = stall
        self.on_item = on_item
        self.random = random.Random(f"{cocotb.RANDOM_SEED} {name}")
        self.items: list[Any] = []
        self.cycles: list[int] = []
        self.ready.value = 0
        self.task = cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        ready = False
        waiting: int | None = None
        cycle = 0
        while True:
            await RisingEdge(self.clk)
            if self.rst.value:
                waiting = None
            elif self.valid.value:
                bits = int(self.payload.value)
                assert waiting in (None, bits), (
                    f"{self.name}: the payload changed from {waiting:#x} to {bits:#x} before it was accepted")
                waiting = bits
                if ready:
                    waiting = None
                    self._take(bits, cycle)
            else:
                assert waiting is None, f"{self.name}: valid fell before the item {waiting:#x} was accepted"
            cycle += 1
            ready = self.random.random() >= self.stall
            self.ready.value = ready

    def _take(self, bits: int, cycle: int) -> None:
        item = bits if self.shape is None else unpack(self.shape, bits)
        self.items.append(item)
        self.cycles.append(cycle)
        if self.on_item is not None:
            self.on_item(item)


async def take(dut: Any, name: str, count: int, *, stall: float = 0.0) -> list[int]:
    """Takes exactly ``count`` items of an output stream, and none before or after; checks the rules like a monitor.

    Parameters
    ----------
    dut, name, stall
        See `StreamMonitor`. ``ready`` is low when this returns, but nothing drives it before the first call.
    count : int

    Returns
    -------
    list of int
        The payloads' bits.
    """
    payload, valid, ready = (getattr(dut, f"{name}__{part}") for part in ("payload", "valid", "ready"))
    items: list[int] = []
    waiting: int | None = None
    while len(items) < count:
        taken = random.random() >= stall
        ready.value = taken
        await RisingEdge(dut.clk)
        offered = int(payload.value) if valid.value else None
        assert waiting in (None, offered), f"{name}: {waiting:#x} was not held until it was accepted"
        waiting = None if taken else offered
        if taken and offered is not None:
            items.append(offered)
    ready.value = 0
    return items


class Scoreboard:
    """Compares the items of a monitor with the expected ones, in order; an asynchronous context manager.

    At the end of the context it waits until all have come, and fails if one is missing or another follows. A
    wrong item fails the test at once::

        monitor = StreamMonitor(dut, "o", stall=0.3)
        async with Scoreboard(monitor, expected):
            await driver.send(items)

    Parameters
    ----------
    monitor : StreamMonitor
    expected : sequence
        At least one item, or a device that does nothing would pass.
    patience_cycles : int
        Clock cycles without any item after which the rest counts as missing.
    linger_cycles : int
        Clock cycles to wait for an item too many.

    Raises
    ------
    ValueError
        If nothing is expected.
    AssertionError
        If what came is not what was expected.
    """

    def __init__(self, monitor: StreamMonitor, expected: Sequence[Any], *, patience_cycles: int = 1000,
                 linger_cycles: int = 50) -> None:
        if not expected:
            raise ValueError(f"the scoreboard of {monitor.name} expects nothing, so it could not fail")
        self.monitor = monitor
        self.expected = list(expected)
        self.patience_cycles = patience_cycles
        self.linger_cycles = linger_cycles
        self.seen = 0
        self.arrival = Event()
        monitor.on_item = self._compare

    def _compare(self, item: Any) -> None:
        name, place = self.monitor.name, self.seen
        assert place < len(self.expected), f"{name}: {item!r} came after all {place} expected items"
        expected = self.expected[place]
        assert item == expected, f"{name}: item {place} is {item!r}, expected {expected!r}"
        self.seen += 1
        self.arrival.set()

    async def __aenter__(self) -> "Scoreboard":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        if error is None:
            await self.finish()

    async def finish(self) -> None:
        """Waits for the rest; see the class. The context manager calls it."""
        clk = self.monitor.clk
        while self.seen < len(self.expected):
            self.arrival.clear()
            before = self.seen
            await First(self.arrival.wait(), ClockCycles(clk, self.patience_cycles))
            assert self.seen > before, (
                f"{self.monitor.name}: {self.seen} of {len(self.expected)} expected items came; nothing in "
                f"the last {self.patience_cycles} cycles, next would be {self.expected[self.seen]!r}")
        await ClockCycles(clk, self.linger_cycles)
        await FallingEdge(clk)
