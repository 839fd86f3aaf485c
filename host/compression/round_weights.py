# SPDX-License-Identifier: Apache-2.0
"""Rounds the weights of a layer one column after the other; columns that follow make good the error of those before.

A layer's sums change by ``d @ x`` if its weights change by ``d``. Inputs ``x`` are alike in part, so an error that one
column makes can be taken back by columns that are not rounded yet. How much each takes back follows from the covariance
of the inputs. What the mean input still changes is taken off the bias.

After E. Frantar et al., "GPTQ", ICLR 2023, section 3 and algorithm 1, with columns in the order of their variance.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from host.datasets import as_inputs
from host.network.layers import Linear, Network
from host.network.pad_images import pad_images
from host.training.forward import layer_outputs, layer_sums, tensors

__all__ = ["Moments", "input_moments", "round_weights"]

VALUES = 1 << 24
"""Values that the examples have for the largest layer, at most, unless these are only 2 examples."""

LARGEST = 4608
"""Columns of a layer, and of a convolution's group, up to which this is done: time rises with their third power."""

BLOCK = 128
"""Columns after which the others are brought up to date, all at once: that is faster."""

DAMPING = 0.001
"""Share of the mean variance that is added to each: a column is not to take back more than the examples prove."""


class Moments(NamedTuple):
    """What the inputs of a layer's rows are like.

    Attributes
    ----------
    mean : float64 array, shape ``[groups, cols]``
        Of a convolution over all places of its kernel, padding included.
    covariance : float64 array, shape ``[groups, cols, cols]``
    """

    mean: np.ndarray
    covariance: np.ndarray


@torch.no_grad()
def input_moments(network: Network, images: np.ndarray) -> list[Moments | None]:
    """The moments of the inputs of each layer; None for constant weights, for more than `LARGEST` columns, and where
    floats overflow.

    Parameters
    ----------
    network : Network
    images : uint8 or float array, shape ``[n, ...]``
        Examples of its inputs.
    """
    largest = max(layer.cols * (math.prod(layer.geometry.conv_shape) if layer.geometry else 1)
                  for layer in network.layers)
    count = min(len(images), max(2, VALUES // largest))
    chosen = images[np.linspace(0, len(images) - 1, count).astype(np.int64)]
    values = [torch.from_numpy(as_inputs(chosen))]
    found: list[Moments | None] = []
    for layer, torch_layer in zip(network.layers, tensors(network), strict=True):
        given = values[torch_layer.source + 1]
        moments = None if layer.fixed or layer.cols > LARGEST else _moments(layer, given)
        found.append(moments if moments and np.isfinite(moments.covariance).all() else None)
        values.append(layer_outputs(torch_layer, layer_sums(torch_layer, values)))
    return found


def _moments(layer: Linear, given: torch.Tensor) -> Moments:
    """Of the values ``given`` ``[n, inputs]`` to ``layer``."""
    geometry = layer.geometry
    if geometry is None:
        met = given[np.newaxis]
    else:
        planes, padding = pad_images(given.view(len(given), *geometry.in_shape), geometry)
        places = functional.unfold(planes, geometry.kernel, padding=padding, stride=geometry.stride)
        met = places.view(len(given), geometry.groups, layer.cols, -1).permute(1, 0, 3, 2).flatten(1, 2)
    met = met.double()
    mean = met.mean(1)
    centred = met - mean[:, np.newaxis]
    return Moments(mean.numpy(), (centred.transpose(1, 2) @ centred / met.shape[1]).numpy())


def round_weights(weight: np.ndarray, moments: Moments,
                  nearest: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rounded weights, and what their rounding adds to the rows' mean sums, to be taken off the biases.

    Parameters
    ----------
    weight : float array, shape ``[rows, cols]``
        A zero stays one.
    moments : Moments
        Those of the layer's inputs.
    nearest : callable
        Maps weights, float64 ``[n]``, to the representable ones next to them.

    Returns
    -------
    rounded : float64 array, shape ``[rows, cols]``
    shift : float64 array, shape ``[rows]``
    """
    groups = np.split(weight.astype(np.float64), len(moments.mean))
    rounded = [_round_group(part, covariance, nearest)
               for part, covariance in zip(groups, moments.covariance, strict=True)]
    shifts = [(new - old) @ mean for new, old, mean in zip(rounded, groups, moments.mean, strict=True)]
    return np.concatenate(rounded), np.concatenate(shifts)


def _round_group(weight: np.ndarray, covariance: np.ndarray,
                 nearest: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    variance = np.diag(covariance)
    damping = DAMPING * float(variance.mean()) or 1.0
    order = np.argsort(-variance, kind="stable")
    damped = covariance[np.ix_(order, order)] + damping * np.eye(len(order))
    # Row i: how the columns behind i take back an error of i, once those before it are rounded.
    shares = np.linalg.cholesky(np.linalg.inv(damped)).T
    left = weight[:, order]
    kept = left != 0
    # What a pruned weight should take back, it hands on, since it is rounded to 0.
    rounded, errors = np.zeros_like(left), np.zeros_like(left)
    for begin in range(0, len(order), BLOCK):
        block = slice(begin, begin + BLOCK)
        for column in range(begin, min(begin + BLOCK, len(order))):
            rounded[:, column] = np.where(kept[:, column], nearest(left[:, column]), 0)
            errors[:, column] = (left[:, column] - rounded[:, column]) / shares[column, column]
            near = slice(column, begin + BLOCK)
            left[:, near] -= np.outer(errors[:, column], shares[column, near])
        left[:, begin + BLOCK:] -= errors[:, block] @ shares[block, begin + BLOCK:]
    back = np.empty_like(rounded)
    back[:, order] = rounded
    return back
