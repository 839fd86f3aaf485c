# SPDX-License-Identifier: Apache-2.0
"""Public classes and functions have docstrings, which name their parameters and the errors raised.

A parameter that all functions of a module share is named once, in the module's docstring. A parameter of a method may
be named in the docstring of its class if it is one of the constructor's, too.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("host", "nonzero", "rtl", "sim")
TESTBENCHES = Path("sim", "testbenches")
"""Tests that run in the simulator: they are read like those in tests/."""

WITHOUT_DOCSTRING = {
    "elaborate": "Amaranth calls it to build the component; the class says what that is",
    "forward": "torch calls it; the class says what goes in and what comes out",
    "main": "the module's docstring describes the command",
}
"""Functions by name, and why they need none."""

PLAIN_PARAMETERS = {
    "self": "the object",
    "cls": "the class",
    "argv": "the words of the command line, as `argparse` calls them",
    "name": "what messages, tables and reports call the thing that the class describes",
}
"""Parameters that need not be named, and why."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def source_files() -> list[Path]:
    found = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [path for path in found if TESTBENCHES not in path.parents]


def definitions(body: list[ast.stmt], around: str, shared: set[str],
                above: str = "") -> Iterator[tuple[str, Definition, str, set[str]]]:
    """Name and node of each public class and function, the docstrings around it, and the parameters these name for it.
    """
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield f"{above}{node.name}", node, around, shared
            if isinstance(node, ast.ClassDef):
                docstring = ast.get_docstring(node) or ""
                yield from definitions(node.body, f"{around}\n{docstring}",
                                       shared | names_in(docstring) & set(parameters(node)), f"{above}{node.name}.")


def decorators(node: Definition) -> set[str]:
    """Last names of the decorators: ``dataclass`` for ``@dataclasses.dataclass(frozen=True)``."""
    return {ast.unparse(one).split("(")[0].rpartition(".")[2] for one in node.decorator_list}


def needs_docstring(node: Definition) -> bool:
    """Not if it is in `WITHOUT_DOCSTRING`, a property of one line, or a signature of an overloaded function."""
    accessor = decorators(node) & {"property", "cached_property"} and len(node.body) == 1
    return node.name not in WITHOUT_DOCSTRING and not accessor and "overload" not in decorators(node)


def arguments(node: Function) -> list[str]:
    found = node.args
    return [one.arg for one in (*found.posonlyargs, *found.args, *found.kwonlyargs)]


def fields(node: ast.ClassDef) -> list[str]:
    """Fields of a dataclass or named tuple, but for those with a text of their own behind them."""
    if "dataclass" not in decorators(node) and "NamedTuple" not in {ast.unparse(base) for base in node.bases}:
        return []
    texts = [isinstance(one, ast.Expr) for one in (*node.body[1:], ast.Pass())]
    return [one.target.id for one, text_follows in zip(node.body, texts, strict=True)
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and not text_follows]


def parameters(node: Definition) -> list[str]:
    """Arguments of a caller; those of a class are its constructor's."""
    if not isinstance(node, ast.ClassDef):
        return arguments(node)
    constructors = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
    return arguments(constructors[0]) if constructors else fields(node)


def names_in(docstring: str) -> set[str]:
    """Names in double backticks, and those that begin an entry of a section: ``low, high : int``."""
    entries = re.findall(r"^ *\*{0,2}(\w+(?:, \*{0,2}\w+)*)(?: : .*)?$", docstring, re.MULTILINE)
    return set(re.findall(r"\w+", " ".join((*re.findall(r"``([^`]+)``", docstring), *entries))))


def raised(nodes: Iterable[ast.AST], caught: frozenset[str] = frozenset()) -> Iterator[str]:
    """Names of the errors that a body raises itself, but for those that a ``try`` of the same body catches."""
    for node in nodes:
        if isinstance(node, Definition | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = ast.unparse(node.exc).split("(")[0].rpartition(".")[2]
            yield from {error} - {"NotImplementedError", *caught}
        elif isinstance(node, ast.Try):
            types = [ast.unparse(one.type) for one in node.handlers if one.type is not None]
            yield from raised(node.body, caught.union(*(re.findall(r"\w+", one) for one in types)))
            yield from raised([*node.handlers, *node.orelse, *node.finalbody], caught)
        else:
            yield from raised(ast.iter_child_nodes(node), caught)


def errors(node: Definition) -> list[str]:
    """Errors that a function raises, or a class when an object is made."""
    makers = ("__init__", "__post_init__")
    functions: list[Function] = [node] if not isinstance(node, ast.ClassDef) else [
        one for one in node.body if isinstance(one, Function) and one.name in makers]
    return sorted({error for one in functions for error in raised(one.body)})


def errors_in(docstring: str) -> set[str]:
    """Names behind "Raises", be it a sentence or a section."""
    return set(re.findall(r"\w+", " ".join(re.split(r"\b[Rr]aises\b", docstring)[1:])))


def faults(path: Path, text: str) -> list[str]:
    """A line for each class or function of a module that does not say what it must."""
    found = []
    tree = ast.parse(text)
    module = ast.get_docstring(tree) or ""
    for name, node, around, shared in definitions(tree.body, module, names_in(module)):
        docstring = ast.get_docstring(node) or ""
        if not docstring and needs_docstring(node):
            found.append(f"{path}:{node.lineno} {name} has no docstring")
        asked = [one for one in parameters(node) if one not in PLAIN_PARAMETERS]
        unnamed = [one for one in asked if one not in names_in(docstring) | shared]
        if docstring and unnamed:
            found.append(f"{path}:{node.lineno} {name} does not name {', '.join(unnamed)}")
        unsaid = [one for one in errors(node) if one not in errors_in(docstring) | errors_in(around)]
        if docstring and unsaid:
            found.append(f"{path}:{node.lineno} {name} does not say that it raises {', '.join(unsaid)}")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_described(package: str) -> None:
    files = [path for path in source_files() if path.parts[0] == package]
    assert len(files) >= 5
    found = [fault for path in files for fault in faults(path, (ROOT / path).read_text(encoding="utf-8"))]
    assert found == [], "\n" + "\n".join(found)


def test_what_is_a_fault() -> None:
    """A function and a class without a text, a parameter and an error that are not named; and what is none."""
    text = '''"""A module whose ``config`` is a description."""

def bare(): pass

def width(config):
    """Bits of a counter."""

def height(configuration):
    """Bits of another."""

def scale(values, low, high):
    """Brings ``values`` between ``low`` and the other."""

def listed(values, low, high):
    """Brings values into a range.

    Parameters
    ----------
    values : array
    low, high : int
        The range.
    """

def refuse(value):
    """Raises `TypeError` for a bad ``value``."""
    try:
        raise KeyError(value)
    except KeyError:
        raise ValueError(value) from None

def check(value):
    """Checks a ``value``.

    Raises
    ------
    ValueError
        If it is bad.
    """
    def inner():
        raise OSError
    if value:
        raise errors.ValueError(value)
    raise NotImplementedError

class Point:
    """A point."""
    def __init__(self, x, y, z): pass
    def move(self, step): pass
    def _hidden(self): pass
    @property
    def norm(self): return 0
    def elaborate(self, platform): pass

@dataclass
class Line:
    """A line from ``begin``."""
    begin: int
    end: int
    """Where it ends."""
    width: int
    name: str
    colour: int
    def __post_init__(self):
        if self.begin > self.end:
            raise ValueError

class Grid:
    """Cells.

    Parameters
    ----------
    width : int

    Attributes
    ----------
    cell : int
    """
    def __init__(self, width): pass
    def fill(self, width, cell):
        """Fills all cells."""
'''
    assert faults(Path("here.py"), text) == [
        "here.py:3 bare has no docstring",
        "here.py:8 height does not name configuration",
        "here.py:11 scale does not name high",
        "here.py:24 refuse does not say that it raises ValueError",
        "here.py:45 Point does not name x, y, z",
        "here.py:48 Point.move has no docstring",
        "here.py:55 Line does not name width, colour",
        "here.py:55 Line does not say that it raises ValueError",
        "here.py:79 Grid.fill does not name cell",
    ]
