# SPDX-License-Identifier: Apache-2.0
"""Assembles a `Network` from the parts of a model: checks them, reads their tensors, folds what folds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from host.errors import UserError
from host.graph import Linear, Network
from host.tensors import VALUES_LIMIT, StoredTensor, TensorError, finite

LAYERS_LIMIT = 256
"""Linear layers of one network."""


@dataclass(frozen=True)
class LinearPart:
    """``weight @ x + bias``: shapes ``[rows, cols]`` and ``[rows]``."""

    name: str
    weight: StoredTensor
    bias: StoredTensor | None


@dataclass(frozen=True)
class NormPart:
    """Batch normalisation as in inference, ``(x - mean) / sqrt(variance + eps) * scale + shift``."""

    name: str
    scale: StoredTensor | None
    shift: StoredTensor | None
    mean: StoredTensor
    variance: StoredTensor
    eps: float = 1e-5


@dataclass(frozen=True)
class ReluPart:
    name: str


@dataclass(frozen=True)
class SoftmaxPart:
    """A softmax or log-softmax over the outputs: it keeps their order, so the network does without it."""

    name: str


@dataclass(frozen=True)
class UnsupportedPart:
    """A layer that the engine cannot run; ``problem`` says what it is and what would help."""

    name: str
    problem: str


Part = LinearPart | NormPart | ReluPart | SoftmaxPart | UnsupportedPart


@dataclass
class _Draft:
    """A linear layer and what follows it."""

    linear: LinearPart
    norm: NormPart | None = None
    relu: bool = False


def shown(name: object) -> str:
    """A name from a file, fit for a message: quoted, escaped and cut to 80 characters."""
    return repr(str(name)[:80])


def assemble(name: str, parts: Sequence[Part]) -> Network:
    """Reads the tensors of ``parts``, which are in the order of computation, and folds the norms.

    Raises
    ------
    UserError
        With the problems of all parts.
    """
    problems = _size_problems(parts)
    if problems:
        raise UserError(problems)
    drafts = _draft(parts, problems)
    problems += _chain_problems(parts)
    layers = [_read(draft, problems) for draft in drafts]
    if not problems and not layers:
        problems.append("it has no linear layer; Nonzero runs chains of torch.nn.Linear layers")
    if problems:
        raise UserError(problems)
    return Network(name, tuple(layer for layer in layers if layer))


def _size_problems(parts: Sequence[Part]) -> list[str]:
    """What forbids reading any tensor at all."""
    if (layers := sum(isinstance(part, LinearPart) for part in parts)) > LAYERS_LIMIT:
        return [f"it has {layers:,} linear layers, more than {LAYERS_LIMIT}"]
    names = [part.name for part in parts if isinstance(part, LinearPart)]
    if twice := [name for name in set(names) if names.count(name) > 1]:
        return [f"it has two layers named {shown(name)}; rename one" for name in twice]
    values = sum(tensor.values for part in parts for tensor in _tensors(part).values())
    if values > VALUES_LIMIT:
        return [f"its tensors have {values:,} values, more than {VALUES_LIMIT:,}; the engine holds far fewer"]
    return []


def _tensors(part: Part) -> dict[str, StoredTensor]:
    """The tensors of a part, by what a message calls them."""
    if isinstance(part, LinearPart):
        tensors = {"weight": part.weight, "bias": part.bias}
    elif isinstance(part, NormPart):
        tensors = {"weight": part.scale, "bias": part.shift,
                   "running_mean": part.mean, "running_var": part.variance}
    else:
        return {}
    return {name: tensor for name, tensor in tensors.items() if tensor}


def _draft(parts: Sequence[Part], problems: list[str]) -> list[_Draft]:
    """Groups the parts into linear layers with what follows; adds what is out of place to ``problems``."""
    drafts: list[_Draft] = []
    before: Part | None = None
    for part in parts:
        if problem := _place_problem(part, before):
            problems.append(f"layer {shown(part.name)} {problem}")
        elif isinstance(part, LinearPart):
            drafts.append(_Draft(part))
        elif isinstance(part, ReluPart) and drafts:
            drafts[-1].relu = True
        elif isinstance(part, NormPart) and drafts:
            drafts[-1].norm = part
        before = part
    return drafts


def _place_problem(part: Part, before: Part | None) -> str:
    if isinstance(part, UnsupportedPart):
        return part.problem
    if isinstance(before, SoftmaxPart):
        return f"follows the softmax {shown(before.name)}, which may only be last"
    if isinstance(part, LinearPart) or isinstance(before, UnsupportedPart):
        return ""
    if before is None:
        return "comes before the first linear layer; only torch.nn.Flatten, Dropout and Identity may"
    if isinstance(part, NormPart) and not isinstance(before, LinearPart):
        return ("is a batch normalisation that does not directly follow a linear layer; only there it folds "
                "into the weights: train with the order Linear, BatchNorm1d, ReLU")
    return ""


def _chain_problems(parts: Sequence[Part]) -> list[str]:
    """Shapes that are wrong in themselves or do not fit the layer before."""
    problems = []
    before: LinearPart | None = None
    for part in parts:
        name = shown(part.name)
        if isinstance(part, UnsupportedPart):
            before = None
        elif isinstance(part, LinearPart) and not part.weight.problem:
            if len(part.weight.shape) != 2:
                problems.append(f"layer {name}: its weight has the shape {list(part.weight.shape)}, "
                                "but a linear layer's has two axes")
                continue
            rows, cols = part.weight.shape
            if before and before.weight.shape[0] != cols:
                problems.append(f"layer {name} takes {cols:,} inputs, but the layer before it, "
                                f"{shown(before.name)}, gives {before.weight.shape[0]:,} outputs; if this "
                                "is not the order of computation, save a torch.nn.Sequential of the layers")
            problems += _length_problems(part, rows)
            before = part
        elif isinstance(part, NormPart) and before:
            problems += _length_problems(part, before.weight.shape[0])
    return problems


def _length_problems(part: LinearPart | NormPart, rows: int) -> list[str]:
    return [f"layer {shown(part.name)}: its {what} has the shape {list(tensor.shape)}, "
            f"but the layer has {rows:,} outputs"
            for what, tensor in _tensors(part).items()
            if not tensor.problem and tensor.shape != (rows,)
            and not (what == "weight" and isinstance(part, LinearPart))]


def _read(draft: _Draft, problems: list[str]) -> Linear | None:
    """The layer with its norm folded in; None if anything is unusable, which adds to ``problems``."""
    arrays = _arrays(draft.linear, problems)
    norm = _arrays(draft.norm, problems) if draft.norm else {}
    if problems:
        return None
    weight = arrays["weight"]
    bias = arrays.get("bias", np.zeros(len(weight), np.float32))
    if draft.norm:
        try:
            weight, bias = _fold(weight, bias, norm, draft.norm.eps)
        except TensorError as error:
            problems.append(f"batch normalisation {shown(draft.norm.name)}: {error}")
    return Linear(draft.linear.name, weight, bias, draft.relu)


def _arrays(part: LinearPart | NormPart, problems: list[str]) -> dict[str, np.ndarray]:
    arrays = {}
    for what, tensor in _tensors(part).items():
        try:
            arrays[what] = tensor.read()
        except TensorError as error:
            problems.append(f"layer {shown(part.name)}: its {what} {error}")
    return arrays


def _fold(weight: np.ndarray, bias: np.ndarray, norm: dict[str, np.ndarray],
          eps: float) -> tuple[np.ndarray, np.ndarray]:
    """``norm(weight @ x + bias)`` as a weight and a bias; computed in float64, returned as float32.

    Ioffe and Szegedy, "Batch Normalization", ICML 2015, Algorithm 2 (inference).
    """
    variance = norm["running_var"].astype(np.float64) + eps
    if variance.min() <= 0:
        raise TensorError("its running_var has values that are not positive; the file is damaged")
    try:
        with np.errstate(all="ignore"):
            scale = norm.get("weight", np.float64(1)) / np.sqrt(variance)
            shifted = (bias - norm["running_mean"].astype(np.float64)) * scale + norm.get("bias", 0)
            return finite(weight * scale[:, np.newaxis]), finite(shifted)
    except TensorError as error:
        raise TensorError(f"folded into the layer before, it {error}") from None
