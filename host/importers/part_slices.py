# SPDX-License-Identifier: Apache-2.0
"""Parts of a layer's weights: for some of its inputs, for some of its outputs, or among the outputs of several layers.

Nothing is read before the result is.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from host.importers.source_layers import AffinePart, ConvPart, LinearPart, NormPart
from host.importers.stored_tensor import StoredTensor

__all__ = ["among_rows", "for_channels", "for_inputs", "for_rows", "selection", "stacked"]


def for_inputs(part: LinearPart | ConvPart, first: int, count: int) -> LinearPart | ConvPart:
    """The weights of ``part`` for ``count`` of its inputs, or input channels, from ``first`` on; without a bias."""
    shape = (part.weight.shape[0], count, *part.weight.shape[2:])
    weight = _derived(part.weight, shape, lambda values: values[:, first:first + count])
    return replace(part, weight=weight, bias=None)


def for_rows(part: ConvPart, first: int, count: int, groups: int) -> ConvPart:
    """``count`` rows of the convolution ``part`` from ``first`` on, with their biases, in ``groups`` groups."""
    return replace(part, weight=_first_axis(part.weight, first, count), groups=groups,
                   bias=part.bias and _first_axis(part.bias, first, count))


def for_channels(part: NormPart | AffinePart, first: int, count: int, whole: int) -> NormPart | AffinePart:
    """The norm or constant ``part`` for ``count`` channels, from ``first`` on, of ``whole``."""
    if isinstance(part, NormPart):
        return replace(part, mean=_first_axis(part.mean, first, count),
                       variance=_first_axis(part.variance, first, count),
                       scale=part.scale and _first_axis(part.scale, first, count),
                       shift=part.shift and _first_axis(part.shift, first, count))
    constant = part.constant
    axes = [axis for axis, size in enumerate(constant.shape) if size == whole]
    if constant.problem or constant.values == 1 or not axes:
        return part
    axis = axes[0]
    shape = (*constant.shape[:axis], count, *constant.shape[axis + 1:])
    return replace(part, constant=_derived(constant, shape,
                                           lambda values: values.take(range(first, first + count), axis=axis)))


def among_rows(part: LinearPart, first: int, total: int) -> LinearPart:
    """A linear layer of ``total`` outputs: those of ``part`` from ``first`` on, and zeros."""
    def spread(values: np.ndarray) -> np.ndarray:
        found = np.zeros((total, *values.shape[1:]), np.float32)
        found[first:first + len(values)] = values
        return found
    return replace(part, weight=_derived(part.weight, (total, *part.weight.shape[1:]), spread),
                   bias=part.bias and _derived(part.bias, (total,), spread))


def stacked(name: str, parts: Sequence[LinearPart]) -> LinearPart:
    """One linear layer with the outputs of all ``parts``, which take the same inputs, one behind the other."""
    rows = sum(part.weight.shape[0] for part in parts)

    def bias() -> np.ndarray:
        return np.concatenate([np.zeros(part.weight.shape[0], np.float32) if part.bias is None else part.bias.read()
                               for part in parts])
    biases = [part.bias for part in parts if part.bias]
    return LinearPart(
        name, StoredTensor((rows, parts[0].weight.shape[1]), sum(part.weight.values for part in parts),
                           lambda: np.concatenate([part.weight.read() for part in parts])),
        StoredTensor((rows,), sum(one.values for one in biases), bias) if biases else None)


def selection(name: str, first: int, count: int, total: int, *, image: bool) -> LinearPart | ConvPart:
    """A layer that gives its ``count`` inputs as outputs from ``first`` on, and zeros, ``total`` together.

    Of feature maps (``image``) these are channels.
    """
    shape = (total, count, *((1, 1) if image else ()))
    weight = StoredTensor(shape, 0, lambda: np.eye(total, count, -first, np.float32).reshape(shape))
    return ConvPart(name, weight, None) if image else LinearPart(name, weight, None)


def _first_axis(tensor: StoredTensor, first: int, count: int) -> StoredTensor:
    return _derived(tensor, (count, *tensor.shape[1:]), lambda values: values[first:first + count])


def _derived(tensor: StoredTensor, shape, of):  # type: ignore[no-untyped-def]
    """What the function ``of`` makes of the tensor's values: a tensor of the shape ``shape``."""
    return StoredTensor(shape, tensor.values, lambda: of(tensor.read()), tensor.problem)
