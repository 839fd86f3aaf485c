# SPDX-License-Identifier: Apache-2.0
"""Folds arithmetic on a model's inputs before its first layer, such as ``(x - mean) / std``, into that layer."""

import math
from dataclasses import replace

import numpy as np

from host.importers.source_layers import AffinePart, shown
from host.importers.stored_tensor import TensorError, finite
from host.network.graph import input_readers
from host.network.layers import Linear, Network
from nonzero.errors import UserError

__all__ = ["Affine", "fold_inputs", "fold_normalization"]


class Affine:
    """``x / divisor + shift`` of the inputs ``x``; both are float64, one for each value of an input of ``shape``."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.divisor, self.shift = np.ones(math.prod(shape)), np.zeros(math.prod(shape))

    def then(self, part: AffinePart) -> None:
        """Applies the operation ``part``, after those before it.

        Raises `TensorError` if its constant cannot be read, or divides by 0.
        """
        constant = np.broadcast_to(part.constant.read().astype(np.float64), (1, *self.shape)).reshape(-1)
        with np.errstate(all="ignore"):  # what is not finite shows in the weights
            if part.operation == "div" and constant.all():
                self.divisor, self.shift = self.divisor * constant, self.shift / constant
            else:
                scale, self.shift = after(part.operation, constant, np.ones(len(constant)), self.shift)
                self.divisor = self.divisor / scale


def after(operation: str, constant: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of ``scale * x + shift``, and an operation with a constant behind it.

    Parameters
    ----------
    operation : str
        "add", "sub", "mul", "div", or "rsub", the constant minus the value.
    constant, scale, shift : float64 array, shape ``[n]``

    Raises
    ------
    TensorError
        For a division by 0.
    """
    if operation == "div":
        if not constant.all():
            raise TensorError("divides by 0")
        return scale / constant, shift / constant
    if operation == "mul":
        return scale * constant, shift * constant
    if operation == "rsub":
        return -scale, constant - shift
    return scale, shift + (constant if operation == "add" else -constant)


def fold_inputs(layer: Linear, divisor: np.ndarray | np.float64, shift: np.ndarray | np.float64, said: str) -> Linear:
    """The layer that computes from ``x`` what ``layer``, the first, computes from ``x / divisor + shift``.

    Computed in float64 and rounded to float32 once. Pruned weights stay zero.

    Parameters
    ----------
    divisor, shift : float, or float64 array of one value for each input
    said : str
        Name of the folded operation, for messages: "the mean 0.5".

    Raises
    ------
    UserError
        If a folded weight is not finite as float32, the layer pads its input and the shift is not 0, or a convolution's
        input is scaled or shifted differently within a channel.
    """
    geometry, name = layer.geometry, shown(layer.name)
    if geometry and geometry.padded and np.any(shift):
        raise UserError(f"layer {name} pads its input with zeros, which are no zeros of the data once {said} is folded "
                        "in; leave that out, and give the data (--data, --calib) as the layer takes it: files of "
                        "floats, which may be negative")
    if layer.fixed and not (np.all(divisor == 1) and not np.any(shift)):
        raise UserError(f"layer {name} has constant weights, as a pooling or an upsampling, and {said} cannot be "
                        "folded into it; scale behind it, or give the data as it takes them")
    by_column = np.ndim(shift) > 0
    if by_column and geometry:
        divisor, shift = (_by_column(layer, values, said) for values in (divisor, shift))
    try:
        with np.errstate(all="ignore"):
            weight = finite(layer.weight / divisor)
            bias = finite(layer.bias + ((layer.weight * shift).sum(axis=1) if by_column else
                                        layer.weight.sum(axis=1, dtype=np.float64) * shift))
    except TensorError as error:
        raise UserError(f"layer {name}: with {said} folded in, it {error}") from None
    return replace(layer, weight=weight, bias=bias)


def _by_column(layer: Linear, values: np.ndarray | np.float64, said: str) -> np.ndarray:
    """Value of the channel that each weight of a convolution meets, ``[rows, cols]``."""
    geometry = layer.geometry
    assert geometry is not None
    pixels = np.asarray(values).reshape(geometry.in_shape[0], -1)
    if (pixels != pixels[:, :1]).any():
        raise UserError(f"layer {shown(layer.name)} is a convolution, and {said} differs within a channel, so that it "
                        "cannot be folded in; use one value for each channel")
    taps, groups = math.prod(geometry.kernel), geometry.groups
    by_group = np.repeat(pixels[:, 0].reshape(groups, -1), taps, axis=1)
    return np.repeat(by_group, layer.rows // groups, axis=0)


def fold_normalization(network: Network, mean: float, std: float) -> Network:
    """The network that computes from ``x`` what ``network`` computes from ``(x - mean) / std``.

    Raises
    ------
    UserError
        If ``std`` is not positive, either is not finite, several layers take the input, or `fold_inputs` refuses.
    """
    check_normalize(mean, std)
    if input_readers(network.layers) > 1:
        raise UserError("its input goes to several layers, and a normalisation is folded into one; leave out "
                        "--normalize, and give the data as the network takes it")
    first = fold_inputs(network.layers[0], np.float64(std), -(np.float64(mean) / std),
                        f"the mean {mean} and the std {std}")
    return replace(network, layers=(first, *network.layers[1:]))


def check_normalize(mean: float, std: float) -> None:
    """Raises `UserError` for a ``mean`` or ``std`` that is not finite, or a ``std`` that is not above 0."""
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise UserError(f"the normalisation needs a finite mean and a positive std, not {mean} and {std}")
