# SPDX-License-Identifier: Apache-2.0
"""Translates the operators of ONNX into the parts of a model."""

import math
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from host.importers.activation_readers import ReadError, exported, from_onnx, prelu
from host.importers.chain_tracer import ARITHMETIC
from host.importers.conv_forms import over_two_axes
from host.importers.onnx_maps import MAP_HANDLERS, along_row
from host.importers.onnx_node import OnnxNode
from host.importers.onnx_tensors import stored_tensor
from host.importers.source_layers import (
    ActivationPart,
    AdaptivePoolPart,
    ConvPart,
    JoinPart,
    LinearPart,
    MulPart,
    NormPart,
    PadPart,
    Part,
    PoolPart,
    SoftmaxPart,
)
from host.importers.stored_tensor import StoredTensor, masked, number_of, transposed
from host.importers.supported_layers import JOINS_CHANNELS, JOINS_CONSTANTS, NOT_ZEROS
from host.network.function import Function

__all__ = ["EXPORT_AGAIN", "read_function", "read_node"]

EXPORT_AGAIN = ("export the model again: torch.onnx.export(model.eval(), (example,), 'model.onnx'), for which torch "
                "needs the package onnxscript")


def read_node(node: OnnxNode) -> None:
    """Adds to the flow of ``node`` the parts that the node becomes, or the constant that it computes."""
    flow, inputs, outputs = node.flow, list(node.proto.input), node.proto.output
    if not outputs:
        return
    gated = flow.gated(inputs) if node.kind == "Mul" else None
    if gated:
        flow.go_on(outputs[0], ActivationPart(node.label, gated))
        return
    takes = flow.takes(node.label, node.kind, inputs, adds=node.kind in ("Add", "Sum", "Sub"),
                       joins=node.kind == "Concat", multiplies=node.kind == "Mul")
    if takes is None:
        with suppress(ValueError, TypeError):
            _constant(node)
        return
    if not takes or node.kind in ("Dropout", "Identity"):
        training = node.whole.get(inputs[2]) if takes and len(inputs) > 2 else None
        if training is not None and any((*training.int32_data, *training.raw_data)):
            flow.assume_no_dropout(node.label)
        flow.go_on(outputs[0])
        return
    handler = HANDLERS.get(node.kind)
    if flow.others and node.kind != "Concat":
        if node.kind != "Mul":
            flow.add_up(node.label, minus=node.kind == "Sub")
        flow.go_on(outputs[0], *([MulPart(node.label)] if node.kind == "Mul" else []))
        return
    try:
        parts: list[Part] = _activation(node)
    except ReadError as error:
        parts = node.refused(str(error))
    if parts:
        pass
    elif handler is None:
        parts = node.unsupported()
    else:
        try:
            parts = handler(node)
        except (ValueError, IndexError, TypeError) as error:
            parts = node.refused(f"is a garbled {node.kind} ({str(error)[:80]}); {EXPORT_AGAIN}")
    flow.go_on(outputs[0], *parts)


def read_function(node: OnnxNode, value: str, function: Function) -> None:
    """Adds to the flow of ``node``, which gives its result, the ``function`` of the file's value ``value``."""
    if node.flow.takes(node.label, node.kind, [value]):
        node.flow.go_on(node.proto.output[0], ActivationPart(node.label, function))


def _constant(node: OnnxNode) -> None:
    """A node that takes no activation: a tensor, or a weight that is transposed or masked. All others are ignored.
    """
    flow, proto = node.flow, node.proto
    if node.kind == "Constant":
        for one in proto.attribute:
            if one.name == "value" and one.HasField("t"):
                flow.constants[proto.output[0]] = stored_tensor(one.t, node.folder)
                node.whole[proto.output[0]] = one.t
        return
    node.keep_integers()
    tensors = [flow.constants[name] for name in proto.input if name in flow.constants]
    if len(tensors) == len(proto.input) == 1 and node.kind == "Identity":
        flow.derive(proto.output[0], tensors[0], *proto.input)
    elif len(tensors) == len(proto.input) == 1 and node.kind == "Transpose" and node.ints("perm", [1, 0]) == [1, 0]:
        flow.derive(proto.output[0], transposed(tensors[0]), *proto.input)
    elif len(tensors) == len(proto.input) == 2 and node.kind == "Mul" and tensors[0].shape == tensors[1].shape:
        flow.derive(proto.output[0], masked(*tensors), *proto.input)


def _conv(node: OnnxNode) -> list[Part]:
    weight = node.required(1)
    if not weight.problem and len(weight.shape) not in (3, 4):
        return node.refused(f"is a convolution over {len(weight.shape) - 2} axes; only those over one or two are "
                            "supported")
    axes = 1 if len(weight.shape) == 3 else 2
    padding, end_padding = node.padding(axes)
    conv = ConvPart(node.layer(), over_two_axes(weight), node.tensor(2), node.pair("strides", 1, axes), padding,
                    node.pair("dilations", 1, axes), node.attribute("group", 1), end_padding, node.same())
    return along_row(node, conv, axes == 1)


def _pad(node: OnnxNode) -> list[Part]:
    sizes = node.numbers(1) if node.opset >= 11 else node.ints("pads", [])
    value = node.tensor(2) if node.opset >= 11 else None
    axes = node.numbers(3) if len(node.proto.input) > 3 and node.proto.input[3] else None
    if sizes is None or (axes is None and len(node.proto.input) > 3 and node.proto.input[3]):
        return node.refused("is a padding whose sizes are computed; export it with fixed ones")
    if node.attribute("mode", b"constant") != b"constant" or node.attribute("value", 0.0) != 0 \
            or (value is not None and (value.problem or value.values != 1 or value.read().any())):
        return node.refused(NOT_ZEROS)
    half = len(sizes) // 2
    count = (node.axes or 4) if axes else half
    found = {axis % count: (before, after) for axis, before, after in zip(axes or range(half), sizes[:half],
                                                                         sizes[half:], strict=True)}
    if any(any(pads) for axis, pads in found.items() if axis < 2) or min(sizes) < 0 or max(sizes) >= 1 << 16:
        return node.refused(f"pads by {sizes}; only zeros around rows and columns are supported, none less than 0")
    return [PadPart(node.label, found.get(2, (0, 0)) if count == 4 else (0, 0), found.get(count - 1, (0, 0)))]


def _gemm(node: OnnxNode) -> list[Part]:
    if node.attribute("transA", 0) or node.attribute("alpha", 1.0) != 1 or node.attribute("beta", 1.0) != 1 \
            or not node.flow.is_at(node.proto.input[0]):
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


def _matmul(node: OnnxNode) -> list[Part]:
    if not node.flow.is_at(node.proto.input[0]):
        return node.refused("is a transposed product; use torch.nn.Linear")
    return [LinearPart(node.layer(), transposed(node.required(1)), None)]


def _batch_norm(node: OnnxNode) -> list[Part]:
    eps = node.attribute("epsilon", 1e-5)
    if node.attribute("training_mode", 0):
        return node.refused("is a batch normalisation in training mode; call model.eval() before the export")
    if not (math.isfinite(eps) and eps >= 0):
        return node.refused("is a batch normalisation whose epsilon is not a small positive number")
    scale, shift, mean, variance = (node.required(number) for number in range(1, 5))
    return [NormPart(node.layer(), scale, shift, mean, variance, eps)]


def _pool(kind: str) -> Callable[[OnnxNode], list[Part]]:
    def read(node: OnnxNode) -> list[Part]:
        axes = len(node.ints("kernel_shape", []))
        if axes == 0:
            raise ValueError("attribute kernel_shape")
        if axes not in (1, 2):
            return node.refused(f"is a pooling over {axes} axes; only those over one or two are supported")
        padding, end_padding = node.padding(axes)
        if node.pair("dilations", 1, axes) != (1, 1):
            return node.refused("has a dilation, but windows have no gaps here; use dilation=1")
        window = node.pair("kernel_shape", 1, axes)
        part = PoolPart(node.label, kind, window, node.pair("strides", 1, axes), padding,
                        bool(node.attribute("ceil_mode", 0)), bool(node.attribute("count_include_pad", 0)),
                        None if end_padding == padding else end_padding, node.same())
        return along_row(node, part, axes == 1)
    return read


def _global_pool(kind: str) -> Callable[[OnnxNode], list[Part]]:
    """Of values with one axis beside the channels, its result has one as well."""
    return lambda node: along_row(node, AdaptivePoolPart(node.label, kind, (1, 1)), node.axes == 3)


def _join(node: OnnxNode) -> list[Part]:
    axis = node.attribute("axis", 0)
    if any(name not in node.flow.names for name in node.proto.input):
        return node.refused(JOINS_CONSTANTS)
    if axis != 1:
        return node.refused(f"joins values along axis {axis}; {JOINS_CHANNELS}")
    return [JoinPart(node.label)]


def _arithmetic(node: OnnxNode) -> list[Part]:
    """A sum, difference, product or quotient of a value and a constant."""
    place = next(number for number, name in enumerate(node.proto.input) if node.flow.is_at(name))
    constant = node.required(1 - place) if place < 2 else None
    operation = "rsub" if place and node.kind == "Sub" else node.kind.lower()
    parts = [] if constant is None or (place and node.kind == "Div") else \
        node.flow.affine(node.label, operation, constant)
    return parts or node.unsupported(ARITHMETIC)


def _negative(node: OnnxNode) -> list[Part]:
    return node.flow.affine(node.label, "mul", number_of(-1.0)) \
        or node.unsupported(ARITHMETIC)


def _activation(node: OnnxNode) -> list[Part]:
    """The part of an activation function; empty if the node is none."""
    if node.kind == "PRelu":
        return [ActivationPart(node.label, prelu(node.required(1)))]
    if node.kind == "Clip":
        ends = {name: node.attribute(name, None) for name in ("min", "max")}
        for number, name in enumerate(ends, 1):
            tensor = node.tensor(number) if node.opset >= 11 else None
            if tensor is not None:
                if tensor.problem or tensor.values != 1:
                    raise ReadError("is a clamp whose ends are computed; export it with fixed ones")
                ends[name] = float(tensor.read().ravel()[0])
        found = exported("clamp", ends)
    else:
        found = from_onnx(node.kind, node.attribute)
    return [] if found is None else [ActivationPart(node.label, found)]


def _softmax(node: OnnxNode) -> list[Part]:
    axis = node.attribute("axis", -1 if node.opset >= 13 else 1)
    if axis not in (1, -1):
        return node.refused("is a softmax over another axis than the outputs; use dim=1")
    # Before operator set 13 a softmax is over this axis and all after it.
    return [SoftmaxPart(node.label, None if node.opset < 13 and axis == 1 else axis)]


HANDLERS: dict[str, Callable[[OnnxNode], list[Part]]] = {
    "Conv": _conv, "Gemm": _gemm, "MatMul": _matmul, "BatchNormalization": _batch_norm,
    "Pad": _pad, "MaxPool": _pool("max"), "AveragePool": _pool("average"),
    "GlobalAveragePool": _global_pool("average"), "GlobalMaxPool": _global_pool("max"), "Concat": _join,
    "Neg": _negative, "Add": _arithmetic, "Sub": _arithmetic, "Mul": _arithmetic, "Div": _arithmetic,
    "Softmax": _softmax, "LogSoftmax": _softmax, **MAP_HANDLERS,
}
