# SPDX-License-Identifier: Apache-2.0
"""Finds the layers in a pickled torch.nn model."""

import math
from collections.abc import Callable
from typing import Any

from host.importers.activation_readers import MODULES, ReadError, prelu
from host.importers.source_layers import (
    ActivationPart,
    AdaptivePoolPart,
    ConvPart,
    LinearPart,
    NormPart,
    PadPart,
    Part,
    PoolPart,
    SoftmaxPart,
    UnsupportedPart,
)
from host.importers.supported_layers import NOT_ZEROS
from host.importers.torch_archive import EXPORT, Checkpoint
from host.importers.torch_map_layers import MAP_MODULES, OPTION_LIMIT, pair
from host.network.function import AnyActivation
from nonzero.errors import UserError
from nonzero.safe_pickle import Record

MODULES_LIMIT = 4096
"""Greatest number of modules of a pickled model, containers included."""

NESTING_LIMIT = 32
"""Greatest depth of containers within containers."""

NAME_LIMIT = 100
"""Greatest number of characters in the name of a module within its container."""

ONLY_CHAINS = ("Nonzero runs torch.nn.Linear and Conv2d layers with activation functions, batch normalisation and "
               "pooling between them; retrain with these")

AS_PT2 = f"save it as .pt2: {EXPORT}"

FROM_GRAPHS = {"Conv1d", "ConvTranspose1d", "MaxPool1d", "AvgPool1d", "AdaptiveAvgPool1d", "AdaptiveMaxPool1d",
               "ConstantPad1d", "ZeroPad1d"}
"""Classes that are supported, but of which a saved module does not tell the number of values."""

INDICES = "returns indices beside its values; use return_indices=False"

SEQUENTIAL = "torch.nn.modules.container.Sequential"


def module_parts(checkpoint: Checkpoint, root: Record, name: str = "") -> list[Part]:
    """The layers of a pickled torch.nn model in the order in which `torch.nn.Sequential` runs them.

    Only attributes that the standard classes declare are read. Layers that do nothing in
    inference (Dropout, Identity) are left out.

    Parameters
    ----------
    checkpoint : Checkpoint
        The file, which holds the tensors.
    root : Record
        The model.
    name : str
        Prefix of the layers' names; empty for the whole model.

    Raises
    ------
    UserError
        If the model has more than `MODULES_LIMIT` modules or nests deeper than `NESTING_LIMIT`.
    """
    parts: list[Part] = []
    waiting = [(name, root, 0)]
    for _ in range(MODULES_LIMIT):
        if not waiting:
            return parts
        name, module, depth = waiting.pop()
        if depth > NESTING_LIMIT:
            raise UserError(f"its modules nest more than {NESTING_LIMIT} deep; use one torch.nn.Sequential")
        problem = _module_problem(module)
        if problem:
            parts.append(UnsupportedPart(name or "model", problem))
        elif module.name == SEQUENTIAL:
            children = module.state["_modules"].items()
            inner = [(f"{name}.{child}".lstrip("."), value, depth + 1) for child, value in children]
            waiting += reversed(inner)
        elif part := _MODULES[module.name](name or "linear", checkpoint, module.state):
            parts.append(part)
    raise UserError(f"it has more than {MODULES_LIMIT:,} modules; use one torch.nn.Sequential")


def _module_problem(module: Any) -> str:
    """Why this module cannot be read; the empty string if it can."""
    if type(module) is not Record or type(module.state) is not dict or not all(
            type(module.state.get(key)) is dict for key in ("_parameters", "_buffers", "_modules")):
        return f"is described in a garbled way; {AS_PT2}"
    if not all(type(child) is str and len(child) <= NAME_LIMIT for child in module.state["_modules"]):
        return f"has children whose names are not strings of at most {NAME_LIMIT} characters; rename them"
    if module.name not in _MODULES and module.name != SEQUENTIAL:
        return _kind_problem(module.name)
    if module.state.get("_forward_hooks") or module.state.get("_forward_pre_hooks"):
        return f"has hooks, which are code; remove them, or {AS_PT2}"
    return ""


def _kind_problem(name: str) -> str:
    """Advice about an unsupported class of torch.nn, for instance torch.nn.modules.conv.Conv2d."""
    module, _, kind = name[:80].rpartition(".")
    if kind in FROM_GRAPHS and module.startswith("torch.nn.modules."):
        return f"is a torch.nn.{kind}, which is read only from a graph; {AS_PT2}"
    kind = ascii(kind).strip("'")
    if module.endswith((".conv", ".lazy")):
        return (f"is the convolution torch.nn.{kind}; of these only torch.nn.Conv2d and ConvTranspose2d are supported; "
                "retrain with one")
    if module.endswith(".activation"):
        return (f"is torch.nn.{kind}, an activation function that the engine does not run; retrain with torch.nn.ReLU, "
                "or another one of the README")
    if module.endswith(".container"):
        return (f"is a torch.nn.{kind}, which does not say in which order its layers run; "
                "put them into a torch.nn.Sequential")
    return f"is a torch.nn.{kind}; {ONLY_CHAINS}"


def _linear(name: str, checkpoint: Checkpoint, state: dict) -> Part:
    parameters = state["_parameters"]
    weight, bias = (checkpoint.tensor(parameters.get(key)) for key in ("weight", "bias"))
    if weight is None or (bias is None and parameters.get("bias") is not None):
        return UnsupportedPart(name, "lacks its weight; if it was pruned or normalised by torch.nn.utils, "
                                     "remove that first, for instance by torch.nn.utils.prune.remove")
    return LinearPart(name, weight, bias)


def _convolution(name: str, checkpoint: Checkpoint, state: dict) -> Part:
    linear = _linear(name, checkpoint, state)
    if not isinstance(linear, LinearPart):
        return linear
    weight = linear.weight
    stride, dilation = pair(state.get("stride")), pair(state.get("dilation"))
    padding, groups = state.get("padding"), state.get("groups")
    if state.get("padding_mode") != "zeros":
        return UnsupportedPart(name, NOT_ZEROS)
    if padding == "valid":
        padding = (0, 0)
    same = "upper" if padding == "same" else ""
    pads = (0, 0) if same else pair(padding)
    if stride is None or dilation is None or pads is None or type(groups) is not int:
        return UnsupportedPart(name, f"has a stride, padding, dilation or groups that are no whole numbers of at most "
                                     f"{OPTION_LIMIT}; save the model again")
    return ConvPart(name, weight, linear.bias, stride, pads, dilation, groups, same=same)


def _zero_pad(name: str, _: Checkpoint, state: dict) -> Part:
    sizes = state.get("padding")
    if type(sizes) is not tuple or len(sizes) != 4 \
            or not all(type(size) is int and 0 <= size <= OPTION_LIMIT for size in sizes):
        return UnsupportedPart(name, f"has a padding that is not four whole numbers of at most {OPTION_LIMIT}; save "
                                     "the model again")
    if state.get("value", 0) != 0:
        return UnsupportedPart(name, NOT_ZEROS)
    left, right, above, below = sizes
    return PadPart(name, (above, below), (left, right))


def _max_pool(name: str, _: Checkpoint, state: dict) -> Part:
    if pair(state.get("dilation")) != (1, 1):
        return UnsupportedPart(name, "has a dilation, but windows have no gaps here; use dilation=1")
    if state.get("return_indices"):
        return UnsupportedPart(name, INDICES)
    return _pool(name, "max", state)


def _average_pool(name: str, _: Checkpoint, state: dict) -> Part:
    if state.get("divisor_override") is not None:
        return UnsupportedPart(name, "divides by a number of its own; leave out divisor_override")
    return _pool(name, "average", state)


def _pool(name: str, kind: str, state: dict) -> Part:
    window, padding = pair(state.get("kernel_size")), pair(state.get("padding"))
    stride = window if state.get("stride") is None else pair(state.get("stride"))
    if window is None or stride is None or padding is None:
        return UnsupportedPart(name, f"has a kernel_size, stride or padding that are no whole numbers of at most "
                                     f"{OPTION_LIMIT}; save the model again")
    return PoolPart(name, kind, window, stride, padding, bool(state.get("ceil_mode")),
                    bool(state.get("count_include_pad", True)))


def _adaptive_pool(kind: str) -> Callable[[str, Checkpoint, dict], Part]:
    def read(name: str, _: Checkpoint, state: dict) -> Part:
        if state.get("return_indices"):
            return UnsupportedPart(name, INDICES)
        size = state.get("output_size")
        both: Any = (size, size) if type(size) is int else size
        if type(both) not in (tuple, list) or len(both) != 2 \
                or not all(one is None or (type(one) is int and 1 <= one <= OPTION_LIMIT) for one in both):
            return UnsupportedPart(name, f"has an output_size that is not one or two whole numbers of at most "
                                         f"{OPTION_LIMIT}; save the model again")
        return AdaptivePoolPart(name, kind, (both[0], both[1]))
    return read


def _norm(name: str, checkpoint: Checkpoint, state: dict) -> Part:
    scale, shift = (checkpoint.tensor(state["_parameters"].get(key)) for key in ("weight", "bias"))
    buffers = state["_buffers"]
    mean, variance = (checkpoint.tensor(buffers.get(key)) for key in ("running_mean", "running_var"))
    eps = state.get("eps")
    if mean is None or variance is None:
        return UnsupportedPart(name, "is a batch normalisation without running statistics, which depends on the "
                                     "batch; train with track_running_stats=True")
    if type(eps) is not float or not (math.isfinite(eps) and eps >= 0):
        return UnsupportedPart(name, "is a batch normalisation whose eps is not a small positive number")
    return NormPart(name, scale, shift, mean, variance, eps)


def _softmax(name: str, _: Checkpoint, state: dict) -> Part:
    axis = 1 if state.get("dim") is None else state["dim"]
    if type(axis) is not int or axis not in (1, -1):
        return UnsupportedPart(name, "is a softmax over another axis than the outputs; use dim=1")
    return SoftmaxPart(name, axis)


def _activation(read: Callable[[dict], AnyActivation]) -> Callable[[str, Checkpoint, dict], Part]:
    def part(name: str, _: Checkpoint, state: dict) -> Part:
        try:
            return ActivationPart(name, read(state))
        except ReadError as error:
            return UnsupportedPart(name, str(error))
    return part


def _prelu(name: str, checkpoint: Checkpoint, state: dict) -> Part:
    slopes = checkpoint.tensor(state["_parameters"].get("weight"))
    if slopes is None:
        return UnsupportedPart(name, "lacks its slopes; save the model again")
    return _activation(lambda _: prelu(slopes))(name, checkpoint, state)


def _nothing(name: str, _: Checkpoint, state: dict) -> None:
    return None


_MODULES: dict[str, Callable[[str, Checkpoint, dict], Part | None]] = {
    "torch.nn.modules.linear.Linear": _linear,
    "torch.nn.modules.linear.Identity": _nothing,
    "torch.nn.modules.batchnorm.BatchNorm1d": _norm,
    "torch.nn.modules.batchnorm.BatchNorm2d": _norm,
    "torch.nn.modules.conv.Conv2d": _convolution,
    "torch.nn.modules.padding.ZeroPad2d": _zero_pad,
    "torch.nn.modules.padding.ConstantPad2d": _zero_pad,
    "torch.nn.modules.pooling.MaxPool2d": _max_pool,
    "torch.nn.modules.pooling.AvgPool2d": _average_pool,
    "torch.nn.modules.pooling.AdaptiveAvgPool2d": _adaptive_pool("average"),
    "torch.nn.modules.pooling.AdaptiveMaxPool2d": _adaptive_pool("max"),
    "torch.nn.modules.dropout.Dropout2d": _nothing,
    "torch.nn.modules.activation.PReLU": _prelu,
    **{f"torch.nn.modules.activation.{kind}": _activation(read) for kind, read in MODULES.items()},
    "torch.nn.modules.activation.Softmax": _softmax,
    "torch.nn.modules.activation.LogSoftmax": _softmax,
    "torch.nn.modules.dropout.Dropout": _nothing,
    "torch.nn.modules.dropout.AlphaDropout": _nothing,
    **MAP_MODULES,
}
