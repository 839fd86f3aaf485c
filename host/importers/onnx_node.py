# SPDX-License-Identifier: Apache-2.0
"""A node of an ONNX graph, whose inputs and attributes are checked where they are read."""

from pathlib import Path
from typing import Any

from host.importers.chain_tracer import Dataflow
from host.importers.onnx_integers import INT64, VALUES_LIMIT, compute_integers
from host.importers.source_layers import MAP_PARTS, FlattenPart, Part, SqueezePart, UnsupportedPart
from host.importers.stored_tensor import StoredTensor

__all__ = ["OnnxNode"]


class OnnxNode:
    """A node of the graph, with its inputs and attributes checked one by one.

    Parameters
    ----------
    proto : onnx.NodeProto
    label : str
        Its name, for the user.
    opset : int
        Version of ONNX's operators.
    flow : Dataflow
        Values of the nodes before it.
    whole : dict
        Tensors of the graph as ``onnx.TensorProto``, by the names of their values.
    folder : Path
        The directory of files that hold tensors beside the graph.
    """

    def __init__(self, proto: Any, label: str, opset: int, flow: Dataflow, whole: dict[str, Any],
                 folder: Path) -> None:
        self.proto, self.label, self.opset, self.flow, self.whole = proto, label, opset, flow, whole
        self.folder = folder
        self.kind = proto.op_type[:80] if proto.domain in ("", "ai.onnx") \
            else f"{proto.domain[:40]}.{proto.op_type[:40]}"

    @property
    def axes(self) -> int:
        """Number of axes of what the next part takes, with the batch axis; 0 if the file does not tell it."""
        at, more = self.flow.at, 0
        while at:
            part, (at, *_), _ = self.flow.steps[int(at.removeprefix("#"))]
            if isinstance(part, FlattenPart):
                return 1 + (len(part.shape) or 1) + more
            if isinstance(part, MAP_PARTS):
                return 4 + more
            if isinstance(part, SqueezePart):
                more += len(part.axes) if part.adds else -len(part.axes)
        return len(self.flow.sizes) + more if self.flow.sizes else 0

    def keep_integers(self) -> None:
        """Records the node's output if it is computed from small integers, such as the sizes of a padding."""
        from onnx import numpy_helper
        stored: list[Any] = [self.whole.get(name) for name in self.proto.input]
        if not all(one is not None and one.data_type == INT64 and not one.external_data
                   and max(len(one.int64_data), len(one.raw_data) // 8) <= VALUES_LIMIT for one in stored):
            return
        attributes: dict[str, Any] = {one.name: {2: one.i, 4: one.t, 7: list(one.ints)}.get(one.type)
                                      for one in self.proto.attribute}
        if "value" in attributes:
            value = attributes["value"]
            small = value is not None and value.data_type == INT64 and len(value.raw_data) <= 8
            attributes["value"] = numpy_helper.to_array(value) if small else None
        found = compute_integers(self.kind, attributes, [numpy_helper.to_array(one) for one in stored])
        if found is not None:
            self.whole[self.proto.output[0]] = numpy_helper.from_array(found)

    def refused(self, problem: str) -> list[Part]:
        """The part of a layer that cannot be run; ``problem`` continues the sentence that begins with the layer's name.
        """
        return [UnsupportedPart(self.label, problem)]

    def unsupported(self, hint: str = "") -> list[Part]:
        """The part of an operation that the engine does not run; ``hint`` is added to the message."""
        return self.refused(f"is the operation {self.kind}, which the engine does not run; see the supported layers in "
                            f"the README{hint}")

    def tensor(self, number: int) -> StoredTensor | None:
        """The constant at input ``number``, from 0; None if the node leaves that input out."""
        name = self.proto.input[number] if number < len(self.proto.input) else ""
        if not name:
            return None
        return self.flow.constant(name)

    def required(self, number: int) -> StoredTensor:
        """The constant at input ``number``, from 0. Raises `ValueError` if it is missing."""
        tensor = self.tensor(number)
        if tensor is None:
            raise ValueError(f"input {number} is missing")
        return tensor

    def layer(self) -> str:
        """The name of the layer: that of its weight, if the exporter kept it, or the module's (/features/0/Conv)."""
        name = self.proto.input[1]
        if name.endswith(".weight"):
            return name.removesuffix(".weight")
        module = self.label.strip("/").split("/")[:-1]
        return ".".join(module) if self.label.startswith("/") and module else self.label

    def attribute(self, name: str, default: Any) -> Any:
        """The attribute ``name``: an integer, number, text or list of integers; ``default`` if it is missing.

        Raises `ValueError` for an attribute of another type than ``default``.
        """
        for one in self.proto.attribute:
            if one.name == name:
                found = {1: one.f, 2: one.i, 3: one.s, 7: list(one.ints)}.get(one.type)
                if found is None or (default is not None and type(found) is not type(default)):
                    raise ValueError(f"attribute {name}")
                return found
        return default

    def ints(self, name: str, default: list[int]) -> list[int]:
        """The list of integers in the attribute ``name``; ``default`` if it is missing.

        Raises `ValueError` for another type.
        """
        return list(self.attribute(name, default))

    def pair(self, name: str, default: int, axes: int = 2) -> tuple[int, int]:
        """An attribute of two integers, for rows and columns, each 0 to 65535.

        Parameters
        ----------
        name : str
        default : int
            Both of them if the attribute is missing.
        axes : int
            1 if the operation works along columns only: then the attribute has one integer, and that of the row is
            ``default``.

        Raises
        ------
        ValueError
            For another number of integers, or one out of range.
        """
        values = self.ints(name, [default] * axes)
        if len(values) != axes or not all(0 <= one < 1 << 16 for one in values):
            raise ValueError(f"attribute {name}")
        return (default, *values)[-2], values[-1]

    def padding(self, axes: int = 2) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows above and columns to the left, rows below and columns to the right; with 1 of the ``axes``, no rows.

        Raises `ValueError` if they are garbled.
        """
        pads = self.ints("pads", [0] * 2 * axes)
        if len(pads) != 2 * axes:
            raise ValueError("attribute pads")
        top, left, bottom, right = pads if axes == 2 else (0, pads[0], 0, pads[1])
        if self.attribute("auto_pad", b"NOTSET") != b"NOTSET":
            return (0, 0), (0, 0)
        if not all(0 <= size < 1 << 16 for size in (top, left, bottom, right)):
            raise ValueError("attribute pads")
        return (top, left), (bottom, right)

    def same(self) -> str:
        """`ConvPart.same`, from ``auto_pad``. Raises `ValueError` for a value that ONNX does not have."""
        auto = self.attribute("auto_pad", b"NOTSET")
        if auto not in (b"NOTSET", b"VALID", b"SAME_UPPER", b"SAME_LOWER"):
            raise ValueError("attribute auto_pad")
        return {b"SAME_UPPER": "upper", b"SAME_LOWER": "lower"}.get(auto, "")

    def numbers(self, number: int) -> list[int] | None:
        """The 1 to 8 integers, such as a shape, that are stored at input ``number``, from 0; None without such."""
        from onnx import numpy_helper
        stored = self.whole.get(self.proto.input[number]) if number < len(self.proto.input) else None
        if stored is None or stored.data_type != INT64 or len(stored.dims) != 1 or not 0 < stored.dims[0] <= 8 \
                or stored.external_data or max(len(stored.int64_data), len(stored.raw_data) // 8) != stored.dims[0]:
            return None
        return [int(value) for value in numpy_helper.to_array(stored)]
