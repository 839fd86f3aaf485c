# SPDX-License-Identifier: Apache-2.0
"""Builds the chain of layers part by part: each part changes the layers so far, or the axes of what flows."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from host.importers.conv_padding import ONLY_CONVOLUTIONS, in_numbers, joined
from host.importers.fold_normalization import Affine
from host.importers.layer_drafts import Draft
from host.importers.source_layers import (
    AdaptivePoolPart,
    AddPart,
    AffinePart,
    ConvPart,
    FlattenPart,
    LinearPart,
    NormPart,
    PadPart,
    Pair,
    Part,
    PoolPart,
    ReluPart,
    SoftmaxPart,
    Step,
    UnsupportedPart,
    shown,
    tensors_of,
)
from host.importers.stored_tensor import TensorError
from host.importers.supported_layers import kernel_problems, pool_problems, size_text
from host.network.graph import INPUT
from host.network.layers import Geometry
from rtl.numbers import Activation

__all__ = ["Chain"]

NO_SHAPE = ("the file does not say how large the images are; add --input-shape CHANNELS,HEIGHT,WIDTH, for instance "
            "1,28,28")


class _Value(NamedTuple):
    """A value of the graph: its shape, and what the parts that take it have to know."""

    shape: tuple[int, ...] | None
    pad: PadPart | None
    before: Part | None
    draft: Draft | None
    lost: bool
    shared: bool


class Chain:
    """Takes the parts one by one: groups them into layers, and follows the shape of what flows between them.

    ``shape`` is (channels, height, width), or (values,) once flat; None if it is not known, before the first layer or
    after a problem. It begins as ``input_shape``, which may have any axes if it is ``exact``.
    """

    def __init__(self, input_shape: tuple[int, ...] | None, *, exact: bool = False) -> None:
        self.shape = input_shape
        self.exact, self.told = exact, input_shape is not None
        self.affine: Affine | None = None
        """Scale and shift of the input before the first layer."""
        self.lost = False
        """A layer was refused, so that what follows it is not judged by what came before."""
        self.pad: PadPart | None = None
        """Zeros that the next convolution takes."""
        self.drafts: list[Draft] = []
        self.draft: Draft | None = None
        """The layer that makes the current value; None for the network's input."""
        self.problems: list[str] = []
        self.before: Part | None = None
        self.values: dict[str, _Value] = {}
        self.readers: Counter[str] = Counter()
        self.shared = False
        """Several parts read the current value, so that none of them may join the layer that makes it."""

    def follow(self, steps: Sequence[Step], output: str) -> None:
        """Adds all ``steps`` of a graph, in the order of computation; the network gives the value named ``output``."""
        self.readers.update(name for step in steps for name in step.takes)
        self.readers[output] += 1
        known = {name for step in steps for name in step.takes} - {step.gives for step in steps}
        self.values |= {name: self._value(name) for name in known}
        for step in steps:
            self._take(step.takes[0])
            self.add(step.part, self.values[step.takes[1]] if len(step.takes) > 1 else None)
            self.values[step.gives] = self._value(step.gives)
        if steps:
            self._take(output)
        self._end()

    def add(self, part: Part, other: "_Value | None" = None) -> None:
        """Adds ``part``, which takes the current value: a new layer, a part of the one before, or a problem in
        `problems`. A sum takes ``other`` as well.
        """
        problem = self._place_problem(part)
        if problem:
            self._refuse(part, problem)
        elif isinstance(part, AddPart):
            assert other is not None
            self._sum(part, other)
        elif type(part) in _METHODS:
            _METHODS[type(part)](self, part)
        if not isinstance(part, FlattenPart | AffinePart | PadPart):
            self.before = part

    def _value(self, name: str) -> "_Value":
        return _Value(self.shape, self.pad, self.before, self.draft, self.lost, self.readers[name] > 1)

    def _take(self, name: str) -> None:
        self.shape, self.pad, self.before, self.draft, self.lost, self.shared = self.values[name]

    def _end(self) -> None:
        """No part follows."""
        if self.pad:
            self._refuse(self.pad, ONLY_CONVOLUTIONS)
        used, look = set[int](), [self.draft]
        while look:
            one = look.pop()
            if one is not None and id(one) not in used:
                used.add(id(one))
                look += [one.source, one.added if isinstance(one.added, Draft) else None]
        if not self.problems:
            self.problems += [f"layer {shown(draft.part.name)} is not used: the network's output does not depend on it"
                              for draft in self.drafts if id(draft) not in used]

    def _sum(self, part: AddPart, other: "_Value") -> None:
        """One of the two layers gets the other's outputs added to its sums, if it may; else a layer of its own."""
        if self.shape is None or other.shape is None:
            self.shape = None
            return
        if self.shape != other.shape:
            self._refuse(part, f"adds {size_text(other.shape)} values to {size_text(self.shape)}; only values of one "
                               "shape are added")
            return
        if _form(self.draft, self.shape) != _form(other.draft, other.shape):
            self._refuse(part, f"adds {size_text(self.shape)} values of a flattened map to others; add before it is "
                               "flattened")
            return
        if self.pad or other.pad:
            self._refuse(part, "adds values with zeros around them; only a convolution takes these")
            return
        pairs = [(self.draft, other.draft, self.shared), (other.draft, self.draft, other.shared)]
        for one, added, shared in pairs:
            if one is not None and not shared and one.takes_more and (
                    added is None or self._number(added) < self._number(one)):
                one.added, self.draft = INPUT if added is None else added, one
                return
        self._identity(part.name)
        assert self.draft is not None
        self.draft.added = INPUT if other.draft is None else other.draft

    def _number(self, draft: Draft) -> int:
        return next(number for number, one in enumerate(self.drafts) if one is draft)

    def _identity(self, name: str) -> None:
        """A layer that gives what it takes, for what cannot join the one before."""
        assert self.shape is not None
        channels, height, width = self.shape if len(self.shape) == 3 else (math.prod(self.shape), 1, 1)
        flat = len(self.shape) != 3
        self._layer(Draft(PoolPart(name, "average", (1, 1), (1, 1)),
                          Geometry((channels, height, width), (1, 1), groups=channels), open=not flat))

    def _layer(self, draft: Draft) -> None:
        """Begins a layer, which takes the current value."""
        draft.source = self.draft
        self.drafts.append(draft)
        self.draft, self.shared = draft, False

    def _place_problem(self, part: Part) -> str:
        before = self.before
        if isinstance(part, UnsupportedPart):
            return part.problem
        if self.pad and not isinstance(part, PadPart | ConvPart | ReluPart):
            pad, self.pad = self.pad, None
            self._refuse(pad, ONLY_CONVOLUTIONS)
        if isinstance(before, SoftmaxPart):
            return f"follows the softmax {shown(before.name)}, which may only be last"
        if isinstance(before, UnsupportedPart) or not isinstance(part, NormPart | ReluPart | SoftmaxPart):
            return ""
        if self.draft is None:
            return "" if self.lost else ("comes before the first linear layer or convolution; only torch.nn.Flatten, "
                                         "Dropout, Identity and pooling may: leave it out, and give the data as "
                                         "it comes out of it")
        if isinstance(part, NormPart) and not isinstance(before, LinearPart | ConvPart):
            return ("is a batch normalisation that does not directly follow a linear layer or a convolution; only "
                    "there it folds into the weights: train with the order Linear, BatchNorm1d, ReLU or Conv2d, "
                    "BatchNorm2d, ReLU")
        return self._softmax_problem(part) if isinstance(part, SoftmaxPart) else ""

    def _softmax_problem(self, part: SoftmaxPart) -> str:
        """Why the order of the outputs is not that of its inputs."""
        shape = self.shape
        if part.axis is None or shape is None or (len(shape) == 1 and part.axis in (1, -1)) \
                or (shape[1:] == (1, 1) and part.axis in (1, -3)):
            return ""
        return (f"is a softmax over axis {part.axis} of {size_text(shape)} outputs; only one over all of them may be "
                "left out: put torch.nn.Flatten() before it and use dim=1, or leave it out of the model")

    def _refuse(self, part: Part, problem: str) -> None:
        self.problems.append(f"layer {shown(part.name)} {problem}")
        self.shape = None
        self.lost |= not isinstance(part, NormPart | ReluPart | SoftmaxPart | FlattenPart)

    def _affine(self, part: AffinePart) -> None:
        """A constant on the model's input; readers give one nowhere else."""
        assert self.shape is not None
        self.affine = self.affine or Affine(self.shape)
        try:
            self.affine.then(part)
        except TensorError as error:
            self._refuse(part, f"works with a constant that {error}")

    def _flatten(self, part: FlattenPart) -> None:
        """All axes into one, or an input's into others; the batch axis must stay as it is."""
        shape, cut = self.shape, part.shape
        if not cut:
            self.shape = shape and (math.prod(shape),)
        elif shape is None:
            if self.draft is None and not self.problems:
                self._refuse(part, f"cuts its input into pieces of {size_text(cut)} values, but {NO_SHAPE}")
        elif math.prod(cut) != math.prod(shape):
            self._refuse(part, f"cuts {size_text(shape)} values of each input into pieces of {size_text(cut)}, so that "
                               "one input becomes several of the batch; use torch.nn.Flatten(), which leaves the batch "
                               "axis as it is")
        elif len(cut) > 1 and cut != shape and self.before is not None:
            self._refuse(part, f"cuts {size_text(shape)} values into {size_text(cut)}; only the input may be cut into "
                               "channels, rows and columns, and only a flatten may follow: use torch.nn.Flatten()")
        else:
            self.shape = cut

    def _relu(self, part: ReluPart) -> None:
        if self.draft is None or self.shape is None:
            return
        if self.shared:
            self._identity(part.name)
        self.draft.activation = Activation.RELU

    def _norm(self, part: NormPart) -> None:
        if self.shared:
            self._refuse(part, "is a batch normalisation of values that another layer takes as well; it cannot fold "
                               "into the layer that makes them: normalise before the branch")
        elif self.draft is not None and isinstance(self.before, LinearPart | ConvPart):
            self.draft.norm = part
            self._check_lengths(part, _rows(self.draft.part))

    def _linear(self, part: LinearPart) -> None:
        self._layer(Draft(part, open=False))
        if part.weight.problem:
            self.shape = None
        elif len(part.weight.shape) != 2:
            self.problems.append(f"layer {shown(part.name)}: its weight has the shape {list(part.weight.shape)}, but a "
                                 "linear layer's has two axes")
            self.shape = None
        else:
            rows, cols = part.weight.shape
            if problem := self._inputs_problem(cols):
                self._refuse(part, f"takes {cols:,} inputs, but {problem}")
            self._check_lengths(part, rows)
            self.shape = (rows,)

    def _inputs_problem(self, cols: int) -> str:
        """Why a linear layer cannot take what comes in. The first layer decides what the network takes."""
        shape = self.shape
        if shape is None or shape == (cols,):
            return ""
        source = self.draft.source if self.draft else None
        if source is None:
            if not self.exact and self.before is None:
                return ""  # whoever gives the inputs flattens them
            several = f"; put torch.nn.Flatten() before it, and train it on all {math.prod(shape):,}"
            return f"an input has {size_text(shape)} values" + several * (len(shape) > 1)
        before = shown(source.part.name)
        if math.prod(shape) == cols:
            return (f"the layer before it, {before}, gives {size_text(shape)} feature maps; put torch.nn.Flatten() "
                    "between")
        size = "; if images have another size, check --input-shape" if source.geometry else ""
        return (f"the layer before it, {before}, gives {size_text(shape)} outputs; if this is not the order of "
                f"computation, save a torch.nn.Sequential of the layers{size}")

    def _convolution(self, part: ConvPart) -> None:
        self._layer(Draft(part))
        if part.weight.problem:
            self.shape = None
            return
        if len(part.weight.shape) != 4:
            self._refuse(part, f"has a weight of the shape {list(part.weight.shape)}, but a two-dimensional "
                               "convolution's has four axes")
            return
        rows, channels, *kernel = part.weight.shape
        part, self.pad = in_numbers(part, (kernel[0], kernel[1]), self.shape, self.pad), None
        problems = list(kernel_problems(part, rows, (kernel[0], kernel[1])))
        self._check_lengths(part, rows)
        if not problems and self._is_map(part):
            assert self.shape is not None
            size = self.shape[1], self.shape[2]
            geometry = Geometry((self.shape[0], *size), (kernel[0], kernel[1]), (1, 1), part.padding, part.groups,
                                end_padding=part.end_padding)
            geometry = replace(geometry, stride=_needed(part.stride, geometry))
            if self.shape[0] != channels * part.groups:
                problems.append(f"takes {channels * part.groups} channels, but gets {size_text(self.shape)} values; "
                                "check --input-shape and the order of the layers")
            elif min(geometry.conv_shape) < 1:
                problems.append(f"has a kernel of {size_text(tuple(kernel))}, which exceeds its input of "
                                f"{size_text(self.shape)}; use larger images or smaller kernels")
            else:
                assert self.draft is not None
                self.draft.geometry = geometry
                self.shape = (rows, *geometry.conv_shape)
                return
        for problem in problems:
            self._refuse(part, problem)
        self.shape = None

    def _pad(self, part: PadPart) -> None:
        if self._is_map(part):
            self.pad = joined(self.pad, part) if self.pad else part

    def _is_map(self, part: Part) -> bool:
        """Whether the input of a layer has channels, rows and columns; a problem is noted if it is known not to."""
        if self.shape is not None and len(self.shape) == 3:
            return True
        if self.shape is not None and len(self.shape) != 1:
            self._refuse(part, f"works on images, but gets {size_text(self.shape)} values; export the model with an "
                               "example of four axes: batch, channels, rows and columns")
        elif self.shape is not None:
            self._refuse(part, "works on images, but gets flat values; leave out the torch.nn.Flatten before it")
        elif not self.told and (self.before is None or (
                self.draft is not None and self.draft.source is None and self.draft.part is part)):
            self._refuse(part, f"works on images, but {NO_SHAPE}")
        return False

    def _pool(self, part: PoolPart) -> None:
        if not self._is_map(part):
            return
        assert self.shape is not None
        problems = list(pool_problems(part, self.shape))
        for problem in problems:
            self._refuse(part, problem)
        if problems or part.window == part.stride == (1, 1):
            return
        channels, height, width = self.shape
        joins = part.kind == "max" and self.draft is not None and self.draft.open \
            and self.draft.geometry is not None and not self.shared
        if not joins:
            # The mean and the maximum of activations that are not negative are not negative either.
            positive = self.draft is not None and not self.draft.activation.signed
            geometry = Geometry((channels, height, width), (1, 1), groups=channels)
            if part.kind == "average":
                geometry = replace(geometry, kernel=part.window, padding=part.padding)
                geometry = replace(geometry, stride=_needed(part.stride, geometry))
            self._layer(Draft(part, geometry, activation=Activation.RELU if positive else Activation.IDENTITY))
        draft = self.draft
        assert draft is not None and draft.geometry is not None
        if part.kind == "max":
            draft.geometry = replace(draft.geometry, pool=part.window[0], pool_stride=part.stride[0])
            draft.open = False
        self.shape = (channels, *draft.geometry.out_shape)

    def _adaptive_pool(self, part: AdaptivePoolPart) -> None:
        if not self._is_map(part):
            return
        assert self.shape is not None
        sizes = self.shape[1:]
        wanted = [size if goal is None else goal for size, goal in zip(sizes, part.size, strict=True)]
        if any(goal < 1 or size % goal for size, goal in zip(sizes, wanted, strict=True)):
            self._refuse(part, f"gives {size_text(tuple(wanted))} values of {size_text(sizes)}, for which its windows "
                               "differ in size; use images for which they do not, or a torch.nn.AvgPool2d or MaxPool2d")
            return
        window = sizes[0] // wanted[0], sizes[1] // wanted[1]
        self._pool(PoolPart(part.name, part.kind, window, window))

    def _check_lengths(self, part: LinearPart | ConvPart | NormPart, rows: int | None) -> None:
        self.problems += [f"layer {shown(part.name)}: its {what} has the shape {list(tensor.shape)}, but the layer has "
                          f"{rows:,} outputs"
                          for what, tensor in tensors_of(part).items()
                          if rows is not None and not tensor.problem and tensor.shape != (rows,)
                          and not (what == "weight" and not isinstance(part, NormPart))]


_METHODS: dict[type[Part], Callable[[Chain, Any], None]] = {
    LinearPart: Chain._linear, ConvPart: Chain._convolution, PadPart: Chain._pad,
    PoolPart: Chain._pool, AdaptivePoolPart: Chain._adaptive_pool, FlattenPart: Chain._flatten,
    AffinePart: Chain._affine, ReluPart: Chain._relu, NormPart: Chain._norm,
}
"""What a `Chain` does with a part that may stand where it does; nothing with others."""


def _needed(stride: Pair, geometry: Geometry) -> Pair:
    """The stride that is needed: 1 if the kernel covers the whole input, because each phase of a stride costs a pass.

    ``geometry`` has a stride of 1.
    """
    rows, cols = (1 if outputs == 1 else step for step, outputs in zip(stride, geometry.conv_shape, strict=True))
    return rows, cols


def _form(draft: Draft | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Channels, rows and columns of the map that a value is in the engine, flat or not."""
    if draft is not None and draft.geometry is not None:
        return _rows(draft.part) or draft.geometry.groups, *draft.geometry.out_shape
    return shape if len(shape) == 3 else (math.prod(shape), 1, 1)


def _rows(part: Part) -> int | None:
    if not isinstance(part, LinearPart | ConvPart) or part.weight.problem or not part.weight.shape:
        return None
    return part.weight.shape[0]
