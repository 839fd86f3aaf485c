# SPDX-License-Identifier: Apache-2.0
"""The emitted design is the same on every Python: Amaranth takes names of signals from its caller's bytecode."""

import ast
import glob
import json
import os
import re
import shutil
import subprocess
import symtable
import sys
import tomllib
from pathlib import Path

import amaranth
import pytest

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSIONS = [found[1] for line in PROJECT["classifiers"] if (found := re.fullmatch(r".* :: (3\.\d+)", line))]
"""Versions of Python that the package supports."""

MAKERS = {"Signal", "like", "create", "read_port", "write_port"}
"""Functions that make signals and name them after the variable that they are assigned to."""


def _captured(source):
    """Names of variables that an inner function reads, by line of the function that has them."""
    found = {}

    def visit(table):
        inner = {name for child in table.get_children() for name in visit(child)}
        found[table.get_lineno()] = found.get(table.get_lineno(), set()) | inner
        frees = table.get_frees() if table.get_type() == "function" else ()
        return inner - set(table.get_identifiers()) | set(frees)

    visit(symtable.symtable(source, "source", "exec"))
    return found


def _unnamed(value):
    function = value.func if isinstance(value, ast.Call) else None
    called = getattr(function, "attr", getattr(function, "id", None))
    return called in MAKERS and not any(keyword.arg in ("name", "path") for keyword in value.keywords)


def _doubtful(node):
    """The signal whose name depends on the Python version in a statement, and the variables that it is assigned to."""
    if isinstance(node, ast.NamedExpr):
        return node.value, [node.target]
    if not isinstance(node, ast.Assign):
        return None, []
    if isinstance(node.value, ast.Tuple) and len(node.value.elts) <= 3:
        # Such a tuple is not built: 3.11 and 3.12 name its last signal, if all variables are local ones. They overlook
        # variables and attributes behind it.
        values = list(node.value.elts)
        while len(values) > 1 and isinstance(values[-1], ast.Name | ast.Attribute):
            values.pop()
        return values[-1], getattr(node.targets[0], "elts", [])
    if isinstance(node.value, ast.IfExp):
        return next(filter(_unnamed, (node.value.body, node.value.orelse)), None), node.targets
    return (node.value, node.targets) if len(node.targets) > 1 else (None, [])


def doubtful_names(source):
    """Lines of signals that have no name of their own and get one from some versions of Python only."""
    captured, lines = _captured(source), []

    def visit(node, inner):
        if isinstance(node, ast.FunctionDef):
            inner = captured[node.lineno]
        value, variables = _doubtful(node)
        if variables and _unnamed(value) and all(isinstance(one, ast.Name) and one.id not in inner
                                                 for one in variables):
            lines.append(value.lineno)
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(ast.parse(source), set())
    return lines


def test_no_name_depends_on_the_version_of_python():
    found = [f"{path.relative_to(ROOT)}:{line}" for folder in ("rtl", "sim")
             for path in sorted((ROOT / folder).rglob("*.py")) for line in doubtful_names(path.read_text())]
    assert not found, f"give these signals a name: {', '.join(found)}"


@pytest.mark.parametrize("statement", [
    "a, b = Signal(), Signal()", "a, b = 3, Signal(8, init=1)", "a, b, c = Signal(), Signal(), Signal.like(x)",
    "a, b = port.Signature(3).create(), m.read_port()", "a = b = Signal()", "print(a := Signal())",
    "a = Signal() if x else y", "a, b = Signal(), x", "a, b = Signal(), self.x.y"])
def test_such_a_name_is_found(statement):
    assert doubtful_names(f"def f(x, y):\n    {statement}\n    return a\n") == [2]


@pytest.mark.parametrize("statement", [
    "a, b = Signal(), Signal(name='b')", "a = Signal()", "a, b = Signal(), 3", "self.a = a = Signal()",
    "a = [Signal() for _ in range(2)]", "a, b = Signal(), Signal(); g = lambda: a",
    "a, b, c, d = Signal(), Signal(), Signal(), Signal()"])
def test_names_that_do_not_depend_on_it_are_not(statement):
    assert doubtful_names(f"def f(x, y):\n    {statement}\n    return a\n") == []


def _interpreter(version):
    """A Python of this version that starts; None if the machine has none."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    # pyenv has a program on the PATH for versions as well that are not chosen; it fails.
    for program in (shutil.which(f"python{version}"), *sorted(glob.glob(f"{pyenv}/versions/{version}.*/bin/python"))):
        if program and subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0:
            return program
    return None


@pytest.fixture(scope="module")
def emitting():
    """Processes that emit the designs, each with another order of sets, by version of Python."""
    packages = Path(amaranth.__path__[0]).parent  # Amaranth is Python alone: this one's runs on the others too
    running = {}
    for seed, version in enumerate(VERSIONS, 1):
        program = _interpreter(version)
        if program is not None:
            running[version] = subprocess.Popen(
                [program, "-B", "-m", "tests.support.designs"], cwd=ROOT, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{packages}",
                                "PYTHONHASHSEED": str(seed)})
    yield {version: lambda process=process: (*process.communicate(), process.returncode)
           for version, process in running.items()}
    for process in running.values():
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def emitted(emitting):
    return {version: finish() for version, finish in emitting.items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_design_is_the_same_on_every_supported_python(emitted, version):
    if version not in emitted:
        pytest.skip(f"Python {version} is not on this machine: the design that it emits was not compared")
    output, errors, status = emitted[version]
    assert status == 0, errors
    own, *_ = emitted["{}.{}".format(*sys.version_info)]
    found, expected = json.loads(output), json.loads(own)
    assert found["python"] == list(map(int, version.split(".")))
    assert found["hashes"] == expected["hashes"] and found["hashes"]


def test_the_running_python_is_supported():
    assert "{}.{}".format(*sys.version_info) in VERSIONS
