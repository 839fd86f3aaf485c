# SPDX-License-Identifier: Apache-2.0
"""Tensors of a TensorFlow Lite file: floats, or integers with scales, which are read as the floats they represent.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
section 2.1: ``float = scale * (integer - zero_point)``.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from host.importers.stored_tensor import StoredTensor, shape_problem

__all__ = ["LiteTensor", "read_tensor"]

DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8", 10: "float64"}
"""Values of tflite.TensorType that constants can have."""

AXES_LIMIT = 8

SMALL = 64
"""Greatest number of values of a tensor that is read as integers: a shape, or the sizes of a padding."""


@dataclass(frozen=True)
class LiteTensor:
    """A tensor as the file describes it.

    Attributes
    ----------
    name : str
    shape : tuple of int
    sizes : tuple of int or None
        The same with None for axes that are left open.
    dtype : str
        Number format; empty for one that constants cannot have.
    scales, zero_points : float64 and int64 array, shape ``[n]``
        One for all values, or one for each place along ``axis``; empty for floats.
    axis : int
    data : uint8 array or None
        Content of a constant.
    problem : str
        Why it cannot be read as a constant; empty if it can.
    """

    name: str
    shape: tuple[int, ...]
    sizes: tuple[int | None, ...]
    dtype: str
    scales: np.ndarray
    zero_points: np.ndarray
    axis: int
    data: np.ndarray | None
    problem: str

    @property
    def is_integer(self) -> bool:
        """Whether its values are integers that represent floats."""
        return self.dtype.startswith(("int", "uint")) and self.scales.size > 0

    def integers(self) -> list[int] | None:
        """The values of a small constant of integers; None if it is none."""
        if self.data is None or self.problem or self.dtype not in ("int32", "int64") or math.prod(self.shape) > SMALL:
            return None
        return [int(value) for value in self._values()]

    def stored(self) -> StoredTensor:
        """The constant as floats, which are read when they are needed."""
        count = math.prod(self.shape)
        problem = self.problem or ("is computed, not stored" if self.data is None else shape_problem(self.shape))
        if not problem and not self.dtype.startswith("float") and not self.scales.size:
            problem = f"has the number format {self.dtype} without a scale"
        return StoredTensor(self.shape, count, self._floats, problem)

    def _values(self) -> np.ndarray:
        assert self.data is not None
        return self.data.view(np.dtype(self.dtype).newbyteorder("<"))

    def _floats(self) -> np.ndarray:
        values = self._values().reshape(self.shape)
        if not self.scales.size:
            return values
        along = [1] * len(self.shape)
        if self.scales.size > 1:
            along[self.axis] = self.scales.size
        return (values - self.zero_points.reshape(along)) * self.scales.reshape(along)


def read_tensor(tensor: Any, buffers: Any) -> LiteTensor:
    """Describes a tensor; no more than its own bytes are taken.

    Parameters
    ----------
    tensor : tflite.Tensor
    buffers : tflite.Model
        The model, whose buffers hold the constants' bytes.
    """
    shape = _integers(tensor.ShapeAsNumpy(), tensor.ShapeLength(), AXES_LIMIT)
    signature = _integers(tensor.ShapeSignatureAsNumpy(), tensor.ShapeSignatureLength(), AXES_LIMIT)
    told = signature if len(signature) == len(shape) else shape
    sizes = tuple(size if size > 0 and own > 0 else None for size, own in zip(shape, told, strict=True))
    dtype = DTYPES.get(tensor.Type(), "")
    scales, zero_points, axis, problem = _quantization(tensor.Quantization(), shape)
    buffer = buffers.Buffers(tensor.Buffer()) if 0 < tensor.Buffer() < buffers.BuffersLength() else None
    data = buffer.DataAsNumpy() if buffer is not None and buffer.DataLength() else None
    if data is not None:
        if not dtype:
            problem = f"has the number format {tensor.Type()} of TensorFlow Lite, which is not known here"
        elif tensor.Sparsity() is not None:
            problem = "is stored as a sparse tensor; convert the model without sparsity"
        elif min(shape, default=1) < 1 or math.prod(shape) * np.dtype(dtype).itemsize != len(data):
            problem = f"claims the shape {list(shape)} of {dtype}, but the file holds {len(data):,} bytes for it"
    elif buffer is not None and buffer.Offset() > 1:
        problem = "lies behind the file's description, as in files of 2 GiB and more, which are not read"
        data = np.zeros(0, np.uint8)
    name = (tensor.Name() or b"").decode("utf-8", "replace")
    return LiteTensor(name, shape, sizes, dtype, scales, zero_points, axis, data, problem)


def _integers(values: Any, count: int, most: int) -> tuple[int, ...]:
    """A vector of the file; `flatbuffers` gives 0 for one that is absent. Raises `ValueError` if it is too long."""
    if count > most:
        raise ValueError(f"a shape of {count:,} axes")
    return tuple(int(value) for value in values) if count else ()


def _quantization(found: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, int, str]:
    """Scales, zero points and their axis; and a problem, empty if there is none."""
    none = np.zeros(0), np.zeros(0, np.int64), 0
    if found is None or not found.ScaleLength():
        return *none, ""
    count, axis = found.ScaleLength(), found.QuantizedDimension()
    if count > 1 and not (0 <= axis < len(shape) and shape[axis] == count):
        return *none, f"has {count:,} scales, which fit none of the axes {list(shape)}"
    scales = np.asarray(found.ScaleAsNumpy(), np.float64)
    points = np.asarray(found.ZeroPointAsNumpy(), np.int64) if found.ZeroPointLength() else np.zeros(1, np.int64)
    if not np.isfinite(scales).all() or (scales < 0).any() or len(points) not in (1, count):
        return *none, "has scales or zero points that are garbled"
    return scales, np.broadcast_to(points, count), axis, ""
