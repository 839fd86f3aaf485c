# SPDX-License-Identifier: Apache-2.0
"""Translates operations of an exported program that give values other axes, or make feature maps larger."""

from collections.abc import Callable

from host.importers.conv_forms import over_two_axes
from host.importers.source_layers import FlattenPart, PermutePart, TransposedConvPart, UpsamplePart
from host.importers.supported_layers import KEEP_BATCH
from host.importers.torch_export_node import ExportNode, GarbledError

__all__ = ["MAP_HANDLERS", "transposed_conv"]


def transposed_conv(call: ExportNode) -> list:
    """The part of ``call``, a transposed convolution over one axis or two. Raises `GarbledError` if it is garbled."""
    weight, bias, groups = call.required("weight"), call.tensor("bias"), call.arguments.get("groups", 1)
    if type(groups) is not int:
        raise GarbledError(f"groups of {call.label}")
    if not weight.problem and len(weight.shape) not in (3, 4):
        return call.refused(f"is a transposed convolution over {len(weight.shape) - 2} axes; only those over one or "
                            "two are supported")
    pads, stride, dilation, more = (call.pair(name, default) for name, default in (
        ("padding", 0), ("stride", 1), ("dilation", 1), ("output_padding", 0)))
    if len(weight.shape) == 3:
        pads, stride, dilation, more = (0, pads[1]), (1, stride[1]), (1, dilation[1]), (0, more[1])
    ends = pads[0] - more[0], pads[1] - more[1]
    return [TransposedConvPart(call.layer("weight"), over_two_axes(weight), bias, stride, pads, ends, dilation, groups)]


def _upsample(call: ExportNode) -> list:
    sizes = [size for size in call.sizes[2:] if type(size) is int]
    if len(sizes) + 2 != len(call.sizes) or len(sizes) not in (1, 2):
        return call.refused("makes feature maps larger by sizes that the file does not tell; export it with fixed ones")
    return [UpsamplePart(call.label, (1, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1]))]


def _reshape(call: ExportNode) -> list:
    """Other axes, which its output tells."""
    first, *rest = call.sizes or [None]
    if len(call.flow.sizes) > 1 and first != call.flow.batch:
        return call.refused(f"is {call.target[:80]}, which {KEEP_BATCH}")
    return [call.flow.reshaped([None, *(size if type(size) is int else None for size in rest)], call.label,
                               call.target[:80])]


def _flatten(call: ExportNode) -> list:
    first, last = call.arguments.get("start_dim", 0), call.arguments.get("end_dim", -1)
    return [FlattenPart(call.label)] if (first, last) in ((1, -1), (1, 3)) else _reshape(call)


def _select(call: ExportNode) -> list:
    """One value of an axis, which must be its only one; or a part of an axis, which must be all of it."""
    dim = call.arguments.get("dim", 0)
    sizes = call.taken_sizes
    whole = sizes == call.sizes or (type(dim) is int and -len(sizes) <= dim < len(sizes) and sizes[dim] == 1
                                    and len(call.sizes) + 1 == len(sizes))
    if not whole:
        return call.refused(f"is {call.target[:80]}, which selects some of its values; use all of them, or a "
                            "torch.nn.Conv2d or Linear that leaves out the others")
    return _reshape(call)


def _permute(call: ExportNode) -> list:
    rank, dims = len(call.taken_sizes), call.arguments.get("dims")
    one, other = (call.arguments.get(name) for name in ("dim0", "dim1"))
    if type(one) is int and type(other) is int and -rank <= min(one, other) and max(one, other) < rank:
        dims = list(range(rank))
        dims[one], dims[other] = dims[other], dims[one]
    if type(dims) is not list or not all(type(dim) is int and -rank <= dim < rank for dim in dims):
        raise GarbledError(f"axes of {call.label}")
    order = [dim % rank for dim in dims]
    if order[:1] != [0]:
        return call.refused(f"is {call.target[:80]}, which {KEEP_BATCH}")
    return [PermutePart(call.label, tuple(dim - 1 for dim in order[1:]))]


MAP_HANDLERS: dict[str, Callable[[ExportNode], list]] = {
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), transposed_conv),
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d"), _upsample),
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "unflatten", "squeeze", "unsqueeze"), _reshape),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims"), _permute),
    **dict.fromkeys(("select", "slice"), _select), "flatten": _flatten,
}
"""By operation, without ``torch.ops.aten``."""
