# SPDX-License-Identifier: Apache-2.0
"""A node of an exported program's graph, whose arguments are checked where they are read."""

from typing import Any

from host.importers.chain_tracer import Dataflow
from host.importers.source_layers import UnsupportedPart
from host.importers.stored_tensor import StoredTensor

__all__ = ["ExportNode", "GarbledError", "ValueName", "Values", "argument", "size_of"]

Values = dict[str, Any]
"""Arguments of a node by name: names of values, numbers, lists."""


class GarbledError(ValueError):
    """The JSON does not have the form that torch writes."""


def size_of(value: Values) -> int | str | None:
    """The size of an axis from its JSON ``value``: a number, or the expression of a size that is left open.

    None if it is neither.
    """
    if "as_expr" in value:
        return str(value["as_expr"]["expr_str"])
    return value["as_int"] if type(value.get("as_int")) is int and 0 < value["as_int"] < 1 << 24 else None


class ValueName:
    """A value of the graph."""

    def __init__(self, name: str) -> None:
        self.name = name


def argument(value: Values) -> Any:
    """The argument with the JSON ``value``: numbers, strings, lists of these, names of values, or None."""
    (kind, content), = value.items()
    if kind == "as_tensor":
        return ValueName(content["name"])
    if kind == "as_tensors":
        return [ValueName(one["name"]) for one in content]
    if kind == "as_optional_tensor":
        return ValueName(content["as_tensor"]["name"]) if "as_tensor" in content else None
    if kind in ("as_none", "as_sym_int", "as_sym_ints", "as_device", "as_layout", "as_memory_format"):
        return None
    return content


class ExportNode:
    """A node that takes the activations, with its arguments checked one by one.

    Parameters
    ----------
    label : str
        Its name, for the user.
    target : str
        The operation, like ``torch.ops.aten.conv2d.default``.
    arguments : dict
        Its arguments by name, from `argument`.
    flow : Dataflow
        Values of the nodes before it.
    names : dict
        Names of the tensors in the model, by the names of their values in the graph.
    sizes : list
        Axes of its output, from `size_of`.
    taken_sizes : list
        Those of its input; empty if they are not known.
    """

    def __init__(self, label: str, target: str, arguments: Values, flow: Dataflow, names: dict[str, str],
                 sizes: list[int | str | None], taken_sizes: list[int | str | None]) -> None:
        self.label, self.target, self.arguments, self.flow = label, target, arguments, flow
        self.names, self.sizes, self.taken_sizes = names, sizes, taken_sizes

    def tensor(self, name: str) -> StoredTensor | None:
        """The constant that this argument is; None if it is absent."""
        value = self.arguments.get(name)
        if value is None:
            return None
        return self.flow.constant(value.name)

    def required(self, name: str) -> StoredTensor:
        """The constant that this argument is. Raises `GarbledError` if it is absent."""
        tensor = self.tensor(name)
        if tensor is None:
            raise GarbledError(f"{self.label} has no {name}")
        return tensor

    def layer(self, name: str) -> str:
        """The name of the layer whose weight this argument is."""
        value = self.arguments[name]
        full = self.names.get(value.name, self.label)
        return full.partition(".parametrizations.")[0] if ".parametrizations." in full \
            else full.rpartition(".")[0] or self.label

    def pair(self, name: str, default: int) -> tuple[int, int]:
        """An argument of rows and columns, each 0 to 65535; a single number, such as ``default``, is that of both.

        Raises `GarbledError` for anything else.
        """
        value = self.arguments.get(name)
        value = default if value is None or value == [] else value
        pair = [value, value] if type(value) is int else value * 2 if type(value) is list and len(value) == 1 else value
        if type(pair) is not list or len(pair) != 2 or not all(type(one) is int and 0 <= one < 1 << 16 for one in pair):
            raise GarbledError(f"{name} of {self.label}")
        return pair[0], pair[1]

    def refused(self, problem: str) -> list[UnsupportedPart]:
        """The part of a layer that cannot be run; ``problem`` continues the sentence that begins with the layer's name.
        """
        return [UnsupportedPart(self.label, problem)]
