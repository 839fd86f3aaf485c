# SPDX-License-Identifier: Apache-2.0
"""Reads the modules of a pickled torch.nn model that give values other axes, or make feature maps larger."""

from collections.abc import Callable
from typing import Any

from host.importers.source_layers import FlattenPart, Part, TransposedConvPart, UnsupportedPart, UpsamplePart
from host.importers.torch_archive import Checkpoint

__all__ = ["MAP_MODULES", "OPTION_LIMIT", "pair"]

OPTION_LIMIT = 1 << 16
"""Greatest stride, padding, dilation or size of a layer."""

GARBLED = f"that are no whole numbers of at most {OPTION_LIMIT}; save the model again"


def pair(value: Any) -> tuple[int, int] | None:
    """``value``, one number or two, as two; None if it is neither, or one is not from 0 to `OPTION_LIMIT`."""
    both: Any = (value, value) if type(value) is int else value
    if type(both) not in (tuple, list) or len(both) != 2 \
            or not all(type(one) is int and 0 <= one <= OPTION_LIMIT for one in both):
        return None
    return both[0], both[1]


def _flatten(name: str, _: Checkpoint, state: dict) -> Part:
    if (state.get("start_dim"), state.get("end_dim")) != (1, -1):
        return UnsupportedPart(name, "is a Flatten with start_dim or end_dim; use torch.nn.Flatten()")
    return FlattenPart(name)


def _unflatten(name: str, _: Checkpoint, state: dict) -> Part:
    sizes: Any = state.get("unflattened_size")
    if state.get("dim") != 1 or type(sizes) not in (tuple, list) or not 1 <= len(sizes) <= 3 \
            or not all(type(one) is int and (one == -1 or 1 <= one <= OPTION_LIMIT) for one in sizes) \
            or list(sizes).count(-1) > 1:
        return UnsupportedPart(name, "is an Unflatten of another axis than the one behind the batch axis, or not to "
                                     "channels, rows and columns; use torch.nn.Unflatten(1, (channels, rows, columns))")
    return FlattenPart(name, tuple(max(0, one) for one in sizes))


def _upsample(name: str, _: Checkpoint, state: dict) -> Part:
    size, factor = state.get("size"), state.get("scale_factor")
    if state.get("mode") != "nearest":
        return UnsupportedPart(name, "is an Upsample of another mode than 'nearest'; use that")
    factors: Any = (factor, factor) if type(factor) in (int, float) else factor
    if size is not None and pair(size) is not None:
        return UpsamplePart(name, pair(size))
    if size is not None or type(factors) not in (tuple, list) or len(factors) != 2 \
            or not all(type(one) in (int, float) and 0 < one <= OPTION_LIMIT for one in factors):
        return UnsupportedPart(name, f"has a size or a scale_factor {GARBLED}")
    return UpsamplePart(name, factor=(float(factors[0]), float(factors[1])))


def _transposed(name: str, checkpoint: Checkpoint, state: dict) -> Part:
    weight, bias = (checkpoint.tensor(state["_parameters"].get(key)) for key in ("weight", "bias"))
    if weight is None or (bias is None and state["_parameters"].get("bias") is not None):
        return UnsupportedPart(name, "lacks its weight; if it was pruned or normalised by torch.nn.utils, remove that "
                                     "first, for instance by torch.nn.utils.prune.remove")
    pads, stride, dilation, more = (pair(state.get(key)) for key in ("padding", "stride", "dilation", "output_padding"))
    groups = state.get("groups")
    if pads is None or stride is None or dilation is None or more is None or type(groups) is not int:
        return UnsupportedPart(name, f"has a stride, padding, output_padding, dilation or groups {GARBLED}")
    return TransposedConvPart(name, weight, bias, stride, pads, (pads[0] - more[0], pads[1] - more[1]), dilation,
                              groups)


MAP_MODULES: dict[str, Callable[[str, Checkpoint, dict], Part | None]] = {
    "torch.nn.modules.flatten.Flatten": _flatten,
    "torch.nn.modules.flatten.Unflatten": _unflatten,
    "torch.nn.modules.upsampling.Upsample": _upsample,
    "torch.nn.modules.upsampling.UpsamplingNearest2d": _upsample,
    "torch.nn.modules.conv.ConvTranspose2d": _transposed,
}
"""By class: what reads a module, from its name, the file and its state."""
