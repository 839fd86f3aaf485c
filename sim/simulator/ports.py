# SPDX-License-Identifier: Apache-2.0
"""Lets the driver open simulations: registers Verilator with `host.device.ports` when it is imported."""

from contextlib import ExitStack
from pathlib import Path

from host.device.ports import Port, register_simulator
from host.device.target import Target
from rtl.engine.engine import Engine

from .board import SimulatedBoard, build_board
from .link import SimulationLink, build_link
from .verilate import Build, check_fst

ANSWER_BYTES = 16
"""Bytes of an answer beside the payload of a packet, at most."""


class Verilator:
    """Simulations by Verilator; the methods are those of `host.device.ports.Simulator`."""

    def build(self, target: Target, boot: bytes) -> Build:
        """Builds the board, or the engine alone if the target has none. See `host.device.ports.Simulator.build`.

        Parameters
        ----------
        target : Target
            With its configuration.
        boot : bytes
            Contents of the boot memory of a board; none if empty.
        """
        assert target.config is not None
        waves = target.waves.suffix if target.waves is not None else ""
        if target.board is not None:
            return build_board(target.board, target.config, boot, waves=waves)
        return build_link(Engine(target.config), capacity_bytes=target.config.packet_bytes + ANSWER_BYTES, waves=waves,
                          record_pes=target.bin_cycles > 0)

    def open_engine(self, build: Build, target: Target, seed: int, opened: ExitStack) -> Port:
        """Starts the simulation of an engine alone. See `host.device.ports.Simulator.open_engine`.

        Parameters
        ----------
        build : Build
            Result of `build`.
        target : Target
        seed : int
            Decides what memories and registers without reset hold at the start.
        opened : ExitStack
            Closes the simulation.
        """
        return opened.enter_context(SimulationLink(build, seed=seed, waves=target.waves, bin_cycles=target.bin_cycles))

    def open_board(self, build: Build, target: Target, seed: int, opened: ExitStack) -> str:
        """Starts the simulation of a board; returns the path of its serial port.

        Parameters
        ----------
        build : Build
            Result of `build`.
        target : Target
        seed : int
            Decides what memories and registers without reset hold at the start.
        opened : ExitStack
            Closes the simulation.
        """
        return opened.enter_context(SimulatedBoard(build, seed=seed, waves=target.waves)).path

    def check_waves(self, path: Path) -> None:
        """Raises `UserError` if ``path`` ends in .fst and the headers that FST needs are missing."""
        if path.suffix == ".fst":
            check_fst()


register_simulator(Verilator())
