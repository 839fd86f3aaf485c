# SPDX-License-Identifier: Apache-2.0
"""Reads ``.onnx`` files with the `onnx` library, which is optional. Nothing in them is executed, and no other file is
opened: tensors must lie in the file itself."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from host.dataflow import KEEP_BATCH, Dataflow, transposed
from host.errors import UserError
from host.parts import (
    AdaptivePoolPart,
    ConvPart,
    FlattenPart,
    LinearPart,
    NormPart,
    Part,
    PoolPart,
    ReluPart,
    SoftmaxPart,
    UnsupportedPart,
    shown,
)
from host.tensors import FLOAT_BYTES, StoredTensor, dtype_problem, shape_problem

__all__ = ["read_onnx"]

BYTES_LIMIT = 1 << 31
"""Of a protobuf message."""

NODES_LIMIT = 10_000

OLDEST_OPSET = 7

DTYPES = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
"""onnx.TensorProto.DataType of what can be weights."""

EXPORT_AGAIN = "export the model again with torch.onnx.export(model.eval(), (example,), path)"


def read_onnx(path: Path) -> Dataflow:
    """The model's parts and the shape of its input.

    Raises
    ------
    UserError
        If the library is missing, or for a file that is damaged, of an unknown version, or not one chain.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise UserError("it is an ONNX file, for which the package onnx is needed; run: pip install onnx") from None
    if path.stat().st_size >= BYTES_LIMIT:
        raise UserError(f"it has {path.stat().st_size:,} bytes, more than an ONNX file of one part can have")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"it is a damaged or cut-off ONNX file ({str(error)[:80]}); {EXPORT_AGAIN}") from None
    newest = onnx.defs.onnx_opset_version()
    versions = [one.version for one in model.opset_import if one.domain in ("", "ai.onnx")]
    if not model.graph.node or model.ir_version > onnx.IR_VERSION or len(versions) != 1 \
            or not OLDEST_OPSET <= versions[0] <= newest:
        raise UserError(f"it has the IR version {model.ir_version} and the operator sets {versions}; known are IR "
                        f"versions up to {onnx.IR_VERSION} and one operator set from {OLDEST_OPSET} to {newest}, with "
                        f"at least one node: {EXPORT_AGAIN}, or install a newer onnx")
    if len(model.graph.node) > NODES_LIMIT:
        raise UserError(f"it has {len(model.graph.node):,} nodes, more than {NODES_LIMIT:,}")
    return _follow(model.graph, versions[0])


def _follow(graph: Any, opset: int) -> Dataflow:
    constants = {one.name: _tensor(one) for one in graph.initializer}
    whole = {one.name: one for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in constants]
    if len(inputs) != 1:
        raise UserError(f"it takes {len(inputs)} inputs, not one; export a model of one image")
    sizes = [one.dim_value if 0 < one.dim_value < 1 << 24 else one.dim_param or None
             for one in inputs[0].type.tensor_type.shape.dim]
    flow = Dataflow(inputs[0].name, sizes, constants)
    for number, node in enumerate(graph.node):
        _Node(node, node.name or f"{node.op_type}_{number}", opset, flow, whole).read()
    if [one.name for one in graph.output] != [flow.at]:
        flow.refuse("output", "is not the last layer's alone; return one tensor from forward()")
    return flow


def _tensor(stored: Any) -> StoredTensor:
    """An initialiser; read when it is needed."""
    from onnx import TensorProto, numpy_helper
    shape, dtype = tuple(stored.dims), DTYPES.get(stored.data_type, f"number {stored.data_type} of ONNX")
    if stored.data_location == TensorProto.EXTERNAL or stored.external_data:
        return StoredTensor((), problem="lies in another file, and only the model's own is read; save all in one: "
                                        "onnx.save(onnx.load(path), new_path, save_as_external_data=False)")
    if not all(0 <= size < 1 << 48 for size in shape):
        return StoredTensor((), problem="is described in a garbled way")
    if problem := dtype_problem(dtype) or shape_problem(shape):
        return StoredTensor(shape, problem=problem)
    count, held = math.prod(shape), len(stored.raw_data) // FLOAT_BYTES[dtype]
    given = held if stored.raw_data else len(stored.float_data) + len(stored.double_data) + len(stored.int32_data)
    if given != count or len(stored.raw_data) % FLOAT_BYTES[dtype]:
        return StoredTensor(shape, problem=f"claims {count:,} values, but the file holds {given:,} for it")

    def load() -> np.ndarray:
        values: np.ndarray = numpy_helper.to_array(stored)
        return values.astype(np.float32) if dtype == "bfloat16" else values
    return StoredTensor(shape, count, load)


class _Node:
    """A node of the graph, with its inputs and attributes checked one by one."""

    def __init__(self, node: Any, label: str, opset: int, flow: Dataflow, whole: dict[str, Any]) -> None:
        self.node, self.label, self.opset, self.flow, self.whole = node, label, opset, flow, whole
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
            self._constant()
            return
        if not takes or self.kind in ("Dropout", "Identity"):
            flow.go_on(node.output[0])
            return
        handler = _HANDLERS.get(self.kind)
        if handler is None:
            parts: list[Part] = self.refused(f"is the operation {self.kind}, which the engine does not run; see the "
                                             "supported layers in the README")
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
        if not isinstance(last, LinearPart) or last.bias is not None or bias is None or len(bias.shape) > 1:
            return False
        self.flow.parts.pop()
        self.flow.go_on(self.node.output[0], LinearPart(last.name, last.weight, bias))
        return True

    def _constant(self) -> None:
        """A node that takes no activation: a tensor, or a transposed weight; of any other, nothing is known."""
        source = self.flow.constants.get(self.node.input[0]) if self.node.input else None
        if self.kind == "Constant":
            for one in self.node.attribute:
                if one.name == "value" and one.HasField("t"):
                    self.flow.constants[self.node.output[0]] = _tensor(one.t)
                    self.whole[self.node.output[0]] = one.t
        elif source is not None and self.kind == "Identity":
            self.flow.constants[self.node.output[0]] = source
        elif source is not None and self.kind == "Transpose" and self.ints("perm", [1, 0]) == [1, 0]:
            self.flow.constants[self.node.output[0]] = transposed(source)

    def refused(self, problem: str) -> list[Part]:
        return [UnsupportedPart(self.label, problem)]

    def tensor(self, number: int) -> StoredTensor | None:
        name = self.node.input[number] if number < len(self.node.input) else ""
        if not name:
            return None
        return self.flow.constants.get(name, StoredTensor((), problem="is computed, not stored; store it"))

    def required(self, number: int) -> StoredTensor:
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
        return list(self.attribute(name, default))

    def pair(self, name: str, default: int) -> tuple[int, int]:
        rows, cols = self.ints(name, [default, default])
        if not (0 <= rows < 1 << 16 and 0 <= cols < 1 << 16):
            raise ValueError(f"attribute {name}")
        return rows, cols

    def padding(self) -> tuple[int, int] | str:
        """Of rows and columns, or why it cannot be."""
        auto = self.attribute("auto_pad", b"NOTSET")
        if auto == b"VALID":
            return 0, 0
        if auto != b"NOTSET":
            return f"has auto_pad {shown(auto.decode('ascii', 'replace'))}; export it with explicit pads"
        top, left, bottom, right = self.ints("pads", [0, 0, 0, 0])
        if (top, left) != (bottom, right):
            return (f"pads {top} rows above and {bottom} below, {left} columns left and {right} right; only as much on "
                    "both sides is supported")
        if not (0 <= top < 1 << 16 and 0 <= left < 1 << 16):
            raise ValueError("attribute pads")
        return top, left

    def numbers(self, number: int) -> list[int] | None:
        """A stored list of integers, such as a shape; None if it is not stored."""
        from onnx import numpy_helper
        stored = self.whole.get(self.node.input[number]) if number < len(self.node.input) else None
        if stored is None or stored.data_type != 7 or len(stored.dims) != 1 or not 0 < stored.dims[0] <= 8 \
                or stored.external_data or max(len(stored.int64_data), len(stored.raw_data) // 8) != stored.dims[0]:
            return None
        return [int(value) for value in numpy_helper.to_array(stored)]


def _conv(node: _Node) -> list[Part]:
    weight, padding = node.required(1), node.padding()
    if not weight.problem and len(weight.shape) != 4:
        return node.refused(f"is a convolution of {len(weight.shape) - 2} axes; of convolutions only those of two are "
                            "supported")
    if isinstance(padding, str):
        return node.refused(padding)
    return [ConvPart(node.layer(), weight, node.tensor(2), node.pair("strides", 1), padding,
                     node.pair("dilations", 1), node.attribute("group", 1))]


def _gemm(node: _Node) -> list[Part]:
    if node.attribute("transA", 0) or node.attribute("alpha", 1.0) != 1 or node.attribute("beta", 1.0) != 1 \
            or node.node.input[0] != node.flow.at:
        return node.refused("is a scaled or transposed product; use torch.nn.Linear")
    weight = node.required(1)
    return [LinearPart(node.layer(), weight if node.attribute("transB", 0) else transposed(weight), node.tensor(2))]


def _matmul(node: _Node) -> list[Part]:
    if node.node.input[0] != node.flow.at:
        return node.refused("is a transposed product; use torch.nn.Linear")
    return [LinearPart(node.layer(), transposed(node.required(1)), None)]


def _batch_norm(node: _Node) -> list[Part]:
    eps = node.attribute("epsilon", 1e-5)
    if node.attribute("training_mode", 0):
        return node.refused("is a batch normalisation in training mode; call model.eval() before the export")
    if not (math.isfinite(eps) and eps >= 0):
        return node.refused("is a batch normalisation whose epsilon is not a small positive number")
    scale, shift, mean, variance = (node.required(number) for number in range(1, 5))
    return [NormPart(node.layer(), scale, shift, mean, variance, eps)]


def _pool(kind: str) -> Callable[[_Node], list[Part]]:
    def read(node: _Node) -> list[Part]:
        padding = node.padding()
        if isinstance(padding, str):
            return node.refused(padding)
        if node.pair("dilations", 1) != (1, 1):
            return node.refused("has a dilation, but windows have no gaps here; use dilation=1")
        return [PoolPart(node.label, kind, node.pair("kernel_shape", 0), node.pair("strides", 1), padding,
                         bool(node.attribute("ceil_mode", 0)), bool(node.attribute("count_include_pad", 0)))]
    return read


def _flatten(node: _Node) -> list[Part]:
    if node.attribute("axis", 1) != 1 or len(node.flow.sizes) == 1:
        return node.refused("is a flatten with other axes than all but the first; use torch.nn.Flatten()")
    return [FlattenPart(node.label)]


def _reshape(node: _Node) -> list[Part]:
    sizes, flow = node.numbers(1), node.flow
    if sizes is None:
        return node.refused("is a reshape to a shape that is computed; use torch.nn.Flatten()")
    first, *rest = sizes
    keeps = first == flow.batch or (first == 0 and not node.attribute("allowzero", 0)) or len(flow.sizes) < 2
    if (first == 0 and len(flow.sizes) == 1) or (not keeps and (first != -1 or 0 in rest) and min(rest, default=0) < 1):
        return node.refused(f"is a reshape to {sizes}, which {KEEP_BATCH}")
    return [flow.reshaped(sizes, node.label, node.kind)]


def _mean(node: _Node) -> list[Part]:
    axes = node.ints("axes", []) or node.numbers(1) or []
    if sorted(axis % 4 for axis in axes) != [2, 3]:
        return node.refused("is a mean over other axes than rows and columns; use torch.nn.AdaptiveAvgPool2d(1)")
    flat: list[Part] = [] if node.attribute("keepdims", 1) else [FlattenPart(node.label)]
    return [AdaptivePoolPart(node.label, "average", (1, 1)), *flat]


def _softmax(node: _Node) -> list[Part]:
    axis = node.attribute("axis", -1 if node.opset >= 13 else 1)
    if axis not in (1, -1):
        return node.refused("is a softmax over another axis than the outputs; use dim=1")
    # Before operator set 13 it is over this axis and all after it.
    return [SoftmaxPart(node.label, None if node.opset < 13 and axis == 1 else axis)]


_HANDLERS: dict[str, Callable[[_Node], list[Part]]] = {
    "Conv": _conv, "Gemm": _gemm, "MatMul": _matmul, "BatchNormalization": _batch_norm,
    "Relu": lambda node: [ReluPart(node.label)], "MaxPool": _pool("max"), "AveragePool": _pool("average"),
    "GlobalAveragePool": lambda node: [AdaptivePoolPart(node.label, "average", (1, 1))],
    "GlobalMaxPool": lambda node: [AdaptivePoolPart(node.label, "max", (1, 1))],
    "ReduceMean": _mean, "Flatten": _flatten, "Reshape": _reshape, "Softmax": _softmax, "LogSoftmax": _softmax,
}
