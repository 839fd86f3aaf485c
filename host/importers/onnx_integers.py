# SPDX-License-Identifier: Apache-2.0
"""Computes small integers in an ONNX graph from constants: exporters write the sizes of a padding that way."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["INT64", "VALUES_LIMIT", "compute_integers"]

VALUES_LIMIT = 64
"""Greatest number of values of each intermediate tensor, which limits the work that a hostile graph can cause."""

INT64 = 7
"""The number of the type in ONNX."""

Attributes = dict[str, Any]


def compute_integers(kind: str, attributes: Attributes, inputs: Sequence[np.ndarray]) -> np.ndarray | None:
    """The output of a node of the operation ``kind``.

    Parameters
    ----------
    kind : str
        Name of the ONNX operator.
    attributes : dict
        Attributes of the node, by name: integers, lists of integers, or arrays.
    inputs : sequence of int64 array
        All of the node's inputs.

    Returns
    -------
    int64 array or None
        None for another operation, inputs that do not fit it, or more than `VALUES_LIMIT` values.
    """
    operation = _OPERATIONS.get(kind)
    if operation is None or any(values.size > VALUES_LIMIT for values in inputs):
        return None
    try:
        found = operation(attributes, *inputs)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found is not None and found.size <= VALUES_LIMIT and found.dtype == np.int64 else None


def _constant_of_shape(attributes: Attributes, shape: np.ndarray) -> np.ndarray | None:
    value = np.asarray(attributes.get("value", 0))
    if (shape < 0).any() or math.prod(shape.tolist()) > VALUES_LIMIT or value.size != 1:
        return None
    return np.full(shape.tolist(), value.item())


def _slice(attributes: Attributes, values: np.ndarray, starts: np.ndarray, ends: np.ndarray,
           axes: np.ndarray | None = None, steps: np.ndarray | None = None) -> np.ndarray:
    chosen = [slice(None)] * values.ndim
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        step = 1 if steps is None else int(steps[number])
        # ONNX counts an end before the first value as -1 - size or less; Python's slice wants None there.
        stop = None if step < 0 and end < -values.shape[number if axes is None else int(axes[number])] else end
        chosen[number if axes is None else int(axes[number])] = slice(start, stop, step)
    return values[tuple(chosen)]


_OPERATIONS: dict[str, Callable[..., np.ndarray | None]] = {
    "Cast": lambda attributes, values: values if attributes.get("to") == INT64 else None,
    "Concat": lambda attributes, *values: np.concatenate(values, axis=attributes["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Reshape": lambda attributes, values, shape: values.reshape(shape.tolist()),
    "Slice": _slice,
    "Transpose": lambda attributes, values: values.transpose(attributes.get("perm")),
}
