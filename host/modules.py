# SPDX-License-Identifier: Apache-2.0
"""Finds the layers in what a model file holds: a pickled torch.nn model, or a state dictionary."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from host.assembly import LinearPart, NormPart, Part, ReluPart, SoftmaxPart, UnsupportedPart
from host.checkpoints import Checkpoint
from host.errors import UserError
from host.tensors import StoredTensor, masked
from host.unpickling import Record

MODULES_LIMIT = 4096
"""Modules of one pickled model, containers included."""

NESTING_LIMIT = 32
"""Containers within containers."""

NAME_LIMIT = 100
"""Characters in the name of a module within its container."""

ONLY_LINEAR = ("Nonzero runs chains of torch.nn.Linear layers with ReLU between them (BatchNorm1d is "
               "folded); retrain with these")

SEQUENTIAL = "torch.nn.modules.container.Sequential"

_NORM_LEAVES = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def module_parts(checkpoint: Checkpoint, root: Record, name: str = "") -> list[Part]:
    """The layers of a pickled torch.nn model in the order in which `torch.nn.Sequential` runs them.

    Only attributes that the standard classes declare are looked at. Layers that do nothing in
    inference (Dropout, Identity, and Flatten, since the engine takes flat inputs) are left out.

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
        return "is described in a garbled way; save model.state_dict() instead"
    if not all(type(child) is str and len(child) <= NAME_LIMIT for child in module.state["_modules"]):
        return f"has children whose names are not strings of at most {NAME_LIMIT} characters"
    if module.name not in _MODULES and module.name != SEQUENTIAL:
        return _kind_problem(module.name)
    if module.state.get("_forward_hooks") or module.state.get("_forward_pre_hooks"):
        return "has hooks, which are code; remove them, or save model.state_dict() instead"
    return ""


def _kind_problem(name: str) -> str:
    """What to say about an unsupported class of torch.nn, for instance torch.nn.modules.conv.Conv2d."""
    module, _, kind = name[:80].rpartition(".")
    kind = ascii(kind).strip("'")
    if module.endswith((".conv", ".lazy")):
        return f"is the convolution torch.nn.{kind}; {ONLY_LINEAR}"
    if module.endswith(".activation"):
        return f"is torch.nn.{kind}, but ReLU is the only activation function; retrain with torch.nn.ReLU"
    if module.endswith(".container"):
        return (f"is a torch.nn.{kind}, which does not say in which order its layers run; "
                "put them into a torch.nn.Sequential")
    return f"is a torch.nn.{kind}; {ONLY_LINEAR}"


def _linear(name: str, checkpoint: Checkpoint, state: dict) -> Part:
    parameters = state["_parameters"]
    weight, bias = (checkpoint.tensor(parameters.get(key)) for key in ("weight", "bias"))
    if weight is None or (bias is None and parameters.get("bias") is not None):
        return UnsupportedPart(name, "lacks its weight; if it was pruned or normalised by torch.nn.utils, "
                                     "remove that first, for instance by torch.nn.utils.prune.remove")
    return LinearPart(name, weight, bias)


def _norm(name: str, checkpoint: Checkpoint, state: dict) -> Part:
    scale, shift = (checkpoint.tensor(state["_parameters"].get(key)) for key in ("weight", "bias"))
    buffers = state["_buffers"]
    mean, variance = (checkpoint.tensor(buffers.get(key)) for key in ("running_mean", "running_var"))
    eps = state.get("eps")
    if mean is None or variance is None:
        return UnsupportedPart(name, "is a BatchNorm1d without running statistics, which depends on the "
                                     "batch; train with track_running_stats=True")
    if type(eps) is not float or not (math.isfinite(eps) and eps >= 0):
        return UnsupportedPart(name, "is a BatchNorm1d whose eps is not a small positive number")
    return NormPart(name, scale, shift, mean, variance, eps)


def _softmax(name: str, _: Checkpoint, state: dict) -> Part:
    if state.get("dim") not in (None, 1, -1):
        return UnsupportedPart(name, "is a softmax over another axis than the outputs; use dim=1")
    return SoftmaxPart(name)


def _flatten(name: str, _: Checkpoint, state: dict) -> Part | None:
    if (state.get("start_dim"), state.get("end_dim")) != (1, -1):
        return UnsupportedPart(name, "is a Flatten with start_dim or end_dim; use torch.nn.Flatten()")
    return None


def _nothing(name: str, _: Checkpoint, state: dict) -> None:
    return None


_MODULES: dict[str, Callable[[str, Checkpoint, dict], Part | None]] = {
    "torch.nn.modules.linear.Linear": _linear,
    "torch.nn.modules.linear.Identity": _nothing,
    "torch.nn.modules.batchnorm.BatchNorm1d": _norm,
    "torch.nn.modules.activation.ReLU": lambda name, checkpoint, state: ReluPart(name),
    "torch.nn.modules.activation.Softmax": _softmax,
    "torch.nn.modules.activation.LogSoftmax": _softmax,
    "torch.nn.modules.dropout.Dropout": _nothing,
    "torch.nn.modules.dropout.AlphaDropout": _nothing,
    "torch.nn.modules.flatten.Flatten": _flatten,
}


def state_dict_parts(tensors: Mapping[str, StoredTensor]) -> list[Part]:
    """The layers of a state dictionary, in its order, without the ReLUs, of which it knows nothing.

    The prefixes of torch.nn.DataParallel (``module.``) and torch.compile (``_orig_mod.``) are
    dropped; pruned tensors (``weight_orig`` and ``weight_mask``) are multiplied out.
    """
    for prefix in ("module.", "_orig_mod.", "module."):
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    groups: dict[str, dict[str, StoredTensor]] = {}
    for key, tensor in tensors.items():
        name, _, leaf = key.rpartition(".")
        groups.setdefault(name, {})[leaf] = tensor
    return [_group_part(name or "linear", leaves) for name, leaves in groups.items()]


def _group_part(name: str, leaves: dict[str, StoredTensor]) -> Part:
    """The layer that has these parameters and buffers."""
    for leaf in ("weight", "bias"):
        if {f"{leaf}_orig", f"{leaf}_mask"} <= leaves.keys():
            leaves[leaf] = masked(leaves.pop(f"{leaf}_orig"), leaves.pop(f"{leaf}_mask"))
    if {"running_mean", "running_var"} <= leaves.keys() <= _NORM_LEAVES:
        return NormPart(name, leaves.get("weight"), leaves.get("bias"),
                        leaves["running_mean"], leaves["running_var"])
    if not {"weight"} <= leaves.keys() <= {"weight", "bias"}:
        return UnsupportedPart(name, f"has the parameters {_listed(leaves)}, {_meaning(name, leaves)}")
    weight = leaves["weight"]
    if not weight.problem and len(weight.shape) != 2:
        shape = list(weight.shape)
        if len(weight.shape) > 2:
            return UnsupportedPart(name, f"is a convolution (weight of the shape {shape}); {ONLY_LINEAR}")
        return UnsupportedPart(name, f"has a weight of the shape {shape}, as layer normalisations and PReLU "
                                     f"have; {ONLY_LINEAR}")
    return LinearPart(name, weight, leaves.get("bias"))


def _listed(leaves: dict[str, StoredTensor]) -> str:
    names = [repr(leaf[:40]) for leaf in leaves]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _meaning(name: str, leaves: dict[str, StoredTensor]) -> str:
    """What a layer with unknown parameters may be, and the way out."""
    if ".parametrizations." in f".{name}.":
        return "a parametrisation; call torch.nn.utils.parametrize.remove_parametrizations before saving"
    if "weight_g" in leaves:
        return "a weight normalisation; call torch.nn.utils.remove_weight_norm before saving"
    if any(leaf.startswith("weight_ih") for leaf in leaves):
        return f"as recurrent layers have; {ONLY_LINEAR}"
    if any(leaf.startswith("in_proj") for leaf in leaves):
        return f"as attention has; {ONLY_LINEAR}"
    return f"which are not those of a linear layer (weight, bias); {ONLY_LINEAR}"
