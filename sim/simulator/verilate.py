# SPDX-License-Identifier: Apache-2.0
"""Builds simulations with Verilator and cocotb, and keeps them in the user's cache directory."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from amaranth.lib import wiring

from nonzero.caches import cache_directory
from nonzero.child_process import call
from nonzero.errors import UserError
from nonzero.files import write_whole
from rtl.amaranth_private import as_used

from .compiling import Compilation, cocotb_root, compiler, verilator_root
from .emit import emit, fingerprint

KEPT_DAYS = 30
"""A build that was not used for this number of days is removed from the cache."""

VERILATOR_OPTIONS = (
    "--cc", "--prefix", "Vtop", "-Mdir", "objects",
    "-O3", "--x-assign", "unique", "--x-initial", "unique", "--timescale", "1ns/1ns",
    # Instances of a large module share their code, see `sim.simulator.merging`: they are not put into what surrounds
    # them, nor simplified together with it.
    "--inline-mult", "1", "-fno-dfg-scoped",
    # Yosys's output is not written to pass Verilator's lint.
    "-Wno-fatal",
)

WAVES = {".fst": "--trace-fst", ".vcd": "--trace"}
"""Verilator's option for each ending of a file of waveforms."""

FST_HEADERS = {"lz4.h": "liblz4-dev", "zlib.h": "zlib1g-dev"}
"""Headers that a simulation that writes FST needs, and Debian's packages of them."""

SHORT_RUNS = "-O1"
LONG_RUNS = "-O2"
"""Optimisation for long runs: it simulates a fifth faster than -O1, and takes half as long again to compile."""


class SimulationError(UserError):
    """A simulation could not be built, did not end, or one of its tests failed."""


@dataclass(frozen=True)
class Build:
    """A simulation that is ready to run; `sim.simulator.running.run` runs it.

    Attributes
    ----------
    directory : Path
        Holds the executable, the Verilog it was made from and nothing that a run writes to.
    top : str
        The top module's name.
    waves : str
        Ending of the waveforms that it can write, a key of `WAVES`; empty if it writes none.
    """

    directory: Path
    top: str
    waves: str

    @property
    def executable(self) -> Path:
        return self.directory / "simulation"


def build(component: wiring.Component, *, name: str = "dut", top: str | None = None,
          sources: Sequence[Path] = (), appended: str = "", parameters: Mapping[str, int] | None = None,
          waves: str = "", visible: bool | None = False, random_start: bool = True, long_runs: bool = False) -> Build:
    """Builds the simulation of a component, or finds it in the cache.

    Parameters
    ----------
    component : wiring.Component
        Not elaborated before; it is used up.
    name : str
        Name of the component's module in Verilog.
    random_start : bool
        Registers start with random bits until they are reset, memories until they are written; see
        `sim.simulator.emit.without_initial_values`. Otherwise all start as in an FPGA that was just configured.
    appended : str
        SystemVerilog that follows the component's.
    top, sources, parameters, waves, visible, long_runs
        See `build_verilog`.

    Raises
    ------
    UserError
        If a tool is missing.
    SimulationError
        If Verilator or the compiler refuses the design.
    """
    text = emitted(component, f"{name}-{random_start}", lambda: emit(component, name, random_start=random_start))
    return build_verilog(text + appended, top=top or name, sources=sources, parameters=parameters, waves=waves,
                         visible=visible, long_runs=long_runs)


def emitted(component: wiring.Component, label: str, write: Callable[[], str]) -> str:
    """The component's Verilog: from the cache, or written. With a large engine that takes longer than all the rest.

    Parameters
    ----------
    component : wiring.Component
        Not elaborated before; it is used up.
    label : str
        Part of a file's name: what decides the Verilog besides the component.
    write : callable
        Writes the Verilog; is called if the cache does not have it.
    """
    key = fingerprint(component)
    shortcut = cache_directory() / "verilog" / f"{key}-{label}.v"
    if key is not None and shortcut.exists():
        as_used(component)
        os.utime(shortcut)
        return shortcut.read_text()
    text = write()
    if key is not None:
        write_whole(shortcut, text.encode())
    return text


def build_verilog(text: str, *, top: str, sources: Sequence[Path] = (), parameters: Mapping[str, int] | None = None,
                  defines: Mapping[str, str] | None = None, main: Path | None = None, waves: str = "",
                  visible: bool | None = False, long_runs: bool = False, language: str = "") -> Build:
    """Builds the simulation of a design in Verilog, or finds it in the cache.

    Several processes may build at the same time; one of those that want the same design does the work.

    Parameters
    ----------
    text : str
        Verilog source.
    top : str
        Name of the top module; cocotb's ``dut``.
    sources : sequence of Path
        Further SystemVerilog files.
    parameters : mapping of str to int
        Parameters of the top module.
    defines : mapping of str to str
        Macros of the Verilog and of ``main``.
    main : Path, optional
        The C++ file with ``main``, instead of cocotb's. It gets the model as class ``Vtop``.
    waves : str
        The simulation can write waveforms, to files with this ending (a key of `WAVES`); it is slower then.
    visible : bool, optional
        Python sees the signals of all modules and not only those of the top module; it is slower then. None: only those
        that the sources mark as public; what Python could change is evaluated once more in each cycle.
    long_runs : bool
        It will run for minutes, which is worth a longer build.
    language : str
        The version of the language that the text is read as, ``1364-2005`` for instance; empty: Verilator's default.
    """
    # Without cocotb no Python accesses the signals.
    public = {True: ["--public-flat-rw"], False: ["--public-depth", "1"], None: []}[visible]
    seen = [] if main is not None else ["--vpi", *public]
    macros = [f"-D{name}={value}" for name, value in (defines or {}).items()]
    options = [*VERILATOR_OPTIONS, "--top-module", top, *seen,
               *(f"-G{parameter}={value}" for parameter, value in (parameters or {}).items()),
               *macros, *([WAVES[waves]] if waves else []), *(["--language", language] if language else [])]
    speed, tools = LONG_RUNS if long_runs else SHORT_RUNS, _tools(compiler())
    files = [*sources, *([main] if main is not None else [])]
    key = _hash(repr((options, speed, tools)).encode(), text.encode(), *(file.read_bytes() for file in files))
    builds = cache_directory() / "builds"
    result = Build(builds / f"{top}-{key}", top, waves)
    if waves == ".fst" and not result.executable.exists():
        check_fst()
    if not result.executable.exists():
        with _locked(builds / f"{result.directory.name}.lock"):
            if not result.executable.exists():
                _remove_old(builds)
                _remove_old(builds.parent / "verilog")
                make_simulation(result.directory, text, sources, options, speed, macros, main)
    os.utime(result.directory)
    return result


def make_simulation(directory: Path, text: str, sources: Sequence[Path], options: Sequence[str], speed: str,
          macros: Sequence[str], main: Path | None) -> None:
    """Builds in a directory beside the final one and moves the result there whole.

    Parameters
    ----------
    directory : Path
        The final one, which does not exist yet.
    text : str
        Verilog source.
    sources : sequence of Path
        Further SystemVerilog files.
    options : sequence of str
        Verilator's.
    speed : str
        The C++ compiler's option, `SHORT_RUNS` or `LONG_RUNS`.
    macros : sequence of str
        The C++ compiler's options for the macros of ``main``.
    main : Path or None
        The C++ file with ``main``, instead of cocotb's.

    Raises
    ------
    SimulationError
        If Verilator or the compiler refuses the design.
    """
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="unfinished-") as unfinished:
        place = Path(unfinished)
        objects = place / "objects"
        (place / "design.v").write_text(text)
        for source in sources:
            shutil.copy(source, place)
        verilator = str(verilator_root() / "bin" / "verilator_bin")
        _call("verilator_bin", [verilator, *options, *(source.name for source in sources), "design.v"], place)
        # Verilator's own run-time library takes ten seconds to compile and is the same for all designs.
        flags = [flag for flag in options if flag in WAVES.values()]
        library = directory.parent.parent / "library" / _hash(repr((speed, flags, _tools(compiler()))).encode())
        compilation = Compilation(objects, library, speed, macros, main)
        (objects / "steps.json").write_text(json.dumps(compilation.steps()))
        in_parallel = str(Path(__file__).with_name("in_parallel.py"))
        _call(compiler(), [sys.executable, "-I", in_parallel, "steps.json"], objects)
        compilation.keep()
        finished = place / "finished"
        finished.mkdir()
        (objects / "simulation").rename(finished / "simulation")
        (place / "design.v").rename(finished / "design.v")
        finished.rename(directory)


def _hash(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in contents)).hexdigest()[:24]


def _call(name: str, command: Sequence[str], directory: Path) -> None:
    status, output = call(command, directory, {**os.environ, "VERILATOR_ROOT": str(verilator_root())})
    if status != 0:
        errors = [line for line in output.splitlines() if "rror" in line][:20]
        shown = "\n".join(errors or output.splitlines()[-20:])
        raise SimulationError(f"{name} failed with status {status}:\n{shown}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock between processes; the operating system frees it even when the holder is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_old(directory: Path) -> None:
    """Removes builds that were not used for `KEPT_DAYS`, and what a killed build left behind."""
    for path in directory.glob("*"):
        if path.stat().st_mtime < time.time() - KEPT_DAYS * 86400:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def missing_fst_packages() -> list[str]:
    """Debian's packages that are missing to compile a simulation that writes FST."""
    return [package for header, package in FST_HEADERS.items() if subprocess.run(
        [compiler(), "-E", "-x", "c++", "-include", header, "-o", os.devnull, os.devnull],
        capture_output=True).returncode]


def check_fst() -> None:
    """Raises `UserError` if packages are missing to compile a simulation that writes FST."""
    missing = missing_fst_packages()
    if missing:
        raise UserError(f"FST waveforms need {' and '.join(missing)}: apt install {' '.join(missing)}; or name a file "
                        "that ends in .vcd")


@cache
def _tools(chosen: str) -> tuple[str, ...]:
    """Everything besides the sources that decides the result of a build with this compiler."""
    if shutil.which(chosen) is None:
        raise UserError(f"{chosen} is not installed and the simulation needs it: apt install g++")
    said = subprocess.run([chosen, "--version"], capture_output=True, text=True, check=True).stdout
    return (str(verilator_root()), version("verilator"), str(cocotb_root()), version("cocotb"), said.splitlines()[0])
