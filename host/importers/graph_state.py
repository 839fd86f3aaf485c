# SPDX-License-Identifier: Apache-2.0
"""The layers of a model while they are put together, and what is known of the value that the next part takes."""

import math
from typing import NamedTuple

from host.importers.fold_normalization import Affine
from host.importers.layer_drafts import Draft
from host.importers.source_layers import (
    ActivationPart,
    ConvPart,
    FlattenPart,
    LinearPart,
    NormPart,
    PadPart,
    Part,
    PoolPart,
    SoftmaxPart,
    shown,
    tensors_of,
)
from host.importers.supported_layers import LARGEST_KERNEL, size_text
from host.network.layers import Geometry
from rtl.numbers import Activation

__all__ = ["NO_SHAPE", "GraphState", "Value", "form", "in_rows", "rows_of"]

NO_SHAPE = ("the file does not say how large the images are; add --input-shape CHANNELS,HEIGHT,WIDTH, for instance "
            "1,28,28")


class Value(NamedTuple):
    """A value of the graph: its ``shape``, and what the parts that take it have to know.

    Of ``pad``, ``before``, ``draft``, ``lost`` and ``shared``, `GraphState` says what they are.
    """

    shape: tuple[int, ...] | None
    pad: PadPart | None
    before: Part | None
    draft: Draft | None
    lost: bool
    shared: bool


class GraphState:
    """Layers so far, and the current value: the one that the next part takes.

    Attributes
    ----------
    shape : tuple of int or None
        Of the current value: (channels, height, width), or (values,) once flat; None if it is not known, before the
        first layer or after a problem. It begins as ``input_shape``, which may have any axes if it is ``exact``.
    draft : Draft or None
        The layer that makes the current value; None for the network's input.
    shared : bool
        Several parts read the current value, so that none of them may join the layer that makes it.
    before : Part or None
        The part that made the current value.
    pad : PadPart or None
        Zeros that the next convolution takes.
    lost : bool
        A layer was refused, so that what follows it is not judged by what came before.
    affine : Affine or None
        Scale and shift of the input before the first layer.
    drafts : list of Draft
    problems : list of str
    notes : list of str
        Sentences for `host.network.layers.Network.assumptions`.
    expanded : int
        Values of matrices that are computed of other layers.
    """

    def __init__(self, input_shape: tuple[int, ...] | None, *, exact: bool = False) -> None:
        self.shape = input_shape
        self.exact, self.told = exact, input_shape is not None
        self.draft: Draft | None = None
        self.shared = False
        self.before: Part | None = None
        self.pad: PadPart | None = None
        self.lost = False
        self.affine: Affine | None = None
        self.drafts: list[Draft] = []
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.expanded = 0

    def value(self, *, shared: bool) -> Value:
        """The current value, which several parts read or not (``shared``)."""
        return Value(self.shape, self.pad, self.before, self.draft, self.lost, shared)

    def take(self, value: Value) -> None:
        """Makes ``value`` the current one."""
        self.shape, self.pad, self.before, self.draft, self.lost, self.shared = value

    def begin(self, draft: Draft) -> None:
        """Begins a layer, ``draft``, which takes the current value."""
        draft.source = self.draft
        self.drafts.append(draft)
        self.draft, self.shared = draft, False

    def identity(self, name: str) -> None:
        """Begins a layer ``name`` that gives what it takes, for what cannot join the one before."""
        assert self.shape is not None
        channels, height, width = form(self.draft, self.shape)
        self.begin(Draft(PoolPart(name, "average", (1, 1), (1, 1)),
                          Geometry((channels, height, width), (1, 1), groups=channels), open=len(self.shape) == 3))

    def keep_zeros(self) -> None:
        """Begins a layer that puts the zeros of `pad` around the current value, if there are any to be put."""
        pad, self.pad = self.pad, None
        if pad is None or self.shape is None or not any((*pad.rows, *pad.cols)):
            return
        if max(*pad.rows, *pad.cols) > LARGEST_KERNEL:
            self.refuse(pad, f"pads by {pad.rows} rows and {pad.cols} columns, which must be 0 to {LARGEST_KERNEL} "
                             "each; retrain with less")
            return
        channels, height, width = in_rows(self.shape)
        geometry = Geometry((channels, height, width), (1, 1), padding=(pad.rows[0], pad.cols[0]), groups=channels,
                            end_padding=(pad.rows[1], pad.cols[1]))
        positive = self.draft is not None and not self.draft.activation.signed
        taken = {draft.part.name for draft in self.drafts}
        name = next(one for one in (pad.name, *(f"{pad.name}[{number}]" for number in range(2, len(taken) + 3)))
                    if one not in taken)
        self.begin(Draft(PoolPart(name, "average", (1, 1), (1, 1)), geometry,
                         activation=Activation.RELU if positive else Activation.IDENTITY, implied=positive))
        self.shape = (channels, *geometry.out_shape)[::1 if len(self.shape) == 3 else 2]

    def refuse(self, part: Part, problem: str) -> None:
        """Notes that the layer of ``part`` cannot run, because of ``problem``, a sentence without its subject."""
        self.problems.append(f"layer {shown(part.name)} {problem}")
        self.shape = None
        self.lost |= not isinstance(part, NormPart | ActivationPart | SoftmaxPart | FlattenPart)

    def is_map(self, part: Part) -> bool:
        """Whether the input of ``part`` has channels, rows and columns; a problem is noted if it is known not to."""
        self.shape = self.shape and in_rows(self.shape)
        if self.shape is not None and len(self.shape) == 3:
            return True
        if self.shape is not None and len(self.shape) != 1:
            self.refuse(part, f"works on images, but gets {size_text(self.shape)} values; export the model with an "
                              "example of four axes: batch, channels, rows and columns")
        elif self.shape is not None:
            self.refuse(part, "works on images, but gets flat values; leave out the torch.nn.Flatten before it")
        elif not self.told and (self.before is None or (
                self.draft is not None and self.draft.source is None and self.draft.part is part)):
            self.refuse(part, f"works on images, but {NO_SHAPE}")
        return False

    def check_lengths(self, part: LinearPart | ConvPart | NormPart, rows: int | None) -> None:
        """Notes tensors of ``part`` that have not one value for each of its ``rows`` outputs."""
        self.problems += [f"layer {shown(part.name)}: its {what} has the shape {list(tensor.shape)}, but the layer has "
                          f"{rows:,} outputs"
                          for what, tensor in tensors_of(part).items()
                          if rows is not None and not tensor.problem and tensor.shape != (rows,)
                          and not (what == "weight" and not isinstance(part, NormPart))]


def in_rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The ``shape`` (channels, values) as that of a map of one row; any other as it is."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def form(draft: Draft | None, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, rows and columns of the map that a value of ``shape`` from ``draft`` is in the engine, flat or not."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    if len(shape) == 2:
        return shape[0], 1, shape[1]
    if draft is not None and draft.geometry is not None:
        return rows_of(draft.part) or draft.geometry.groups, *draft.geometry.out_shape
    given = draft.part.out_map if draft is not None and isinstance(draft.part, LinearPart) else None
    return given or (math.prod(shape), 1, 1)


def rows_of(part: Part) -> int | None:
    """Outputs of a linear layer, channels of a convolution, if the file tells them; None for another ``part``."""
    if not isinstance(part, LinearPart | ConvPart) or part.weight.problem or not part.weight.shape:
        return None
    return part.weight.shape[0]
