# SPDX-License-Identifier: Apache-2.0
"""Tensors of a model file that have been described but not yet read.

A file may claim any shape in a few bytes. So a tensor is first described, its claims are checked
against the contents of the file, and only then is it read into memory.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from host.network.layers import VALUES_LIMIT

COMPUTED = ("is computed in a way that is not known here; before the export, store it: "
            "torch.nn.utils.prune.remove(layer, 'weight'), torch.nn.utils.parametrize.remove_parametrizations(layer, "
            "'weight'), or what made it")
"""Problem of a weight that is not a tensor of the file."""

SIZE_LIMIT = 1 << 20
"""Greatest length of one axis."""


FLOAT_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
"""The number formats that can be weights, and their sizes in bytes."""


class TensorError(ValueError):
    """A tensor cannot be read; the message continues "weight ...", for instance "is sparse"."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the file.

    Attributes
    ----------
    shape : tuple of int
        Shape that the file claims.
    values : int
        Number of values that are read from the file for it: the size of its whole storage.
    load : callable
        Reads the tensor as it is stored: an array of any of `FLOAT_BYTES`, float32 for bfloat16.
    problem : str
        Why it cannot be read; the empty string if it can.
    """

    shape: tuple[int, ...]
    values: int = 0
    load: Callable[[], np.ndarray] | None = None
    problem: str = ""

    def read(self) -> np.ndarray:
        """The values: a new, writable float32 array of the shape ``shape``.

        Raises
        ------
        TensorError
            If the tensor is of an unsupported kind, or has values that are not finite as float32.
        """
        if self.problem or self.load is None:
            raise TensorError(self.problem)
        return finite(self.load())


def finite(values: np.ndarray) -> np.ndarray:
    """A float32 copy of ``values``.

    Raises
    ------
    TensorError
        If one is NaN, infinite, or beyond the range of float32.
    """
    with np.errstate(over="ignore"):
        copy = np.array(values, dtype=np.float32, order="C")
    if not (good := np.isfinite(copy)).all():
        nans = int(np.isnan(copy).sum())
        infinite = good.size - int(good.sum()) - nans
        raise TensorError(f"has {nans} NaN and {infinite} infinite values among {copy.size} "
                          "(in float32); the training went wrong, or the file is damaged")
    return copy


def shape_problem(shape: tuple[int, ...]) -> str:
    """Why a tensor cannot have the shape ``shape``; the empty string if it can."""
    if not all(1 <= size <= SIZE_LIMIT for size in shape):
        return f"has an axis whose length is not between 1 and {SIZE_LIMIT:,}"
    if math.prod(shape) > VALUES_LIMIT:
        return f"has more than {VALUES_LIMIT:,} values"
    return ""


def dtype_problem(dtype: str) -> str:
    """Why a weight cannot have the number format ``dtype``, such as "int64"; the empty string if it can."""
    if dtype in FLOAT_BYTES:
        return ""
    return (f"has the number format {dtype}; save it as float32, by model.float() (the compiler quantises by itself), "
            f"supported are {', '.join(FLOAT_BYTES)}")


def view_problem(stored: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> str:
    """Why a storage is too small for a view of it; the empty string if it suffices.

    Parameters
    ----------
    stored : int
        Values in the storage.
    offset : int
        Place of the view's first value.
    shape, strides : tuple of int
        Shape and strides of the view, in values.
    """
    if len(shape) != len(strides):
        return "is described in a garbled way"
    # Torch has no negative strides, so the last value of the view lies furthest into the storage.
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if last >= stored or math.prod(shape) > stored:
        return f"claims {math.prod(shape):,} values, but the file holds only {stored:,} for it"
    return ""


def decode(data: bytes, dtype: str) -> np.ndarray:
    """The values in little-endian ``data``. ``dtype`` is one of `FLOAT_BYTES`.

    bfloat16, the upper half of a float32, is widened to it; the others keep their format.
    """
    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, f"<f{FLOAT_BYTES[dtype]}")


def weight_normed(direction: StoredTensor, size: StoredTensor) -> StoredTensor:
    """``size * direction / norm of each of its rows``: how torch.nn.utils.weight_norm stores a weight."""
    problem = direction.problem or size.problem
    rows = direction.shape[:1]
    if not problem and (not rows or size.shape != (*rows, *[1] * (len(direction.shape) - 1))):
        problem = "and its lengths have shapes that do not fit; call torch.nn.utils.remove_weight_norm before saving"

    def load() -> np.ndarray:
        values = direction.read().astype(np.float64)
        norms = np.sqrt((values.reshape(len(values), -1) ** 2).sum(axis=1)).reshape(size.shape)
        with np.errstate(all="ignore"):
            return values * (size.read() / norms)
    return StoredTensor(direction.shape, direction.values + size.values, load, problem)


def masked(weight: StoredTensor, mask: StoredTensor) -> StoredTensor:
    """``weight * mask``: how torch.nn.utils.prune stores a pruned tensor."""
    problem = weight.problem or mask.problem
    if not problem and weight.shape != mask.shape:
        problem = "and its pruning mask have different shapes"

    def load() -> np.ndarray:
        with np.errstate(over="ignore"):
            return weight.read() * mask.read()
    return StoredTensor(weight.shape, weight.values + mask.values, load, problem)


def reshaped(tensor: StoredTensor, shape: tuple[int, ...]) -> StoredTensor:
    """The values of ``tensor`` with other axes, ``shape``; with a problem if it has another number of values."""
    problem = tensor.problem
    if not problem and math.prod(tensor.shape) != math.prod(shape):
        problem = f"is reshaped from {list(tensor.shape)} to {list(shape)}"
    return StoredTensor(shape, tensor.values, lambda: tensor.read().reshape(shape), problem)


def transposed(tensor: StoredTensor) -> StoredTensor:
    """The matrix ``tensor`` with its axes swapped; a tensor with a problem if it is no matrix."""
    if tensor.problem or len(tensor.shape) != 2:
        return StoredTensor(tensor.shape, problem=tensor.problem or "is transposed, but not a matrix")
    return StoredTensor(tensor.shape[::-1], tensor.values, lambda: tensor.read().T)


def number_of(value: float) -> StoredTensor:
    """The ``value`` as a tensor without axes."""
    return StoredTensor((), 1, lambda: np.asarray(value))
