# SPDX-License-Identifier: Apache-2.0
"""Merges Verilog modules that are alike into one for all their instances.

Amaranth writes a module for every instance. Verilator makes code of its own of each, and the 64 copies of a large
engine's processing element are far more than a processor's instruction cache holds. Of one module with many instances
it makes functions that all of them share.
"""

import re
from collections import Counter
from dataclasses import dataclass

__all__ = ["merge_modules"]

NAME = r"\\\S+ |\w+"

MODULE = re.compile(rf"^module ({NAME})\(([^)]*)\);\n((?:.*\n)*?)endmodule\n", re.MULTILINE)
"""A module; its name, its ports and its body, as Yosys writes them."""

INSTANCE = re.compile(rf"^  ({NAME}) +({NAME}) ?\(\n((?:    \..*\n)*)  \);\n", re.MULTILINE)
"""An instance; its module, its name and its connections."""

CONNECTED = re.compile(rf"^    \.({NAME})", re.MULTILINE)

DECLARATION = re.compile(rf"^  (?:input|output) (?:\[\d+:\d+\] )?({NAME});\n", re.MULTILINE)
"""The declaration of a port; group 1 is its name."""

NUMBERED = re.compile(r"\\port\$\d+\$\d+ ")
"""A port that Amaranth names after a number in the whole design, so that it differs between instances."""

CLOCKING = re.compile(r"(\w+_)?(clk|rst)")

MARK = "/*verilator public_flat_rd*/"
"""Verilator keeps a variable for such a port, and does not read another one around the instance in place of it: then
the code would not be the same for all instances."""


@dataclass
class _Module:
    """A module that can replace others."""

    ports: str
    body: str

    @property
    def port_names(self) -> set[str]:
        return set(re.findall(NAME, self.ports))


def merge_modules(text: str) -> str:
    """Makes every instance of modules that are alike use the same module.

    Alike are modules with the same text, but for the names of their own instances' modules and of the ports that
    Amaranth numbers; one may have outputs that the other lacks.

    Parameters
    ----------
    text : str
        Modules as Yosys writes them. Instances of other modules stay as they are.
    """
    modules = {found.group(1).strip(): found for found in MODULE.finditer(text)}
    kept: dict[str, _Module] = {}
    by_content: dict[str, str] = {}
    replacements: dict[str, tuple[str, dict[str, str]]] = {}

    def merge(name: str) -> tuple[str, dict[str, str]]:
        """The module that stands for this one, and its names for the numbered ports."""
        if name not in replacements:
            renamed: dict[str, str] = {}

            def rename(port: re.Match[str]) -> str:
                return renamed.setdefault(port.group(), f"\\port${len(renamed)} ")

            body = NUMBERED.sub(rename, INSTANCE.sub(merge_instance, modules[name].group(3)))
            ports = NUMBERED.sub(rename, modules[name].group(2))
            replacements[name] = keep(name, ports, body), renamed
        return replacements[name]

    def keep(name: str, ports: str, body: str) -> str:
        content = DECLARATION.sub("", body)
        one = _Module(ports, body)
        other = kept.get(by_content.get(content, ""))
        if other is None or not (other.port_names >= one.port_names or one.port_names > other.port_names):
            by_content[content], kept[name] = name, one
        elif one.port_names > other.port_names:
            kept[by_content[content]] = one
        return by_content[content]

    def merge_instance(instance: re.Match[str]) -> str:
        module, label, connections = instance.groups()
        if module.strip() not in modules:
            return instance.group()
        replacement, renamed = merge(module.strip())
        connections = CONNECTED.sub(lambda port: f"    .{renamed.get(port.group(1), port.group(1))}", connections)
        return f"  {replacement}  {label} (\n{connections}  );\n"

    for name in modules:
        merge(name)
    instances = Counter(found.group(1).strip() for module in kept.values() for found in INSTANCE.finditer(module.body))
    return "".join(f"module {modules[name].group(1)}({module.ports});\n"
                   f"{_marked(module.body) if instances[name] > 1 else module.body}endmodule\n\n"
                   for name, module in kept.items())


def _marked(body: str) -> str:
    """Marks the ports. A clock that is marked would be one for each instance."""
    def mark(port: re.Match[str]) -> str:
        return port.group() if CLOCKING.fullmatch(port.group(1)) else f"{port.group()[:-2]} {MARK};\n"

    return DECLARATION.sub(mark, body)
