# SPDX-License-Identifier: Apache-2.0
"""Translates the operations of an exported program (torch.ops.aten) into the parts of a model."""

import math
from collections.abc import Callable

import numpy as np

from host.importers.activation_readers import ReadError, exported, prelu
from host.importers.chain_tracer import ARITHMETIC, Dataflow
from host.importers.conv_forms import over_two_axes
from host.importers.source_layers import (
    ActivationPart,
    AdaptivePoolPart,
    ConvPart,
    FlattenPart,
    JoinPart,
    LinearPart,
    MulPart,
    NormPart,
    PadPart,
    PoolPart,
    SoftmaxPart,
    UnsupportedPart,
)
from host.importers.stored_tensor import StoredTensor, number_of, transposed
from host.importers.supported_layers import JOINS_CHANNELS, JOINS_CONSTANTS, NOT_ZEROS
from host.importers.torch_export_constants import IGNORED, keep_constant
from host.importers.torch_export_maps import MAP_HANDLERS, transposed_conv
from host.importers.torch_export_node import ExportNode, GarbledError, ValueName, Values, argument, size_of

__all__ = ["read_node"]

_DIFFERENCES = ("sub", "sub_")
_SUMS = ("add", "add_", *_DIFFERENCES)
_PRODUCTS = ("mul", "mul_")
_JOINS = ("cat", "concat", "concatenate")

def read_node(node: Values, flow: Dataflow, names: dict[str, str], shapes: Values) -> None:
    """Adds to the flow the parts that a node becomes, or the constant that it computes.

    Parameters
    ----------
    node : dict
        The node as the file has it.
    flow : Dataflow
        Values of the nodes before it; it is changed.
    names : dict
        Names of the tensors in the model, by the names of their values in the graph.
    shapes : dict
        The graph's ``tensor_values``.
    """
    target, label = str(node["target"]), str(node.get("name") or node["target"])
    operation = target.removeprefix("torch.ops.aten.").split(".")[0]
    arguments = {one["name"]: argument(one["arg"]) for one in node["inputs"]}
    outputs = [one["as_tensor"]["name"] for one in node["outputs"] if "as_tensor" in one] \
        + [part["name"] for one in node["outputs"] for part in one.get("as_tensors") or ()]
    taken = [value.name for value in arguments.values() if type(value) is ValueName] \
        + [one.name for value in arguments.values() if type(value) is list for one in value if type(one) is ValueName]
    if not outputs:
        return
    sizes = [size_of(size) for size in shapes[outputs[0]]["sizes"]]
    gated = flow.gated(taken) if operation in _PRODUCTS else None
    if gated:
        flow.go_on(outputs[0], ActivationPart(label, gated))
        return
    adds = operation in _SUMS and arguments.get("alpha", 1) in (None, 1)
    takes = flow.takes(label, target, taken, adds=adds, joins=operation in _JOINS,
                       multiplies=operation in _PRODUCTS)
    if takes is None:
        keep_constant(operation, arguments, outputs[0], sizes, flow, names)
        return
    handler = _HANDLERS.get(operation)
    if not takes or operation in IGNORED:
        if takes and arguments.get("train"):
            flow.assume_no_dropout(label)
        flow.go_on(outputs[0])
    elif flow.others and operation not in _JOINS:
        if operation not in _PRODUCTS:
            flow.add_up(label, minus=operation in _DIFFERENCES)
        flow.go_on(outputs[0], *([MulPart(label)] if operation in _PRODUCTS else []))
    elif target.startswith("torch.ops.aten.") and (parts := _activation(operation, label, arguments, flow)):
        flow.go_on(outputs[0], *parts)
    elif handler is None or not target.startswith("torch.ops.aten."):
        flow.refuse(label, _unsupported(target))
        for output in outputs:
            flow.go_on(output)
    else:
        first = arguments.get("input", arguments.get("self"))
        axes = shapes[first.name]["sizes"] if type(first) is ValueName and first.name in shapes else []
        call = ExportNode(label, target, arguments, flow, names, sizes, [size_of(size) for size in axes])
        parts = handler(call)
        flow.go_on(outputs[0], *parts)


def _activation(operation: str, label: str, arguments: Values, flow: Dataflow) -> list:
    """The part of an activation function; empty if the operation is none."""
    try:
        if operation in ("prelu", "_prelu_kernel") and type(arguments.get("weight")) is ValueName:
            return [ActivationPart(label, prelu(flow.constant(arguments["weight"].name)))]
        found = exported(operation, arguments)
        return [] if found is None else [ActivationPart(label, found)]
    except ReadError as error:
        return [UnsupportedPart(label, str(error))]


def _unsupported(target: str) -> str:
    """The problem of an operation that cannot run."""
    return f"is {target[:80]}, which the engine does not run; see the supported layers in the README" \
        + ARITHMETIC * (target.removeprefix("torch.ops.aten.").split(".")[0] in ("add", "sub", "mul", "div"))


def _conv(call: ExportNode) -> list:
    weight, bias = call.required("weight"), call.tensor("bias")
    if call.arguments.get("transposed"):
        return transposed_conv(call)
    padding, groups = call.arguments.get("padding"), call.arguments.get("groups", 1)
    if not weight.problem and len(weight.shape) not in (3, 4):
        return call.refused(f"is a convolution over {len(weight.shape) - 2} axes; only those over one or two are "
                            "supported")
    pads = (0, 0) if padding in ("same", "valid") else call.pair("padding", 0)
    if type(groups) is not int:
        raise GarbledError(f"groups of {call.label}")
    if not weight.problem and len(call.sizes) != len(weight.shape):
        return call.refused("is a convolution of one image without a batch axis; export the model with an example that "
                            "has one: example[None]")
    stride, dilation = call.pair("stride", 1), call.pair("dilation", 1)
    if len(weight.shape) == 3:
        (_, pad), (_, step), (_, gap) = pads, stride, dilation
        pads, stride, dilation = (0, pad), (1, step), (1, gap)
    return [ConvPart(call.layer("weight"), over_two_axes(weight), bias, stride, pads, dilation, groups,
                     same="upper" if padding == "same" else "")]


def _pad(call: ExportNode) -> list:
    """Sizes come last axis first."""
    sizes, value, mode = (call.arguments.get(name) for name in ("pad", "value", "mode"))
    if type(sizes) is not list or not all(type(size) is int and abs(size) < 1 << 16 for size in sizes):
        raise GarbledError(f"pad of {call.label}")
    if mode not in (None, "constant") or value not in (None, 0):
        return call.refused(NOT_ZEROS)
    axes = len(call.sizes) - 2
    if len(sizes) % 2 or len(sizes) > 4 or any(sizes[2 * axes:]) or min(sizes) < 0:
        return call.refused(f"pads by {sizes}; only zeros around rows and columns are supported, none less than 0")
    left, right, above, below = (*sizes, 0, 0, 0, 0)[:4]
    return [PadPart(call.label, (above, below), (left, right))]


def _linear(call: ExportNode) -> list:
    return [LinearPart(call.layer("weight"), call.required("weight"), call.tensor("bias"))]


def _addmm(call: ExportNode) -> list:
    weight = call.tensor("mat2")
    if weight is None or any(call.arguments.get(scale, 1) != 1 for scale in ("beta", "alpha")):
        return call.refused("is a scaled sum; use torch.nn.Linear")
    return [LinearPart(call.layer("mat2"), transposed(weight), call.tensor("self"))]


def _mm(call: ExportNode) -> list:
    name = "mat2" if "mat2" in call.arguments else "other"
    return [LinearPart(call.layer(name), transposed(call.required(name)), None)]


def _batch_norm(call: ExportNode) -> list:
    if call.arguments.get("training"):
        return call.refused("is a batch normalisation in training mode; call model.eval() before the export")
    mean, variance = call.tensor("running_mean"), call.tensor("running_var")
    eps = call.arguments.get("eps", 1e-5)
    if mean is None or variance is None:
        return call.refused("is a batch normalisation without running statistics; train with track_running_stats=True")
    if type(eps) is not float or not (math.isfinite(eps) and eps >= 0):
        return call.refused("is a batch normalisation whose eps is not a small positive number")
    return [NormPart(call.layer("running_mean"), call.tensor("weight"), call.tensor("bias"), mean, variance, eps)]


def _pool(kind: str, axes: int = 2) -> Callable[[ExportNode], list]:
    def read(call: ExportNode) -> list:
        if kind == "max" and call.pair("dilation", 1) != (1, 1):
            return call.refused("has a dilation, but windows have no gaps here; use dilation=1")
        if call.arguments.get("divisor_override") is not None:
            return call.refused("divides by a number of its own; leave out divisor_override")
        window = call.pair("kernel_size", 0)
        stride = call.pair("stride", 0) if call.arguments.get("stride") else window
        padding = call.pair("padding", 0)
        if axes == 1:
            window, stride, padding = (1, window[1]), (1, stride[1]), (0, padding[1])
        return [PoolPart(call.label, kind, window, stride, padding,
                         bool(call.arguments.get("ceil_mode", False)),
                         bool(call.arguments.get("count_include_pad", True)))]
    return read


def _adaptive_pool(kind: str, axes: int = 2) -> Callable[[ExportNode], list]:
    def read(call: ExportNode) -> list:
        rows, cols = call.pair("output_size", 0)
        return [AdaptivePoolPart(call.label, kind, (rows if axes == 2 else 1, cols))]
    return read


def _reduced(kind: str, what: str) -> Callable[[ExportNode], list]:
    def read(call: ExportNode) -> list:
        dims, keeps = call.arguments.get("dim"), bool(call.arguments.get("keepdim"))
        axes = len(call.sizes) + (0 if keeps or type(dims) is not list else len(dims))
        if type(dims) is not list or axes not in (3, 4) \
                or {one % axes for one in dims if type(one) is int} != {*range(2, axes)}:
            return call.refused(f"is a {what} over other axes than rows and columns, and only those of feature "
                                f"maps run, as torch.nn.Adaptive{'Avg' if kind == 'average' else 'Max'}Pool2d(1) "
                                "takes them")
        flat = [] if keeps else [FlattenPart(call.label)]
        return [AdaptivePoolPart(call.label, kind, (1, 1)), *flat]
    return read


def _arithmetic(call: ExportNode) -> list:
    """A sum, difference, product or quotient of a value and a constant."""
    operation = call.target.removeprefix("torch.ops.aten.").split(".")[0].removesuffix("_")
    value = call.arguments.get("other")
    first = call.arguments.get("self")
    constant = StoredTensor((), 1, lambda: np.asarray(value, np.float64)) if type(value) in (int, float) else \
        call.tensor("other") if type(value) is ValueName else None
    plain = call.arguments.get("alpha", 1) == 1 and call.arguments.get("rounding_mode") is None
    if type(first) is ValueName and type(value) is ValueName and call.flow.is_at(value.name) and \
            not call.flow.is_at(first.name) and operation in ("add", "mul", "sub"):
        constant, first = call.tensor("self"), value
        operation = "rsub" if operation == "sub" else operation
    if constant is None or not plain or type(first) is not ValueName or not call.flow.is_at(first.name):
        return call.refused(_unsupported(call.target))
    return call.flow.affine(call.label, operation, constant) or call.refused(_unsupported(call.target))


def _negative(call: ExportNode) -> list:
    return call.flow.affine(call.label, "mul", number_of(-1.0)) \
        or call.refused(_unsupported(call.target))


def _join(call: ExportNode) -> list:
    joined, axis = call.arguments.get("tensors"), call.arguments.get("dim", 0)
    if type(joined) is not list or type(axis) is not int:
        raise GarbledError(f"tensors of {call.label}")
    if any(type(one) is not ValueName or one.name not in call.flow.names for one in joined):
        return call.refused(JOINS_CONSTANTS)
    if axis % max(1, len(call.sizes)) != 1:
        return call.refused(f"joins values along axis {axis}; {JOINS_CHANNELS}")
    return [JoinPart(call.label)]


def _softmax(call: ExportNode) -> list:
    if call.arguments.get("dim") not in (1, -1):
        return call.refused("is a softmax over another axis than the outputs; use dim=1")
    return [SoftmaxPart(call.label, call.arguments["dim"])]


_HANDLERS: dict[str, Callable[[ExportNode], list]] = {
    "conv1d": _conv, "conv2d": _conv, "convolution": _conv, "linear": _linear, "addmm": _addmm, "mm": _mm,
    "matmul": _mm,
    "batch_norm": _batch_norm, "_native_batch_norm_legit_no_training": _batch_norm,
    "max_pool2d": _pool("max"), "max_pool2d_with_indices": _pool("max"), "avg_pool2d": _pool("average"),
    "adaptive_avg_pool2d": _adaptive_pool("average"), "_adaptive_avg_pool2d": _adaptive_pool("average"),
    "max_pool1d": _pool("max", 1), "avg_pool1d": _pool("average", 1),
    "adaptive_avg_pool1d": _adaptive_pool("average", 1), "adaptive_max_pool1d": _adaptive_pool("max", 1),
    "adaptive_max_pool2d": _adaptive_pool("max"), "mean": _reduced("average", "mean"),
    "amax": _reduced("max", "maximum"), "pad": _pad, "constant_pad_nd": _pad, **MAP_HANDLERS,
    **dict.fromkeys(("add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "rsub"), _arithmetic),
    **dict.fromkeys(_JOINS, _join),
    "neg": _negative, "softmax": _softmax, "_softmax": _softmax, "log_softmax": _softmax, "_log_softmax": _softmax,
}
