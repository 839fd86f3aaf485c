# SPDX-License-Identifier: Apache-2.0
"""Translates the operators of TensorFlow Lite into the parts of a model."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from host.importers.activation_readers import ReadError
from host.importers.chain_tracer import ARITHMETIC, Dataflow
from host.importers.source_layers import (
    ActivationPart,
    AdaptivePoolPart,
    ConvPart,
    FlattenPart,
    JoinPart,
    LinearPart,
    MulPart,
    PadPart,
    Part,
    PoolPart,
    SoftmaxPart,
)
from host.importers.stored_tensor import StoredTensor
from host.importers.supported_layers import JOINS_CHANNELS, JOINS_CONSTANTS
from host.importers.tflite_activations import FUNCTIONS, activated
from host.importers.tflite_maps import MAP_HANDLERS, SAME, TAKES, moved
from host.importers.tflite_node import LiteNode

__all__ = ["read_node"]

Maps = tuple[tuple[int, int, int], ...]
_SUMS = ("ADD", "SUB")
_OF_TWO = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}
"""Operators that may take two values, with the names of their options."""


def read_node(node: LiteNode) -> None:
    """Adds to the flow of ``node`` the parts that the node becomes, or the constant that it computes."""
    flow, output = node.flow, str(node.outputs[0])
    names = [str(one) for one in node.inputs]
    gated = flow.gated(names) if node.kind == "MUL" and not node.options("MulOptions").FusedActivationFunction() \
        else None
    if gated:
        flow.go_on(output, ActivationPart(node.label, gated))
        return
    takes = flow.takes(node.label, node.kind, names, adds=node.kind in _SUMS, joins=node.kind == "CONCATENATION",
                       multiplies=node.kind == "MUL")
    if takes is None:
        source = node.constant(0)
        if node.kind in ("DEQUANTIZE", "QUANTIZE") and source is not None:
            flow.derive(output, source, str(node.inputs[0]))
        return
    if not takes or node.kind in ("DEQUANTIZE", "QUANTIZE"):
        flow.go_on(output)
        return
    handler = _HANDLERS.get(node.kind)
    if flow.others and node.kind != "CONCATENATION" and len({*map(_order(flow), (flow.at, *flow.others))}) > 1:
        parts = node.refused("adds values of a flattened map to others; add before it is flattened")
    elif flow.others and node.kind != "CONCATENATION":
        if node.kind != "MUL":
            flow.add_up(node.label, minus=node.kind == "SUB")
        parts = activated(node, MulPart(node.label) if node.kind == "MUL" else None,
                          node.options(_OF_TWO[node.kind]).FusedActivationFunction())
    elif handler is None or not flow.is_at(str(node.inputs[TAKES.get(node.kind, 0)])):
        parts = node.refused(f"is the operation {node.kind}, which the engine does not run; see the supported layers "
                             "in the README" + ARITHMETIC * (node.kind in ("ADD", "SUB", "MUL", "DIV")))
    else:
        parts = handler(node)
    flow.go_on(output, *parts)


def _convolution(node: LiteNode) -> list[Part]:
    """Weights are [outputs, rows, columns, inputs / groups]."""
    options, weight = node.options("Conv2DOptions"), node.required(1)
    if len(node.shape) != 4 or (not weight.problem and len(weight.shape) != 4):
        return node.refused("is a convolution whose input or weight has not four axes")
    groups = 1 if weight.problem else max(1, node.shape[3] // weight.shape[3])
    return activated(node, _conv_part(node, options, moved(weight, (0, 3, 1, 2)), groups),
                          options.FusedActivationFunction())


def _depthwise(node: LiteNode) -> list[Part]:
    """Weights are [1, rows, columns, outputs]."""
    options, weight = node.options("DepthwiseConv2DOptions"), node.required(1)
    if len(node.shape) != 4 or (not weight.problem and (len(weight.shape) != 4 or weight.shape[0] != 1)):
        return node.refused("is a depthwise convolution whose input or weight has not four axes")
    return activated(node, _conv_part(node, options, moved(weight, (3, 0, 1, 2)), node.shape[3]),
                          options.FusedActivationFunction())


def _conv_part(node: LiteNode, options: Any, weight: StoredTensor, groups: int) -> ConvPart:
    return ConvPart(node.label, weight, node.constant(2), (options.StrideH(), options.StrideW()),
                    dilation=(options.DilationHFactor(), options.DilationWFactor()), groups=groups,
                    same="upper" if options.Padding() == SAME else "")


def _linear(node: LiteNode) -> list[Part]:
    options, weight = node.options("FullyConnectedOptions"), node.required(1)
    if options.WeightsFormat() != 0:
        return node.refused("has weights in a shuffled order; convert the model again")
    if options.KeepNumDims() and len(node.shape) != 2:
        return node.refused(f"works on the last of {len(node.shape)} axes; put a Flatten before it, and train it on "
                            "all values of an input")
    flat, before = _flattened(node), _maps_before(node)
    if before and not weight.problem and len(weight.shape) == 2 and weight.shape[1] == sum(map(math.prod, before)):
        weight = _channels_first(weight, before)
    return [*flat, *activated(node, LinearPart(node.label, weight, node.constant(2)),
                                   options.FusedActivationFunction())]


def _flattened(node: LiteNode) -> list[Part]:
    return [FlattenPart(f"{node.label}.flatten")] if len(node.shape) > 2 else []


def _maps_before(node: LiteNode) -> Maps:
    """Rows, columns and channels of the maps that were flattened into what the node takes; empty if none was."""
    shape = node.shape
    if len(shape) == 4:
        return ((shape[1], shape[2], shape[3]),)
    return node.flow.flattened.get(node.flow.at, ())


def _order(flow: Dataflow) -> Callable[[str], Maps]:
    """What tells the order of flat activations, by the name of their step; empty if it is torch's."""
    return lambda at: tuple(one for one in flow.flattened.get(at, ()) if one[:2] != (1, 1))


def _channels_first(weight: StoredTensor, maps: Maps) -> StoredTensor:
    """The weights of a linear layer whose inputs are maps in the order row, column, channel, in torch's order."""
    def read() -> np.ndarray:
        values = weight.read()
        each = np.split(values, np.cumsum([math.prod(one) for one in maps])[:-1], axis=1)
        return np.concatenate([part.reshape(-1, *one).transpose(0, 3, 1, 2).reshape(len(values), -1)
                               for part, one in zip(each, maps, strict=True)], axis=1)
    return StoredTensor(weight.shape, weight.values, read)


def _pool(kind: str) -> Callable[[LiteNode], list[Part]]:
    def read(node: LiteNode) -> list[Part]:
        options = node.options("Pool2DOptions")
        window, stride = (options.FilterHeight(), options.FilterWidth()), (options.StrideH(), options.StrideW())
        if len(node.shape) != 4 or min(*window, *stride) < 1:
            return node.refused(f"is a pooling with windows of {window}, {stride} apart, of {len(node.shape)} axes")
        return activated(node, PoolPart(node.label, kind, window, stride, counts_padding=False,
                                        same="upper" if options.Padding() == SAME else ""),
                         options.FusedActivationFunction())
    return read


def _mean(node: LiteNode) -> list[Part]:
    axes, options = node.tensors[node.inputs[1]].integers(), node.options("ReducerOptions")
    if len(node.shape) != 4 or axes is None or sorted(axis % 4 for axis in axes) != [1, 2]:
        return node.refused("is a mean over other axes than rows and columns; use GlobalAveragePooling2D")
    pooled: list[Part] = [AdaptivePoolPart(node.label, "average", (1, 1))]
    return pooled if options.KeepDims() else [*pooled, FlattenPart(f"{node.label}.flatten")]


def _pad(node: LiteNode) -> list[Part]:
    sizes = node.tensors[node.inputs[1]].integers()
    if sizes is None or len(sizes) != 8 or len(node.shape) != 4:
        return node.refused("is a padding whose sizes are computed, or not of four axes")
    pairs = list(zip(sizes[::2], sizes[1::2], strict=True))
    if any(pairs[0]) or any(pairs[3]) or min(sizes) < 0 or max(sizes) >= 1 << 16:
        return node.refused(f"pads by {pairs}; only zeros around rows and columns are supported")
    return [PadPart(node.label, pairs[1], pairs[2])]


def _join(node: LiteNode) -> list[Part]:
    options, axes = node.options("ConcatenationOptions"), len(node.shape)
    if any(str(one) not in node.flow.names for one in node.inputs):
        return node.refused(JOINS_CONSTANTS)
    if axes < 2 or options.Axis() % axes != axes - 1:
        return node.refused(f"joins values along axis {options.Axis()}; {JOINS_CHANNELS}")
    maps = [node.flow.flattened.get(node.flow.names[str(one)], ((1, 1, node.tensors[one].shape[-1]),))
            for one in node.inputs]
    if axes == 2:
        node.flow.flattened[f"#{len(node.flow.steps)}"] = tuple(one for each in maps for one in each)
    return activated(node, JoinPart(node.label), options.FusedActivationFunction())


def _activation(node: LiteNode) -> list[Part]:
    try:
        return [ActivationPart(node.label, FUNCTIONS[node.kind](node))]
    except ReadError as error:
        return node.refused(str(error))


def _softmax(node: LiteNode) -> list[Part]:
    """A softmax over the last axis: a map's channels."""
    return [SoftmaxPart(node.label, 1)]


_HANDLERS: dict[str, Callable[[LiteNode], list[Part]]] = {
    "CONV_2D": _convolution, "DEPTHWISE_CONV_2D": _depthwise, "FULLY_CONNECTED": _linear,
    "AVERAGE_POOL_2D": _pool("average"), "MAX_POOL_2D": _pool("max"), "MEAN": _mean, "PAD": _pad,
    **MAP_HANDLERS, "CONCATENATION": _join,
    "SOFTMAX": _softmax, "LOG_SOFTMAX": _softmax, **dict.fromkeys(FUNCTIONS, _activation),
}
