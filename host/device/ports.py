# SPDX-License-Identifier: Apache-2.0
"""The ways to an engine: a serial port, or a simulation.

A serial port needs neither Verilator nor torch. So simulations are not imported here: `sim.simulator` registers the one
that it has, when a target asks for the first simulation.
"""

import importlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from host.device.serial_port import SerialPort
from host.device.target import Target
from host.image.image import read_image
from rtl.protocol import load_packets

__all__ = ["Port", "RecordingPort", "Simulator", "build_simulation", "open_port", "register_simulator", "simulator"]

BOARD_SIMULATION_TIMEOUT_S = 20.0
"""A simulated board takes thousands of times longer than a board."""

SIMULATOR = "sim.simulator.ports"
"""The module that registers the simulator when it is imported."""


class Port(Protocol):
    """Carries packets to an engine and brings its responses back, in order."""

    def exchange(self, requests: Sequence[bytes], /) -> list[bytes]:
        """Sends the packets ``requests``, and returns the response to each, in the same order.

        Raises
        ------
        UserError
            If the engine does not answer or the port fails (`DeviceError`), or the simulation dies (`SimulationError`).
        """

    def abort(self) -> None:
        """Ends an exchange in another thread at once, with an error."""


@runtime_checkable
class RecordingPort(Protocol):
    """The port of a target with ``bin_cycles``: its engine records what the PEs do."""

    def pe_lines(self) -> list[str]:
        """Ends the engine; the lines for `host.device.pe_trace.read_bins`."""


class Simulator(Protocol):
    """Builds and opens the simulations of targets."""

    def build(self, target: Target, boot: bytes) -> Any:
        """Builds what the target simulates, or finds it in a cache.

        Parameters
        ----------
        target : Target
            With its configuration.
        boot : bytes
            Contents of the boot memory of a board; none if empty.

        Raises
        ------
        UserError
            If a tool is missing or the design is refused.
        """

    def open_engine(self, build: Any, target: Target, seed: int, opened: ExitStack) -> Port:
        """Starts the simulation of an engine alone.

        Parameters
        ----------
        build
            Result of `build`.
        target : Target
        seed : int
            Decides what memories and registers without reset hold at the start.
        opened : ExitStack
            Closes the simulation.
        """

    def open_board(self, build: Any, target: Target, seed: int, opened: ExitStack) -> str:
        """Starts the simulation of a board; returns the path of its serial port.

        Parameters
        ----------
        build, target, seed, opened
            See `open_engine`.
        """

    def check_waves(self, path: Path) -> None:
        """Raises `UserError` if a simulation could not write the file of waveforms ``path``."""


_registered: list[Simulator] = []


def register_simulator(found: Simulator) -> None:
    """Uses the simulator ``found`` for all targets that are opened from now on."""
    _registered[:] = [found]


def simulator() -> Simulator:
    """The registered simulator; the project's own if there is none yet."""
    if not _registered:
        importlib.import_module(SIMULATOR)
    return _registered[0]


def build_simulation(target: Target) -> Any:
    """Builds what ``target`` simulates, or finds it in the cache; None for a serial port. Raises `UserError`."""
    if target.port is not None:
        return None
    assert target.config is not None
    boot = b""
    if target.baked is not None:
        boot = b"".join(load_packets(read_image(target.baked, target.config).engine, target.config.packet_bytes))
    return simulator().build(target, boot)


def open_port(target: Target, opened: ExitStack, *, timeout_s: float, retries: int, seed: int) -> Port:
    """Opens the way to an engine.

    Parameters
    ----------
    target : Target
    opened : ExitStack
        Closes the port, and the simulation behind it.
    timeout_s : float
        Seconds without a byte from a serial port after which a response counts as lost.
    retries : int
        How often a serial port sends a packet again that was lost or damaged.
    seed : int
        Decides what the memories of a simulation hold at the start.

    Raises
    ------
    UserError
        If a simulation cannot be built or started, or the serial port cannot be opened.
    """
    path, baud = target.port, target.baud
    if path is None:
        build = build_simulation(target)
        if target.engine_alone:
            return simulator().open_engine(build, target, seed, opened)
        path = simulator().open_board(build, target, seed, opened)
        timeout_s = max(timeout_s, BOARD_SIMULATION_TIMEOUT_S)
    assert baud is not None
    port = SerialPort(path, baud, timeout_s=timeout_s, retries=retries)
    opened.callback(port.close)
    return port
