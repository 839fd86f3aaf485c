# SPDX-License-Identifier: Apache-2.0
"""Names of devices: an engine in simulation, a whole board in simulation, or a board at a serial port."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from serial.tools import list_ports

from nonzero.errors import UserError
from rtl.config import PRESETS, EngineConfig
from rtl.config_file import read_engine
from rtl.integration.boards import board_names, read_board

__all__ = ["FORMS", "UART_BITS", "Target", "list_devices", "parse_target"]

FORMS = ("sim:PRESET, sim:FILE.toml, sim:BOARD[?preset=NAME, config=FILE.toml, baked=IMAGE], "
         "serial:PORT[?board=NAME, baud=N, clock_mhz=N, preset=NAME, config=FILE.toml; joined by &]")

LARGEST_BAUD = 100_000_000

UART_BITS = 10
"""Bits of a byte on the serial line, start and stop bit included."""


@dataclass(frozen=True)
class Target:
    """Where an engine is.

    Attributes
    ----------
    name : str
        The target as the user wrote it.
    config : EngineConfig or None
        None if the engine is to be asked.
    board : str or None
        The board to simulate.
    port : str or None
        The serial port.
    baud, clock_mhz : number or None
        Baud rate and clock of the board; None in the simulation of an engine alone.
    baked : Path or None
        Image in the bitstream of a board to simulate.
    waves : Path or None
        File for a simulation's waveforms, which ends in .fst or .vcd.
    bin_cycles : int
        Cycles of a bin in which the simulation of an engine alone notes what its PEs do; 0: it does not.
    """

    name: str
    config: EngineConfig | None = None
    board: str | None = None
    port: str | None = None
    baud: int | None = None
    clock_mhz: float | None = None
    baked: Path | None = None
    waves: Path | None = None
    bin_cycles: int = 0

    @property
    def engine_alone(self) -> bool:
        """Whether it is a simulation without a serial port; several of these may run at a time."""
        return self.board is None and self.port is None


def parse_target(name: str) -> Target:
    """Parses a device's name. Raises `UserError` for a name of no known form, and for an unknown preset, board or file
    in it.
    """
    kind, _, rest = name.partition(":")
    place, _, query = rest.partition("?")
    if kind not in ("sim", "serial") or not place:
        raise UserError(f"device must be {FORMS}; not '{name}'")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if kind == "serial":
        _check_keys(name, options, ("board", "baud", "clock_mhz", "preset", "config"))
        board = read_board(options["board"]) if "board" in options else {}
        return Target(name, _config(options, None), None, place,
                      int(_number(name, "baud", options.get("baud", board.get("baud", 1_000_000)), 1, LARGEST_BAUD)),
                      _number(name, "clock_mhz", options["clock_mhz"], 0.001, 10_000) if "clock_mhz" in options
                      else board.get("clock_mhz"))
    if place in board_names():
        _check_keys(name, options, ("preset", "config", "baked"))
        board = read_board(place)
        return Target(name, _config(options, board["preset"]), place, None, board["baud"], board["clock_mhz"],
                      Path(options["baked"]) if "baked" in options else None)
    _check_keys(name, options, ())
    if place not in PRESETS and not place.endswith(".toml"):
        raise UserError(f"device 'sim:' must be followed by a preset ({', '.join(PRESETS)}), a board "
                        f"({', '.join(board_names())}) or FILE.toml, not '{place}'")
    return Target(name, read_engine(*((place, None) if place in PRESETS else ("default", Path(place)))))


def _config(options: dict[str, str], preset: str | None) -> EngineConfig | None:
    chosen = options.get("preset", preset)
    file = Path(options["config"]) if "config" in options else None
    return None if chosen is None and file is None else read_engine(chosen or "default", file)


def _check_keys(name: str, options: dict[str, str], known: tuple[str, ...]) -> None:
    problems = [f"device '{name}': unknown key '{key}'; known are {', '.join(known) or 'none'}"
                for key in options if key not in known]
    if problems:
        raise UserError(problems)


def _number(name: str, key: str, value: str | float, least: float, most: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise UserError(f"device '{name}': {key} must be {least:g} to {most:g}, not '{value}'")
    return number


def list_devices() -> list[tuple[str, str]]:
    """Names of the devices there are, each with what it is."""
    ports = [(f"serial:{port.device}", port.description) for port in sorted(list_ports.comports())]
    return [*ports, *((f"sim:{name}", f"engine of {config.pes} PEs, RTL simulation")
                      for name, config in PRESETS.items()),
            *((f"sim:{name}", f"board {read_board(name)['part']} with its serial port, RTL simulation")
              for name in board_names())]
