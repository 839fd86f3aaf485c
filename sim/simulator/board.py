# SPDX-License-Identifier: Apache-2.0
"""A board in simulation: its whole top level, from the pins on, at the end of a cable."""

import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rtl.config import EngineConfig
from rtl.integration.board_top import LONGEST_GAP_S, Top
from rtl.integration.boards import board_platform, read_board
from rtl.integration.uart import LEAST_DIVISOR

from .emit import emit_board
from .running import log_tail, simulation_command
from .verilate import Build, SimulationError, build_verilog, emitted

__all__ = ["SimulatedBoard", "build_board"]

GAP_CYCLES = 1 << 17
"""Cycles without a byte after which a simulated board forgets a packet. They pass in simulation when the line is quiet
for `rtl.integration.board_top.LONGEST_GAP_S`, in which a board's clock makes more of them than a simulation can."""

WAVES_TIMEOUT_S = 60
"""Seconds within which a simulation must have written its last waveforms."""


def build_board(name: str, config: EngineConfig, boot: bytes = b"", *, waves: str = "") -> Build:
    """Builds the simulation of a board, or finds it in the cache.

    It simulates the design that `rtl.build` gives the synthesis, with two exceptions: the UART has the least divisor (a
    byte takes 160 cycles), and `GAP_CYCLES`.

    Parameters
    ----------
    name : str
    config : EngineConfig
    boot : bytes
        Contents of the board's boot memory, see `rtl.integration.boot.Boot`; none if empty.
    waves : str
        See `sim.simulator.verilate.build_verilog`.

    Raises
    ------
    UserError
        If the board is unknown or a tool is missing.
    SimulationError
        If Verilator or the compiler refuses the design.
    """
    board = read_board(name)
    platform = board_platform(board)
    clock_mhz = board["clock_mhz"]
    top = Top(config, board["family"], board["oscillator_mhz"], clock_mhz, round(clock_mhz * 1e6) // LEAST_DIVISOR,
              board["leds"], boot, GAP_CYCLES)
    text = emitted(top, type(platform).__name__, lambda: emit_board(top, platform))
    here = Path(__file__).parent
    return build_verilog(text, top="board", sources=[here / "board.sv"], main=here / "board.cpp",
                         waves=waves, defines={"OSCILLATOR": f"{platform.default_clk}_0__io",
                                  "CYCLES_PER_BIT": str(LEAST_DIVISOR),
                                  "GAP_CYCLES": str(GAP_CYCLES), "GAP_MS": str(round(1000 * LONGEST_GAP_S)),
                                  **{what.upper(): _pin(port) for what, port in board["leds"].items()}})


def _pin(port: str) -> str:
    """Name of a port of the top level, for a LED of a board's file."""
    resource, number, *colour = port.split(".")
    return "__".join([f"{resource}_{number}", *colour, "io"])


class SimulatedBoard:
    """A board that runs in a process of its own, as a context manager; reset at the start, as after its configuration.

    Parameters
    ----------
    build : Build
        Result of `build_board`.
    seed : int
        Decides the random contents of memories and of registers without reset at the start.
    waves : Path, optional
        Write the waveforms there, until `close`; ``build`` must have been made with ``waves``.

    Attributes
    ----------
    path : str
        Its serial port, a pseudo-terminal. Any program may open it; the baud rate means nothing.

    Raises
    ------
    SimulationError
        If the simulation does not start.
    """

    def __init__(self, build: Build, *, seed: int = 1, waves: Path | None = None) -> None:
        self._waves = waves
        self._directory = tempfile.TemporaryDirectory(prefix="nonzero-")
        log = Path(self._directory.name) / "log"
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                simulation_command(build, seed=seed, waves=waves), cwd=self._directory.name, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors, process_group=0)  # Ctrl-C is for the process that opened it
        assert self._process.stdout is not None
        self.path = self._process.stdout.readline().decode().strip()
        if not self.path:
            self.close()
            raise SimulationError(log_tail("the simulated board did not start", log))

    def close(self) -> None:
        """Ends the simulation; harmless when it has ended."""
        if self._waves is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.stdin = None
            with suppress(subprocess.TimeoutExpired):  # it ends by itself, and writes the rest of the waveforms
                self._process.wait(timeout=WAVES_TIMEOUT_S)
        self._process.kill()
        self._process.communicate()
        self._directory.cleanup()

    def __enter__(self) -> "SimulatedBoard":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if kind is not None:
            self._waves = None  # not needed after an error
        self.close()
