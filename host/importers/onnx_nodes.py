# SPDX-License-Identifier: Apache-2.0
"""Translates the nodes of an ONNX graph into the parts of a model."""

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from host.importers.chain_tracer import ARITHMETIC, KEEP_BATCH, Dataflow, transposed
from host.importers.onnx_integers import INT64, VALUES_LIMIT, compute_integers
from host.importers.onnx_tensors import stored_tensor
from host.importers.source_layers import (
    AdaptivePoolPart,
    ConvPart,
    FlattenPart,
    LinearPart,
    NormPart,
    PadPart,
    Part,
    PoolPart,
    ReluPart,
    SoftmaxPart,
    UnsupportedPart,
)
from host.importers.stored_tensor import StoredTensor, masked
from host.importers.supported_layers import NOT_ZEROS

EXPORT_AGAIN = ("export the model again: torch.onnx.export(model.eval(), (example,), 'model.onnx'), for which torch "
                "needs the package onnxscript")


class Node:
    """A node of the graph, with its inputs and attributes checked one by one.

    Parameters
    ----------
    node : onnx.NodeProto
    label : str
        Its name, for the user.
    opset : int
        Version of ONNX's operators.
    flow : Dataflow
        What the nodes before it have made; it is changed.
    whole : dict
        Tensors of the graph as ``onnx.TensorProto``, by the names of their values.
    folder : Path
        The directory of files that hold tensors beside the graph.
    """

    def __init__(self, node: Any, label: str, opset: int, flow: Dataflow, whole: dict[str, Any],
                 folder: Path) -> None:
        self.node, self.label, self.opset, self.flow, self.whole = node, label, opset, flow, whole
        self.folder = folder
        self.kind = node.op_type[:80] if node.domain in ("", "ai.onnx") else f"{node.domain[:40]}.{node.op_type[:40]}"

    def read(self) -> None:
        """Adds what the node is to the flow."""
        flow, node = self.flow, self.node
        if not node.output:
            return
        if self.kind == "Add" and flow.at in node.input and self._is_bias():
            return
        takes = flow.takes(self.label, self.kind, list(node.input))
        if takes is None:
            with suppress(ValueError, TypeError):
                self._constant()
            return
        if not takes or self.kind in ("Dropout", "Identity"):
            training = self.whole.get(node.input[2]) if takes and len(node.input) > 2 else None
            if training is not None and any((*training.int32_data, *training.raw_data)):
                flow.assume_no_dropout(self.label)
            flow.go_on(node.output[0])
            return
        handler = HANDLERS.get(self.kind)
        if handler is None:
            parts: list[Part] = self.unsupported()
        else:
            try:
                parts = handler(self)
            except (ValueError, IndexError, TypeError) as error:
                parts = self.refused(f"is a garbled {self.kind} ({str(error)[:80]}); {EXPORT_AGAIN}")
        flow.go_on(node.output[0], *parts)

    def _is_bias(self) -> bool:
        """Whether the node adds a bias to the linear layer before it; then it is that layer's."""
        other = next((name for name in self.node.input if name != self.flow.at), "")
        bias, last = self.flow.constants.get(other), self.flow.parts[-1] if self.flow.parts else None
        if not isinstance(last, LinearPart) or last.bias is not None or bias is None or last.weight.problem \
                or math.prod(bias.shape[:-1]) != 1:
            return False
        self.flow.parts.pop()
        self.flow.go_on(self.node.output[0], LinearPart(last.name, last.weight, _row(bias, last.weight)))
        return True

    def _constant(self) -> None:
        """A node that takes no activation: a tensor, or a weight that is transposed or masked. All others are ignored.
        """
        flow, node = self.flow, self.node
        if self.kind == "Constant":
            for one in node.attribute:
                if one.name == "value" and one.HasField("t"):
                    flow.constants[node.output[0]] = stored_tensor(one.t, self.folder)
                    self.whole[node.output[0]] = one.t
            return
        self._integers()
        tensors = [flow.constants[name] for name in node.input if name in flow.constants]
        if len(tensors) == len(node.input) == 1 and self.kind == "Identity":
            flow.derive(node.output[0], tensors[0], *node.input)
        elif len(tensors) == len(node.input) == 1 and self.kind == "Transpose" and self.ints("perm", [1, 0]) == [1, 0]:
            flow.derive(node.output[0], transposed(tensors[0]), *node.input)
        elif len(tensors) == len(node.input) == 2 and self.kind == "Mul" and tensors[0].shape == tensors[1].shape:
            flow.derive(node.output[0], masked(*tensors), *node.input)

    def _integers(self) -> None:
        """Records what the node computes of small integers, such as the sizes of a padding."""
        from onnx import numpy_helper
        stored: list[Any] = [self.whole.get(name) for name in self.node.input]
        if not all(one is not None and one.data_type == INT64 and not one.external_data
                   and max(len(one.int64_data), len(one.raw_data) // 8) <= VALUES_LIMIT for one in stored):
            return
        attributes: dict[str, Any] = {one.name: {2: one.i, 4: one.t, 7: list(one.ints)}.get(one.type)
                                      for one in self.node.attribute}
        if "value" in attributes:
            value = attributes["value"]
            small = value is not None and value.data_type == INT64 and len(value.raw_data) <= 8
            attributes["value"] = numpy_helper.to_array(value) if small else None
        found = compute_integers(self.kind, attributes, [numpy_helper.to_array(one) for one in stored])
        if found is not None:
            self.whole[self.node.output[0]] = numpy_helper.from_array(found)

    def refused(self, problem: str) -> list[Part]:
        """The part of a layer that cannot be run; ``problem`` continues the sentence that begins with the layer's name.
        """
        return [UnsupportedPart(self.label, problem)]

    def unsupported(self, hint: str = "") -> list[Part]:
        """The part of an operation that the engine does not run; ``hint`` is added to what the user is told."""
        return self.refused(f"is the operation {self.kind}, which the engine does not run; see the supported layers in "
                            f"the README{hint}")

    def tensor(self, number: int) -> StoredTensor | None:
        """The constant at input ``number``, from 0; None if the node leaves that input out."""
        name = self.node.input[number] if number < len(self.node.input) else ""
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
        name = self.node.input[1]
        if name.endswith(".weight"):
            return name.removesuffix(".weight")
        module = self.label.strip("/").split("/")[:-1]
        return ".".join(module) if self.label.startswith("/") and module else self.label

    def attribute(self, name: str, default: Any) -> Any:
        """An integer, number, text or list of integers."""
        for one in self.node.attribute:
            if one.name == name:
                found = {1: one.f, 2: one.i, 3: one.s, 7: list(one.ints)}.get(one.type)
                if found is None or (default is not None and type(found) is not type(default)):
                    raise ValueError(f"attribute {name}")
                return found
        return default

    def ints(self, name: str, default: list[int]) -> list[int]:
        """An attribute that is a list of integers. Raises `ValueError` if it is of another type."""
        return list(self.attribute(name, default))

    def pair(self, name: str, default: int) -> tuple[int, int]:
        """An attribute of two integers, for rows and columns, each 0 to 65535; the ``default`` counts for both.

        Raises
        ------
        ValueError
            For another number of integers, or one out of range.
        """
        rows, cols = self.ints(name, [default, default])
        if not (0 <= rows < 1 << 16 and 0 <= cols < 1 << 16):
            raise ValueError(f"attribute {name}")
        return rows, cols

    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows above and columns to the left, rows below and columns to the right. Raises `ValueError` if garbled."""
        top, left, bottom, right = self.ints("pads", [0, 0, 0, 0])
        if self.attribute("auto_pad", b"NOTSET") != b"NOTSET":
            return (0, 0), (0, 0)
        if not all(0 <= size < 1 << 16 for size in (top, left, bottom, right)):
            raise ValueError("attribute pads")
        return (top, left), (bottom, right)

    def same(self) -> str:
        """`ConvPart.same`, from ``auto_pad``."""
        auto = self.attribute("auto_pad", b"NOTSET")
        if auto not in (b"NOTSET", b"VALID", b"SAME_UPPER", b"SAME_LOWER"):
            raise ValueError("attribute auto_pad")
        return {b"SAME_UPPER": "upper", b"SAME_LOWER": "lower"}.get(auto, "")

    def numbers(self, number: int) -> list[int] | None:
        """A stored list of integers, such as a shape; None if it is not stored."""
        from onnx import numpy_helper
        stored = self.whole.get(self.node.input[number]) if number < len(self.node.input) else None
        if stored is None or stored.data_type != INT64 or len(stored.dims) != 1 or not 0 < stored.dims[0] <= 8 \
                or stored.external_data or max(len(stored.int64_data), len(stored.raw_data) // 8) != stored.dims[0]:
            return None
        return [int(value) for value in numpy_helper.to_array(stored)]


def _conv(node: Node) -> list[Part]:
    weight = node.required(1)
    if not weight.problem and len(weight.shape) != 4:
        return node.refused(f"is a convolution over {len(weight.shape) - 2} axes; only one over rows and columns is "
                            "supported")
    padding, end_padding = node.padding()
    return [ConvPart(node.layer(), weight, node.tensor(2), node.pair("strides", 1), padding,
                     node.pair("dilations", 1), node.attribute("group", 1), end_padding, node.same())]


def _pad(node: Node) -> list[Part]:
    sizes = node.numbers(1) if node.opset >= 11 else node.ints("pads", [])
    value = node.tensor(2) if node.opset >= 11 else None
    axes = node.numbers(3) if len(node.node.input) > 3 and node.node.input[3] else None
    if sizes is None or (axes is None and len(node.node.input) > 3 and node.node.input[3]):
        return node.refused("is a padding whose sizes are computed; export it with fixed ones")
    if node.attribute("mode", b"constant") != b"constant" or node.attribute("value", 0.0) != 0 \
            or (value is not None and (value.problem or value.values != 1 or value.read().any())):
        return node.refused(NOT_ZEROS)
    half = len(sizes) // 2
    axes = axes or list(range(half))
    found = {axis % 4: (before, after) for axis, before, after in zip(axes, sizes[:half], sizes[half:], strict=True)}
    if any(any(pads) for axis, pads in found.items() if axis < 2) or min(sizes) < 0 or max(sizes) >= 1 << 16:
        return node.refused(f"pads by {sizes}; only zeros around rows and columns are supported, none less than 0")
    return [PadPart(node.label, found.get(2, (0, 0)), found.get(3, (0, 0)))]


def _gemm(node: Node) -> list[Part]:
    if node.attribute("transA", 0) or node.attribute("alpha", 1.0) != 1 or node.attribute("beta", 1.0) != 1 \
            or node.node.input[0] != node.flow.at:
        return node.refused("is a scaled or transposed product; use torch.nn.Linear")
    weight, bias = node.required(1), node.tensor(2)
    weight = weight if node.attribute("transB", 0) else transposed(weight)
    return [LinearPart(node.layer(), weight, bias and _row(bias, weight))]


def _row(bias: StoredTensor, weight: StoredTensor) -> StoredTensor:
    """A bias as ONNX broadcasts it, [outputs], [1, outputs] or one value for all, as [outputs]."""
    outputs = weight.shape[0] if weight.shape else 0
    if bias.problem or math.prod(bias.shape[:-1]) != 1 or math.prod(bias.shape) not in (1, outputs):
        return bias
    return StoredTensor((outputs,), bias.values, lambda: np.broadcast_to(bias.read().reshape(-1), (outputs,)))


def _matmul(node: Node) -> list[Part]:
    if node.node.input[0] != node.flow.at:
        return node.refused("is a transposed product; use torch.nn.Linear")
    return [LinearPart(node.layer(), transposed(node.required(1)), None)]


def _batch_norm(node: Node) -> list[Part]:
    eps = node.attribute("epsilon", 1e-5)
    if node.attribute("training_mode", 0):
        return node.refused("is a batch normalisation in training mode; call model.eval() before the export")
    if not (math.isfinite(eps) and eps >= 0):
        return node.refused("is a batch normalisation whose epsilon is not a small positive number")
    scale, shift, mean, variance = (node.required(number) for number in range(1, 5))
    return [NormPart(node.layer(), scale, shift, mean, variance, eps)]


def _pool(kind: str) -> Callable[[Node], list[Part]]:
    def read(node: Node) -> list[Part]:
        if len(node.ints("kernel_shape", [0, 0])) != 2:
            return node.refused(f"is a pooling over {len(node.ints('kernel_shape', []))} axes; only one over rows and "
                                "columns is supported")
        padding, end_padding = node.padding()
        if node.same():
            return node.refused(f"has auto_pad SAME_{node.same().upper()}; export it with explicit pads")
        if padding != end_padding:
            return node.refused(f"pads {padding[0]} rows above and {end_padding[0]} below, {padding[1]} columns left "
                                f"and {end_padding[1]} right; a pooling pads all sides alike here: put a padding of "
                                "zeros before the convolution before it, or retrain with a padding in numbers")
        if node.pair("dilations", 1) != (1, 1):
            return node.refused("has a dilation, but windows have no gaps here; use dilation=1")
        return [PoolPart(node.label, kind, node.pair("kernel_shape", 0), node.pair("strides", 1), padding,
                         bool(node.attribute("ceil_mode", 0)), bool(node.attribute("count_include_pad", 0)))]
    return read


def _flatten(node: Node) -> list[Part]:
    if node.attribute("axis", 1) != 1 or len(node.flow.sizes) == 1:
        return node.refused("is a flatten with other axes than all but the first; use torch.nn.Flatten()")
    return [FlattenPart(node.label)]


def _reshape(node: Node) -> list[Part]:
    sizes, flow = node.numbers(1), node.flow
    if sizes is None:
        return node.refused("is a reshape to a shape that is computed; use torch.nn.Flatten()")
    first, *rest = sizes
    keeps = first == flow.batch or (first == 0 and not node.attribute("allowzero", 0)) or len(flow.sizes) < 2
    if (first == 0 and len(flow.sizes) == 1) or (not keeps and (first != -1 or 0 in rest) and min(rest, default=0) < 1):
        return node.refused(f"is a reshape to {sizes}, which {KEEP_BATCH}")
    return [flow.reshaped(sizes, node.label, node.kind)]


def _mean(node: Node) -> list[Part]:
    axes = node.ints("axes", []) or node.numbers(1) or []
    if sorted(axis % 4 for axis in axes) != [2, 3]:
        return node.refused("is a mean over other axes than rows and columns; use torch.nn.AdaptiveAvgPool2d(1)")
    flat: list[Part] = [] if node.attribute("keepdims", 1) else [FlattenPart(node.label)]
    return [AdaptivePoolPart(node.label, "average", (1, 1)), *flat]


def _arithmetic(node: Node) -> list[Part]:
    """A sum, difference, product or quotient of the input and a constant folds into the first layer."""
    place = list(node.node.input).index(node.flow.at)
    constant = node.required(1 - place) if place < 2 else None
    parts = [] if constant is None or (place and node.kind in ("Sub", "Div")) else \
        node.flow.affine(node.label, node.kind.lower(), constant)
    return parts or node.unsupported(ARITHMETIC)


def _softmax(node: Node) -> list[Part]:
    axis = node.attribute("axis", -1 if node.opset >= 13 else 1)
    if axis not in (1, -1):
        return node.refused("is a softmax over another axis than the outputs; use dim=1")
    # Before operator set 13 it is over this axis and all after it.
    return [SoftmaxPart(node.label, None if node.opset < 13 and axis == 1 else axis)]


HANDLERS: dict[str, Callable[[Node], list[Part]]] = {
    "Conv": _conv, "Gemm": _gemm, "MatMul": _matmul, "BatchNormalization": _batch_norm,
    "Pad": _pad, "Relu": lambda node: [ReluPart(node.label)], "MaxPool": _pool("max"), "AveragePool": _pool("average"),
    "GlobalAveragePool": lambda node: [AdaptivePoolPart(node.label, "average", (1, 1))],
    "GlobalMaxPool": lambda node: [AdaptivePoolPart(node.label, "max", (1, 1))],
    "Add": _arithmetic, "Sub": _arithmetic, "Mul": _arithmetic, "Div": _arithmetic,
    "ReduceMean": _mean, "Flatten": _flatten, "Reshape": _reshape, "Softmax": _softmax, "LogSoftmax": _softmax,
}
