# SPDX-License-Identifier: Apache-2.0
"""Parts of a model that give values other axes, or make feature maps larger; see `host.importers.source_layers`."""

from dataclasses import dataclass

from host.importers.stored_tensor import StoredTensor

__all__ = ["FlattenPart", "Pair", "PermutePart", "SqueezePart", "TransposedConvPart", "UpsamplePart"]

Pair = tuple[int, int]
"""A number for rows and one for columns."""


@dataclass(frozen=True)
class FlattenPart:
    """Channels, rows and columns become one axis; or, with a ``shape``, axes of these sizes behind the batch axis, if
    these hold all values of an input. One of them may be 0, if it follows from the others."""

    name: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class TransposedConvPart:
    """A transposed convolution, torch.nn.ConvTranspose2d.

    Attributes
    ----------
    weight : StoredTensor, shape ``[inputs, outputs / groups, kernel rows, kernel columns]``
    bias : StoredTensor or None, shape ``[outputs]``
    stride, dilation : Pair
    padding : Pair
        Rows and columns that are cut off above and to the left.
    end_padding : Pair
        Those that are cut off below and to the right; below 0 if there are more instead, ``output_padding``.
    groups : int
        Divides inputs and outputs.
    """

    name: str
    weight: StoredTensor
    bias: StoredTensor | None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    end_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class UpsamplePart:
    """Feature maps made larger by whole factors, each value repeated: torch.nn.Upsample with the mode "nearest".

    Attributes
    ----------
    size : Pair or None
        Rows and columns of the output; None if the factors tell them.
    factor : (float, float) or None
        Output rows for each row, and columns.
    """

    name: str
    size: Pair | None = None
    factor: tuple[float, float] | None = None


@dataclass(frozen=True)
class PermutePart:
    """Axes in another order.

    Attributes
    ----------
    order : tuple of int
        For each axis of the result the number of the axis that it was, both counted without the batch axis.
    """

    name: str
    order: tuple[int, ...]


@dataclass(frozen=True)
class SqueezePart:
    """Axes of the size 1 that come or go.

    Attributes
    ----------
    axes : tuple of int
        Their numbers, counted without the batch axis, where they are there; below 0 from the end.
    adds : bool
        They come.
    """

    name: str
    axes: tuple[int, ...]
    adds: bool
