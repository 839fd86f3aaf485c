# SPDX-License-Identifier: Apache-2.0
"""Whatever the package imports is one of its requirements."""

import ast
import re
import sys
import tomllib

from tests.support.paths import ROOT

OWN = ("host", "nonzero", "rtl", "sim")

BROUGHT_BY = {
    "cocotb_tools": "cocotb", "cocotbext.axi": "cocotbext-axi", "cocotbext.uart": "cocotbext-uart",
    "google.protobuf": "onnx", "serial": "pyserial",
}
"""Modules whose requirement has another name. Reading ONNX raises errors of protobuf, which onnx requires."""


def imported():
    """Modules of others, each with a file that imports it."""
    found = {}
    for package in OWN:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [one.name for one in node.names] if isinstance(node, ast.Import) else \
                    [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
                found |= {name: path for name in names
                          if name.split(".")[0] not in (*OWN, *sys.stdlib_module_names)}
    return found


def normal(name):
    """A project's name as package indexes compare it."""
    return re.sub("[-_.]+", "-", name).lower()


def requirement(module):
    known = [brought for name, brought in BROUGHT_BY.items() if f"{module}.".startswith(f"{name}.")]
    return normal(known[0] if known else module.split(".")[0])


def test_every_import_is_of_a_requirement():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    declared = {normal(re.match(r"[\w.-]+", one)[0]) for one in wanted}
    modules = imported()
    assert {"numpy", "torch", "serial", "cocotbext.axi", "onnx"} <= {*modules}
    assert {name: str(path) for name, path in modules.items() if requirement(name) not in declared} == {}
    assert all(any(f"{module}.".startswith(f"{name}.") for module in modules) for name in BROUGHT_BY)
