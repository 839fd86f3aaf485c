# SPDX-License-Identifier: Apache-2.0
"""Runs cocotb tests in a built simulation, and raises an error with the failures."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import find_libpython
from cocotb_tools import config

from .verilate import Build, SimulationError

LOG_LINES = 40
"""Lines from the end of a failed simulation's log that an error shows."""


def run(build: Build, bench: str, *, tests: Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None, seed: int = 1, timeout_s: float = 300,
        waves: Path | None = None) -> list[str]:
    """Runs the cocotb tests of a bench; returns the names of those that passed, which is all of them.

    Parameters
    ----------
    build : Build
    bench : str
        The bench's module, for instance ``sim.testbenches.queue``.
    tests : sequence of str, optional
        Names of the tests to run; all of the bench's if omitted.
    parameters : mapping, optional
        Parameters of the bench, see `sim.cocotb_kit.harness.parameters`; must survive JSON.
    seed : int
        1 to 2**31 - 1. Decides the random contents at the start and the bench's `random`.
    timeout_s : float
        Seconds of real time after which the simulation is killed.
    waves : Path, optional
        Write the waveforms there; ``build`` must have been made with ``waves``.

    Raises
    ------
    SimulationError
        If a test failed, none ran, a named one is missing, or the simulation crashed or did not end in time.
    """
    with tempfile.TemporaryDirectory(prefix="nonzero-") as temporary:
        directory = Path(temporary)
        results, log = directory / "results.xml", directory / "log"
        environment = simulation_environment(build, bench, tests=tests, parameters=parameters, seed=seed)
        environment["COCOTB_RESULTS_FILE"] = str(results)
        with log.open("w") as output:
            command = simulation_command(build, seed=seed, waves=waves)
            try:
                status = subprocess.run(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=output, stderr=subprocess.STDOUT, timeout=timeout_s).returncode
            except subprocess.TimeoutExpired:
                message = f"{bench} (seed {seed}) did not end within {timeout_s:g} s"
                raise SimulationError(log_tail(message, log)) from None
        if not results.exists():
            message = f"{bench} (seed {seed}) ended with status {status} and without results"
            raise SimulationError(log_tail(message, log))
        passed, failures = read_results(results)
        if failures or status != 0:
            causes = "\n".join(f"{test}: {cause}" for test, cause in failures.items())
            message = f"{bench} (seed {seed}) failed with status {status}:\n{causes}"
            raise SimulationError(log_tail(message, log))
    # A parametrized test is called name/parameter=value.
    missing = set(tests or ()) - {test.split("/")[0] for test in passed}
    if missing or not passed:
        raise SimulationError(f"{bench} has no test called {', '.join(sorted(missing)) or 'anything'}")
    return passed


def read_results(path: Path) -> tuple[list[str], dict[str, str]]:
    """Reads ``path``, cocotb's result file (xUnit XML): names of the passed tests, causes of the others by name."""
    passed: list[str] = []
    failures: dict[str, str] = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = case.get("name", "")
        problems = [child for child in case if child.tag in ("failure", "error", "skipped")]
        if problems:
            texts = [problem.get("message") or problem.get("error_msg") or problem.text or problem.tag
                     for problem in problems]
            failures[name] = "; ".join(texts)
        else:
            passed.append(name)
    return passed, failures


def simulation_command(build: Build, *, seed: int, waves: Path | None = None,
                       plusargs: Mapping[str, int] | None = None) -> list[str]:
    """The command line of a simulation.

    Parameters
    ----------
    build : Build
    seed : int
        Decides what registers and memories hold at the start, 1 to 2**31 - 1.
    waves : Path, optional
        Write the waveforms there; ``build`` must have been made with ``waves``.
    plusargs : mapping of str to int, optional
        Values that the simulation's Verilog reads by ``$value$plusargs``.

    Raises
    ------
    ValueError
        For a seed out of range, or waveforms that the build cannot write.
    """
    if waves is not None and not build.waves:
        raise ValueError("waveforms need a build with waves")
    if not 1 <= seed < 1 << 31:
        raise ValueError(f"seed must be from 1 to 2**31 - 1, not {seed}")
    traced = ["--trace", "--trace-file", str(waves.absolute())] if waves is not None else []
    return [str(build.executable), *traced, "+verilator+rand+reset+2", f"+verilator+seed+{seed}",
            *(f"+{name}={value}" for name, value in (plusargs or {}).items())]


def simulation_environment(build: Build, bench: str, *, tests: Sequence[str] | None = None,
                           parameters: Mapping[str, Any] | None = None, seed: int) -> dict[str, str]:
    """The environment that makes the simulation load this Python, cocotb and the bench.

    Parameters
    ----------
    build : Build
    bench : str
        Name of the module of cocotb tests.
    tests : sequence of str, optional
        Names of the tests to run; None: all.
    parameters : mapping, optional
        Values for the bench (`sim.cocotb_kit.harness.parameters`), which JSON can hold.
    seed : int
        Seed of cocotb's random numbers.

    Returns
    -------
    dict
        All environment variables.
    """
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "COCOTB_ANSI_OUTPUT": "0",
        "COCOTB_RANDOM_SEED": str(seed),
        "COCOTB_TEST_MODULES": bench,
        "COCOTB_TOPLEVEL": build.top,
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "GPI_USERS": f"{_libpython()};{config.pygpi_entry_point()}",
        "NONZERO_BENCH_PARAMETERS": json.dumps(dict(parameters or {})),
        "PYGPI_PYTHON_BIN": sys.executable,
        "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)]),
        "TOPLEVEL_LANG": "verilog",
    }
    if tests is not None:
        environment["COCOTB_TEST_FILTER"] = rf"\.({'|'.join(map(re.escape, tests))})(/.*)?$"
    return environment


@cache
def _libpython() -> str:
    library = find_libpython.find_libpython()
    if library is None:
        raise SimulationError(f"{sys.executable} has no shared library (libpython), which cocotb needs")
    return str(library)


def log_tail(message: str, log: Path) -> str:
    """The text ``message``, followed by the end of a simulation's log, the file ``log``."""
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return "\n".join([message, "The log ends with:", *lines])
