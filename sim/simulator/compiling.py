# SPDX-License-Identifier: Apache-2.0
"""Compiles the C++ that Verilator writes.

Verilator's makefiles cannot be used: make splits paths at spaces, and takes flags from whoever calls it. So the
compiler is called by whole arguments, with the flags that the makefiles give it.
"""

import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nonzero.errors import UserError

__all__ = ["Compilation", "cocotb_root", "compiler", "installed", "verilator_root"]

SWITCHES = ("VM_COVERAGE", "VM_TIMING", "VM_TRACE", "VM_TRACE_FST", "VM_TRACE_VCD", "VM_TRACE_SAIF")

FST_LIBRARIES = ("-llz4", "-lz")

Steps = list[list[list[str]]]
"""Command lines, run in the directory of Verilator's output; those of a step need nothing of one another."""


@dataclass(frozen=True)
class Compilation:
    """Steps that make the executable ``simulation`` of a design that Verilator has read (``--prefix Vtop``).

    Attributes
    ----------
    objects : Path
        Verilator's output, where the executable comes to lie.
    library : Path
        Holds objects of Verilator's run-time library that were compiled before, with the same options.
    speed : str
        The compiler's option for what runs often.
    macros : sequence of str
        Options that define what ``main`` reads.
    main : Path, optional
        The C++ file with ``main``; None: cocotb's.
    """

    objects: Path
    library: Path
    speed: str
    macros: Sequence[str] = ()
    main: Path | None = None

    def steps(self) -> Steps:
        """The compiler's calls."""
        found = _variables(self.objects / "Vtop_classes.mk")
        include = verilator_root() / "include"
        flags = ["-I.", f"-I{include}", f"-I{include / 'vltstd'}", "-DVERILATOR=1", "-DVM_SC=0",
                 *(f"-D{name}={found[name][0]}" for name in SWITCHES), *self.macros]
        often = found["VM_CLASSES_FAST"] + found["VM_SUPPORT_FAST"]
        seldom = found["VM_CLASSES_SLOW"] + found["VM_SUPPORT_SLOW"]
        runtime = found["VM_GLOBAL_FAST"] + found["VM_GLOBAL_SLOW"]

        def compiled(source: Path | str, name: str, *options: str) -> list[str]:
            return [compiler(), *options, *flags, "-c", str(source), "-o", f"{name}.o"]

        first = [compiled(self.main or cocotb_root() / "share" / "lib" / "verilator" / "verilator.cpp", "main",
                          self.speed),
                 *(compiled(include / f"{name}.cpp", name, self.speed) for name in runtime
                   if not (self.library / f"{name}.o").exists())]
        if found["VM_PARALLEL_BUILDS"] == ["1"]:
            # A precompiled header serves only those that are compiled with its own options.
            first += [[compiler(), option, *flags, "-x", "c++-header", "Vtop__pch.h", "-o", f"Vtop__pch.h.{kind}.gch"]
                      for kind, option in (("often", self.speed), ("seldom", "-O0"))]
            rest = [compiled(f"{name}.cpp", name, option, "-include", f"Vtop__pch.h.{kind}")
                    for kind, option, names in (("often", self.speed, often), ("seldom", "-O0", seldom))
                    for name in names]
            names = often + seldom
        else:
            # A small design compiles faster in one call.
            (self.objects / "all.cpp").write_text("".join(f'#include "{name}.cpp"\n' for name in often + seldom))
            rest, names = [compiled("all.cpp", "all", self.speed)], ["all"]
        kept = [str(self.library / f"{name}.o") if (self.library / f"{name}.o").exists() else f"{name}.o"
                for name in runtime]
        libraries = FST_LIBRARIES if found["VM_TRACE_FST"] == ["1"] else ()
        return [first, rest, [[compiler(), "-o", "simulation", "main.o", *kept, *(f"{name}.o" for name in names),
                               *self._cocotb(), *libraries, "-pthread"]]]

    def keep(self) -> None:
        """Keeps the run-time library as compiled so far, for the next build."""
        self.library.mkdir(parents=True, exist_ok=True)
        for part in self.objects.glob("verilated*.o"):
            os.replace(part, self.library / part.name)

    def _cocotb(self) -> list[str]:
        if self.main is not None:
            return []
        libraries = str(cocotb_root() / "libs")
        return ["-Xlinker", "-rpath", "-Xlinker", libraries, f"-L{libraries}", "-lcocotbvpi_verilator"]


def _variables(path: Path) -> dict[str, list[str]]:
    """The words of each variable of a makefile that only sets some."""
    text = path.read_text().replace("\\\n", " ")
    return {name: words.split() for name, words in re.findall(r"^(\w+) \+?=(.*)$", text, re.MULTILINE)}


def compiler() -> str:
    """The C++ compiler: ``CXX``, or g++."""
    return os.environ.get("CXX") or "g++"


def verilator_root() -> Path:
    """Path of Verilator; raises `UserError` if it is not installed."""
    return installed("verilator", "Verilator")


def cocotb_root() -> Path:
    """Directory of cocotb; raises `UserError` if it is not installed."""
    return installed("cocotb", "cocotb")


def installed(package: str, name: str) -> Path:
    """The directory of the Python package ``package``. Raises `UserError`, with ``name``, if it is not installed."""
    specification = importlib.util.find_spec(package)
    if specification is None or specification.origin is None:
        raise UserError(f"{name} is not installed: python -m pip install 'nonzero[simulation]'")
    return Path(specification.origin).parent
