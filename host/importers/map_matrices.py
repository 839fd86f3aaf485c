# SPDX-License-Identifier: Apache-2.0
"""Matrices of linear operations from one feature map to another, which run as fully connected layers."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from host.importers.source_layers import PoolPart, TransposedConvPart
from host.importers.stored_tensor import StoredTensor
from host.importers.supported_layers import size_text

__all__ = ["Windows", "by_channel", "expanded", "pool_outputs", "pooling_matrix", "repeats", "selection",
           "spread_shape", "transposed_problems"]

BLOCK_VALUES = 1 << 22
"""Values of outputs that a transposed convolution computes at a time."""

Shape = tuple[int, int, int]
"""Channels, rows and columns."""


def by_channel(inputs: Shape, outputs: Shape, pixels: Callable[[], np.ndarray]) -> StoredTensor:
    """The matrix of an operation that does the same with each channel, ``[outputs, inputs]``.

    Parameters
    ----------
    inputs, outputs : (int, int, int)
        Channels, as many of both, rows and columns.
    pixels : callable
        Gives the matrix of one channel, ``[output pixels, input pixels]``.
    """
    shape = math.prod(outputs), math.prod(inputs)

    def read() -> np.ndarray:
        found = np.zeros((outputs[0], shape[0] // outputs[0], inputs[0], shape[1] // inputs[0]), np.float32)
        found[np.arange(inputs[0]), :, np.arange(inputs[0])] = pixels()
        return found.reshape(shape)
    return StoredTensor(shape, math.prod(shape), read)


def repeats(size: tuple[int, int], factor: tuple[int, int]) -> np.ndarray:
    """The matrix that repeats each of ``size`` rows and columns ``factor`` times: float32 ``[outputs, inputs]``."""
    rows, cols = (np.repeat(np.eye(one, dtype=np.float32), times, axis=0)
                  for one, times in zip(size, factor, strict=True))
    return np.kron(rows, cols)


@dataclass(frozen=True)
class Windows:
    """The windows of an average pooling along one axis.

    Attributes
    ----------
    begins, ends : int64 array, shape ``[windows]``
        The first value of each, and the one behind its last.
    counts : int64 array, shape ``[windows]``
        Values over which each divides.
    """

    begins: np.ndarray
    ends: np.ndarray
    counts: np.ndarray

    @classmethod
    def adaptive(cls, size: int, goal: int) -> "Windows":
        """Those of ``size`` values to ``goal``, as torch chooses them."""
        numbers = np.arange(goal)
        begins, ends = numbers * size // goal, -(-(numbers + 1) * size // goal)
        return cls(begins, ends, ends - begins)

    @classmethod
    def of(cls, part: PoolPart, axis: int, size: int) -> "Windows":
        """Those of the pooling ``part`` along its ``axis``, 0 for rows, of ``size`` values."""
        edge, step, (before, behind) = part.window[axis], part.stride[axis], part.pads[axis]
        begins = np.arange(pool_outputs(part, axis, size)) * step - before
        ends = np.minimum(begins + edge, size + behind)
        inside = np.maximum(begins, 0), np.minimum(ends, size)
        return cls(*inside, ends - begins if part.counts_padding else inside[1] - inside[0])

    def matrix(self, size: int) -> np.ndarray:
        """How many values each window divides over where it takes a value, else 0: float32 ``[windows, size]``."""
        places = np.arange(size)
        return np.where((places >= self.begins[:, None]) & (places < self.ends[:, None]), self.counts[:, None],
                        0).astype(np.float32)


def pool_outputs(part: PoolPart, axis: int, size: int) -> int:
    """Windows of the pooling ``part`` along its ``axis``, 0 for rows, of ``size`` values.

    Torch's ``ceil_mode``: a last window that the end cuts off counts, if it begins within the input or the padding
    before it.
    """
    edge, step, pads = part.window[axis], part.stride[axis], part.pads[axis]
    rest = size + sum(pads) - edge
    count = (-(-rest // step) if part.ceil else rest // step) + 1
    return count - (part.ceil and (count - 1) * step >= size + pads[0])


def pooling_matrix(windows: Sequence[Windows], size: tuple[int, int]) -> np.ndarray:
    """The matrix of an average pooling of one channel of ``size``: float32 ``[outputs, inputs]``.

    ``windows`` are those along rows and columns.
    """
    rows, cols = (one.matrix(length) for one, length in zip(windows, size, strict=True))
    counts = np.kron(rows, cols)
    return np.divide(1, counts, out=np.zeros_like(counts), where=counts > 0)


def selection(places: np.ndarray, inputs: int) -> StoredTensor:
    """The matrix whose outputs are the inputs at ``places``, an int64 array; there are ``inputs`` of them."""
    shape = len(places), inputs

    def read() -> np.ndarray:
        found = np.zeros(shape, np.float32)
        found[np.arange(len(places)), places] = 1
        return found
    return StoredTensor(shape, math.prod(shape), read)


def transposed_problems(part: TransposedConvPart, inputs: Shape) -> Iterator[str]:
    """Problems of the transposed convolution ``part`` of ``inputs``: each continues a sentence that its
    name begins."""
    if len(part.weight.shape) != 4:
        yield (f"has a weight of the shape {list(part.weight.shape)}, but a two-dimensional transposed convolution's "
               "has four axes")
    elif min(*part.stride, *part.dilation, part.groups) < 1 or min(part.padding) < 0:
        yield (f"has a stride of {part.stride}, a dilation of {part.dilation}, {part.groups} groups and a padding of "
               f"{part.padding}; a padding is at least 0, all else at least 1")
    elif part.weight.shape[0] != inputs[0] or inputs[0] % part.groups:
        yield (f"takes {part.weight.shape[0]} channels in {part.groups} groups, but gets {size_text(inputs)} values; "
               "check --input-shape and the order of the layers")
    elif min(spread_shape(part, inputs)) < 1:
        yield (f"has no outputs: its padding of {part.padding} cuts off all that {size_text(inputs)} values give; use "
               "a smaller padding")


def spread_shape(part: TransposedConvPart, inputs: Shape) -> Shape:
    """Channels, rows and columns that the transposed convolution ``part`` makes of ``inputs``."""
    rows, cols = (
        (size - 1) * step + gap * (edge - 1) + 1 - begin - end for size, step, gap, edge, begin, end in zip(
            inputs[1:], part.stride, part.dilation, part.weight.shape[2:], part.padding, part.end_padding,
            strict=True))
    return part.weight.shape[1] * part.groups, rows, cols


def expanded(part: TransposedConvPart, inputs: Shape) -> tuple[StoredTensor, StoredTensor | None]:
    """The matrix of the transposed convolution ``part`` of ``inputs``, ``[outputs, inputs]``, and its bias
    ``[outputs]``, if it has one. Each of its weights stands in the matrix many times.
    """
    outputs, bias = spread_shape(part, inputs), part.bias
    shape = math.prod(outputs), math.prod(inputs)

    def read() -> np.ndarray:
        weight = torch.from_numpy(np.ascontiguousarray(part.weight.read(), np.float32))
        (above, left), (below, right) = part.padding, part.end_padding
        whole = math.prod(spread_shape(replace(part, padding=(0, 0), end_padding=(0, 0)), inputs))
        found, step = np.empty(shape, np.float32), max(1, BLOCK_VALUES // max(whole, shape[1]))
        for first in range(0, shape[1], step):
            numbers = torch.arange(first, min(first + step, shape[1]))
            units = functional.one_hot(numbers, shape[1]).float().reshape(-1, *inputs)
            spread = functional.conv_transpose2d(units, weight, stride=part.stride, dilation=part.dilation,
                                                 groups=part.groups)
            found[:, first:first + step] = functional.pad(spread, (-left, -right, -above, -below)).flatten(1).T.numpy()
        return found
    matrix = StoredTensor(shape, math.prod(shape), read)
    if bias is None or bias.problem or bias.shape != outputs[:1]:
        return matrix, bias
    return matrix, StoredTensor(shape[:1], shape[0], lambda: np.repeat(bias.read(), shape[0] // outputs[0]))
