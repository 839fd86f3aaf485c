# SPDX-License-Identifier: Apache-2.0
"""The parts of a model as its file describes them, in the order of computation, before they are checked or read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from host.importers.map_parts import (
    FlattenPart,
    Pair,
    PermutePart,
    SqueezePart,
    TransposedConvPart,
    UpsamplePart,
)
from host.importers.stored_tensor import StoredTensor
from host.network.function import AnyActivation
from rtl.numbers import Activation

__all__ = [
    "MAP_PARTS",
    "ActivationPart",
    "AdaptivePoolPart",
    "AddPart",
    "AffinePart",
    "ConvPart",
    "FlattenPart",
    "JoinPart",
    "LinearPart",
    "MulPart",
    "NormPart",
    "PadPart",
    "Pair",
    "Part",
    "PermutePart",
    "PoolPart",
    "SoftmaxPart",
    "SqueezePart",
    "Step",
    "TransposedConvPart",
    "UnsupportedPart",
    "UpsamplePart",
    "in_a_row",
    "shown",
    "tensors_of",
]

@dataclass(frozen=True)
class LinearPart:
    """``weight @ x + bias``: shapes ``[rows, cols]`` and ``[rows]``; of ``out_map`` and ``fixed``,
    `host.network.layers.Linear` says what they are."""

    name: str
    weight: StoredTensor
    bias: StoredTensor | None
    out_map: tuple[int, int, int] | None = None
    fixed: bool = False


@dataclass(frozen=True)
class ConvPart:
    """A convolution, torch.nn.Conv2d.

    Attributes
    ----------
    weight : StoredTensor, shape ``[outputs, inputs / groups, kernel rows, kernel columns]``
    bias : StoredTensor or None, shape ``[outputs]``
    stride, dilation : Pair
    padding : Pair
        Zeros above and to the left.
    groups : int
        Divides inputs and outputs.
    end_padding : Pair, optional
        Zeros below and to the right; None if they are as many as in ``padding``.
    same : str
        "upper" or "lower": as many zeros as give one output for each stride; of an odd number, one more is at the end
        or at the beginning, and the paddings are ignored. Empty if the paddings count.
    """

    name: str
    weight: StoredTensor
    bias: StoredTensor | None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    end_padding: Pair | None = None
    same: str = ""


@dataclass(frozen=True)
class PadPart:
    """Zeros around feature maps, torch.nn.ZeroPad2d.

    Attributes
    ----------
    rows, cols : Pair
        Before the first and behind the last of them.
    """

    name: str
    rows: Pair
    cols: Pair


@dataclass(frozen=True)
class PoolPart:
    """Pooling, torch.nn.MaxPool2d or torch.nn.AvgPool2d.

    Attributes
    ----------
    kind : str
        "max" or "average".
    window, stride, padding : Pair
    ceil : bool
        Windows may extend beyond the end.
    counts_padding : bool
        Torch's ``count_include_pad``.
    end_padding : Pair, optional
    same : str
        See `ConvPart`.
    """

    name: str
    kind: str
    window: Pair
    stride: Pair
    padding: Pair = (0, 0)
    ceil: bool = False
    counts_padding: bool = True
    end_padding: Pair | None = None
    same: str = ""

    @property
    def pads(self) -> tuple[Pair, Pair]:
        """Places before and behind the rows, and before and behind the columns."""
        (above, left), (below, right) = self.padding, self.end_padding or self.padding
        return (above, below), (left, right)


@dataclass(frozen=True)
class AdaptivePoolPart:
    """Pooling to a fixed size.

    Attributes
    ----------
    kind : str
        "max" or "average".
    size : (int or None, int or None)
        Rows and columns of the output; None for those of the input.
    """

    name: str
    kind: str
    size: tuple[int | None, int | None]


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
class AffinePart:
    """``x + constant`` (``operation`` is "add"), or "sub", "mul", "div", or "rsub", ``constant - x``."""

    name: str
    operation: str
    constant: StoredTensor


@dataclass(frozen=True)
class AddPart:
    """The sum of two values of one shape, a residual connection."""

    name: str


@dataclass(frozen=True)
class MulPart:
    """The product of two values of one shape, or of a map and a value for each of its channels."""

    name: str


@dataclass(frozen=True)
class JoinPart:
    """Values one behind the other along their first axis, the channels of feature maps: torch.cat(..., dim=1)."""

    name: str


@dataclass(frozen=True)
class ActivationPart:
    """The function ``activation`` of each value."""

    name: str
    activation: AnyActivation = Activation.RELU


@dataclass(frozen=True)
class SoftmaxPart:
    """A softmax or log-softmax over the outputs: it keeps their order, so the network does without it.

    ``axis`` is counted with the batch axis; None for one over all axes.
    """

    name: str
    axis: int | None = 1


@dataclass(frozen=True)
class UnsupportedPart:
    """A layer that the engine cannot run; ``problem`` says what it is and what would help."""

    name: str
    problem: str


Part = (AddPart | JoinPart | MulPart | LinearPart | ConvPart | TransposedConvPart | UpsamplePart | PermutePart
        | SqueezePart | PadPart | PoolPart | AdaptivePoolPart | NormPart | AffinePart | ActivationPart | FlattenPart
        | SoftmaxPart | UnsupportedPart)

MAP_PARTS = (ConvPart, TransposedConvPart, UpsamplePart, PoolPart, AdaptivePoolPart)
"""Kinds of parts that give channels, rows and columns."""


class Step(NamedTuple):
    """A part in the graph of a model.

    Attributes
    ----------
    part : Part
    takes : tuple of str
        Names of the values that it takes: one, of an `AddPart` or `MulPart` two, of a `JoinPart` any number.
    gives : str
        Name of the value that it makes.
    """

    part: Part
    takes: tuple[str, ...]
    gives: str


def in_a_row(parts: Sequence[Part]) -> list[Step]:
    """The steps of a chain: each of ``parts`` takes what the one before makes; the first takes the value ``""``."""
    return [Step(part, (f"{number}" if number else "",), f"{number + 1}") for number, part in enumerate(parts)]


def shown(name: object) -> str:
    """A name from a file for a message: quoted, escaped and cut to 80 characters."""
    return repr(str(name)[:80])


def tensors_of(part: Part) -> dict[str, StoredTensor]:
    """The tensors of ``part``, by the names that messages give them."""
    if isinstance(part, LinearPart | ConvPart | TransposedConvPart):
        tensors = {"weight": part.weight, "bias": part.bias}
    elif isinstance(part, NormPart):
        tensors = {"weight": part.scale, "bias": part.shift,
                   "running_mean": part.mean, "running_var": part.variance}
    elif isinstance(part, AffinePart):
        tensors = {"constant": part.constant}
    else:
        return {}
    return {name: tensor for name, tensor in tensors.items() if tensor}
