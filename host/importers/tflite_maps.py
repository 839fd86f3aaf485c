# SPDX-License-Identifier: Apache-2.0
"""Translates operators of TensorFlow Lite that give values other axes, or make feature maps larger."""

from collections.abc import Callable

import numpy as np

from host.importers.conv_padding import same_padding
from host.importers.source_layers import FlattenPart, Part, PermutePart, TransposedConvPart, UpsamplePart
from host.importers.stored_tensor import StoredTensor
from host.importers.supported_layers import KEEP_BATCH
from host.importers.tflite_activations import activated
from host.importers.tflite_node import LiteNode

__all__ = ["MAP_HANDLERS", "SAME", "TAKES", "moved"]

SAME = 0
"""tflite.Padding of an operator that pads; the other number is VALID."""

TAKES = {"TRANSPOSE_CONV": 2}
"""The input at which an operator takes the activations, unless it is the first."""

_AXES = (None, 1, 2, 0)
"""For each axis of the file, batch, rows, columns and channels, its number in torch's order without the batch axis."""


def moved(weight: StoredTensor, order: tuple[int, ...]) -> StoredTensor:
    """The tensor ``weight`` with its axes in this ``order``."""
    if weight.problem:
        return weight
    return StoredTensor(tuple(weight.shape[axis] for axis in order), weight.values,
                        lambda: np.transpose(weight.read(), order))


def _reshape(node: LiteNode) -> list[Part]:
    """A reshape to one axis behind the batch axis, or to a map; the channels of a map stay."""
    before, after = node.shape, node.tensors[node.outputs[0]].shape
    if before == after:
        return []
    keeps = before[:1] == after[:1]
    if keeps and len(after) == 2:
        if len(before) == 4:
            node.flow.flattened[f"#{len(node.flow.steps)}"] = ((before[1], before[2], before[3]),)
        return [FlattenPart(node.label)]
    if keeps and len(after) == 4:
        rows, cols, channels = after[1:]
        flat = node.flow.flattened.get(node.flow.at) if len(before) == 2 else None
        if flat == (after[1:],) or (len(before) == 4 and before[3] == channels) or (channels == 1 and len(before) < 4
                                                                                 and flat is None):
            return [FlattenPart(node.label, (channels, rows, cols))]
        if len(before) == 2 and flat is None:
            if rows == cols == 1:
                return []
            return [FlattenPart(node.label, (rows, cols, channels)), PermutePart(f"{node.label}.channels", (2, 0, 1))]
    return node.refused(f"is a reshape of {list(before)} to {list(after)}; only all axes behind the batch's may become "
                        "one, one axis a map, or rows and columns others, of the same channels")


def _transpose(node: LiteNode) -> list[Part]:
    order = node.tensors[node.inputs[1]].integers()
    if order is None or sorted(order) != [0, 1, 2, 3] or len(node.shape) != 4:
        return node.refused("is a transpose of other than four axes, or by an order that is computed; convert it with "
                            "a fixed one")
    if order[0] != 0:
        return node.refused(f"is a transpose by {list(order)}, which {KEEP_BATCH}")
    taken = [_AXES[axis] for axis in order]
    # Channels, rows and columns of the result.
    return [PermutePart(node.label, tuple(axis for axis in (taken[3], taken[1], taken[2]) if axis is not None))]


def _resize(node: LiteNode) -> list[Part]:
    sizes, options = node.tensors[node.inputs[1]].integers(), node.options("ResizeNearestNeighborOptions")
    if sizes is None or len(sizes) != 2 or len(node.shape) != 4 or not all(0 < size < 1 << 16 for size in sizes):
        return node.refused("is a resize whose sizes are computed, or not of four axes; convert it with fixed sizes")
    if options.AlignCorners():
        return node.refused("is a resize with align_corners; convert it without, as UpSampling2D is")
    return [UpsamplePart(node.label, (sizes[0], sizes[1]))]


def _transposed_conv(node: LiteNode) -> list[Part]:
    """Weights are [outputs, rows, columns, inputs]; input 0 is the shape of the output."""
    options, weight = node.options("TransposeConvOptions"), node.required(1)
    taken, made = node.tensors[node.inputs[2]].shape, node.tensors[node.outputs[0]].shape
    stride = options.StrideH(), options.StrideW()
    if len(taken) != 4 or len(made) != 4 or (not weight.problem and len(weight.shape) != 4) or min(stride) < 1:
        return node.refused("is a transposed convolution whose input, output or weight has not four axes, or without a "
                            "stride")
    kernel = (1, 1) if weight.problem else weight.shape[1:3]
    # SAME pads as the convolution does that makes the input of the output.
    pads = [same_padding(size, edge, step, "upper") if options.Padding() == SAME else (0, 0)
            for size, edge, step in zip(made[1:3], kernel, stride, strict=True)]
    ends = [(given - 1) * step + edge - size - before for given, step, edge, size, (before, _) in zip(
        taken[1:3], stride, kernel, made[1:3], pads, strict=True)]
    part = TransposedConvPart(node.label, moved(weight, (3, 0, 1, 2)), node.constant(3), stride,
                              (pads[0][0], pads[1][0]), (ends[0], ends[1]))
    return activated(node, part, options.FusedActivationFunction())


MAP_HANDLERS: dict[str, Callable[[LiteNode], list[Part]]] = {
    "RESHAPE": _reshape, "SQUEEZE": _reshape, "EXPAND_DIMS": _reshape, "TRANSPOSE": _transpose,
    "RESIZE_NEAREST_NEIGHBOR": _resize, "TRANSPOSE_CONV": _transposed_conv,
}
"""By operator."""
