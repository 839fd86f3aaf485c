# SPDX-License-Identifier: Apache-2.0
"""Translates operators of ONNX that give values other axes, or make feature maps larger."""

from collections.abc import Callable

from host.importers.conv_forms import over_two_axes
from host.importers.onnx_node import OnnxNode
from host.importers.source_layers import (
    AdaptivePoolPart,
    FlattenPart,
    Part,
    PermutePart,
    SqueezePart,
    TransposedConvPart,
    UpsamplePart,
)
from host.importers.supported_layers import KEEP_BATCH

__all__ = ["MAP_HANDLERS", "along_row"]

SCALES_LIMIT = 8


def along_row(node: OnnxNode, part: Part, one_axis: bool) -> list[Part]:
    """The ``part`` of ``node``; if it works along ``one_axis``, the only row that it needs is left out again."""
    return [part, SqueezePart(f"{node.label}.axes", (1,), adds=False)] if one_axis else [part]


def _transposed_conv(node: OnnxNode) -> list[Part]:
    weight = node.required(1)
    if not weight.problem and len(weight.shape) not in (3, 4):
        return node.refused(f"is a transposed convolution over {len(weight.shape) - 2} axes; only those over one or "
                            "two are supported")
    if node.attribute("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or node.ints("output_shape", []):
        return node.refused("is a transposed convolution whose padding follows from a rule; export it with explicit "
                            "pads")
    axes = 1 if len(weight.shape) == 3 else 2
    padding, ends = node.padding(axes)
    more = node.pair("output_padding", 0, axes)
    part = TransposedConvPart(node.layer(), over_two_axes(weight), node.tensor(2), node.pair("strides", 1, axes),
                              padding, (ends[0] - more[0], ends[1] - more[1]), node.pair("dilations", 1, axes),
                              node.attribute("group", 1))
    return along_row(node, part, axes == 1)


def _resize(node: OnnxNode) -> list[Part]:
    """The scales are input 1 of Upsample, input 2 of Resize; input 3 of Resize are the sizes, if it has them."""
    mode = node.attribute("mode", b"nearest")
    rule = node.attribute("coordinate_transformation_mode", b"half_pixel")
    rounding = node.attribute("nearest_mode", b"round_prefer_floor")
    if mode != b"nearest":
        return node.refused("makes feature maps larger by another mode than 'nearest'; use that")
    # By whole factors these give the same values as the floor of the place: each value is repeated.
    if (rule, rounding) not in ((b"asymmetric", b"floor"), (b"half_pixel", b"round_prefer_floor"),
                                (b"half_pixel", b"round_prefer_ceil")):
        return node.refused(f"is a Resize with the rules {rule.decode()!r:.40} and {rounding.decode()!r:.40}; use "
                            "'asymmetric' and 'floor', as torch exports its nearest upsampling")
    if node.attribute("axes", []) or node.attribute("antialias", 0):
        return node.refused("is a Resize of some axes, or with antialiasing; export it with one scale for each axis")
    scales = node.tensor(1 if node.kind == "Upsample" else 2)
    sizes = node.numbers(3) if node.kind == "Resize" else None
    if sizes is not None and len(sizes) in (3, 4) and all(0 < size < 1 << 16 for size in sizes):
        pair = (sizes[2], sizes[3]) if len(sizes) == 4 else (1, sizes[2])
        return along_row(node, UpsamplePart(node.label, pair), len(sizes) == 3)
    if scales is None or scales.problem or len(scales.shape) != 1 or not 3 <= scales.values <= SCALES_LIMIT:
        return node.refused("is a Resize whose scales are computed; export it with fixed ones")
    factors = [float(value) for value in scales.read()]
    if len(factors) > 4 or factors[:2] != [1, 1] or not all(0 < one < 1 << 16 for one in factors):
        return node.refused(f"is a Resize by {factors}; only rows and columns may become more, by whole factors")
    rows, cols = factors[2:] if len(factors) == 4 else (1.0, factors[2])
    return along_row(node, UpsamplePart(node.label, factor=(rows, cols)), len(factors) == 3)


def _axes(node: OnnxNode, *, adds: bool) -> list[Part]:
    """The axes are an attribute up to operator set 12, input 1 later."""
    axes = node.ints("axes", []) or node.numbers(1)
    if axes is None or 0 in axes or any(abs(axis) > 8 for axis in axes):
        return node.refused(f"is {node.kind} of axes that are computed, left open, or among them the batch axis; "
                            "export it with fixed ones behind that")
    return [SqueezePart(node.label, tuple(axis - 1 if axis > 0 else axis for axis in axes), adds)]


def _transpose(node: OnnxNode) -> list[Part]:
    order = node.ints("perm", [])
    if order[:1] != [0] or any(not 0 < axis < 8 for axis in order[1:]):
        return node.refused(f"is a Transpose by {order}, which {KEEP_BATCH}")
    return [PermutePart(node.label, tuple(axis - 1 for axis in order[1:]))]


def _flatten(node: OnnxNode) -> list[Part]:
    if node.attribute("axis", 1) != 1 or len(node.flow.sizes) == 1:
        return node.refused("is a flatten with other axes than all but the first; use torch.nn.Flatten()")
    return [FlattenPart(node.label)]


def _reshape(node: OnnxNode) -> list[Part]:
    sizes, flow = node.numbers(1), node.flow
    if sizes is None:
        return node.refused("is a reshape to a shape that is computed; use torch.nn.Flatten()")
    first, *rest = sizes
    keeps = first == flow.batch or (first == 0 and not node.attribute("allowzero", 0)) or len(flow.sizes) < 2
    if (first == 0 and len(flow.sizes) == 1) or (not keeps and (first != -1 or 0 in rest) and min(rest, default=0) < 1):
        return node.refused(f"is a reshape to {sizes}, which {KEEP_BATCH}")
    if 0 in rest:
        return node.refused(f"is a reshape to {sizes}, of which a 0 keeps an axis of its input; export it with the "
                            "sizes in numbers")
    return [flow.reshaped(sizes, node.label, node.kind)]


def _reduced(kind: str, what: str) -> Callable[[OnnxNode], list[Part]]:
    def read(node: OnnxNode) -> list[Part]:
        axes, count = node.ints("axes", []) or node.numbers(1) or [], node.axes or 4
        if count not in (3, 4) or sorted(axis % count for axis in axes) != [*range(2, count)]:
            return node.refused(f"is a {what} over other axes than rows and columns, and only those of feature "
                                f"maps run, as torch.nn.Adaptive{'Avg' if kind == 'average' else 'Max'}Pool2d(1) "
                                "takes them")
        part = AdaptivePoolPart(node.label, kind, (1, 1))
        return along_row(node, part, count == 3) if node.attribute("keepdims", 1) else [part, FlattenPart(node.label)]
    return read


MAP_HANDLERS: dict[str, Callable[[OnnxNode], list[Part]]] = {
    "ConvTranspose": _transposed_conv, "Resize": _resize, "Upsample": _resize, "Transpose": _transpose,
    "Unsqueeze": lambda node: _axes(node, adds=True), "Squeeze": lambda node: _axes(node, adds=False),
    "Flatten": _flatten, "Reshape": _reshape,
    "ReduceMean": _reduced("average", "mean"), "ReduceMax": _reduced("max", "maximum"),
}
"""By operator."""
