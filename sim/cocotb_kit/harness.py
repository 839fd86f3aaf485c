# SPDX-License-Identifier: Apache-2.0
"""The beginning of every bench: its parameters, the clock, the reset and a time-out that is always armed."""

import functools
import json
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge

CLOCK_NS = 10
"""Period of the simulated clock."""


def bench(*, cycles: int = 100_000) -> Callable[[Callable[..., Awaitable[None]]], Any]:
    """Makes a coroutine function a cocotb test that fails after ``cycles`` clock cycles."""
    def decorate(function: Callable[..., Awaitable[None]]) -> Any:
        return cocotb.test(timeout_time=cycles * CLOCK_NS, timeout_unit="ns")(function)
    return decorate


@functools.cache
def parameters() -> dict[str, Any]:
    """The parameters that the runner gave this bench with ``run(..., parameters=...)``."""
    found = json.loads(os.environ["NONZERO_BENCH_PARAMETERS"])
    assert isinstance(found, dict)
    return found


async def start(dut: Any, *, reset_cycles: int = 2) -> None:
    """Starts the clock ``clk`` and resets the design with ``rst``; returns between two clock edges.

    Make the drivers and monitors before, since every input is random until something drives it.

    Parameters
    ----------
    dut : cocotb handle
        The top module of the simulation.
    reset_cycles : int
        Clock cycles of the reset, at least 1.
    """
    dut.rst.value = 1
    Clock(dut.clk, CLOCK_NS, unit="ns").start(start_high=False)
    await ClockCycles(dut.clk, reset_cycles)
    await FallingEdge(dut.clk)
    dut.rst.value = 0


def scramble(*signals: Any) -> None:
    """Drives inputs that mean nothing in this cycle, each with random bits."""
    for signal in signals:
        signal.value = random.getrandbits(len(signal))
