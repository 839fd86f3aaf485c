# SPDX-License-Identifier: Apache-2.0
"""The golden model: what the engine computes, to the bit, at every layer boundary (`rtl.numbers`)."""

import math
from dataclasses import replace

import numpy as np
import torch

from host.network.graph import sources
from host.network.layers import Geometry
from host.network.pad_images import pad_images
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from nonzero.progress import progress
from rtl.numbers import act_range, requantize

__all__ = ["convolve", "forward", "layer_forward", "max_pooled", "totals", "unpooled"]

EXACT = 1 << 53
"""Float64 holds every integer of at most this magnitude, so sums below it are exact in any order."""

BLOCK_WEIGHTS = 1 << 22
"""Weights that are taken at a time: as int64 they need eight times the memory of their codes."""

BLOCK_PRODUCTS = 1 << 24
"""Values of the inputs, a copy for each tap, that a convolution takes at a time: this bounds its images."""


def forward(quantized: QuantizedNetwork, acts: np.ndarray) -> list[np.ndarray]:
    """Output activations of every layer.

    Parameters
    ----------
    quantized : QuantizedNetwork
    acts : int64 array, shape ``[n, inputs]``
        Input activations (`host.quantization.integer_network.quantize_inputs`), in the range of the first layer's
        inputs.

    Returns
    -------
    list of int64 array, shape ``[n, outputs]``
        One for each layer; the last holds the network's outputs. Those of a convolution are in torch's order:
        channel, row, column.
    """
    values = [acts]
    wires = sources(quantized.layers)
    for layer, (source, added) in zip(progress("golden model", quantized.layers, "layer"), wires, strict=True):
        values.append(layer_forward(layer, values[source + 1], quantized.act_bits,
                                    None if added is None else values[added + 1]))
    return values[1:]


def layer_forward(layer: QuantizedLayer, acts: np.ndarray, act_bits: int,
                  added: np.ndarray | None = None) -> np.ndarray:
    """Output activations ``[n, outputs]`` (int64) of one layer.

    Parameters
    ----------
    layer : QuantizedLayer
    acts : int64 array, shape ``[n, inputs]``
        Input activations.
    act_bits : int
        Width of an activation.
    added : int64 array, optional
        Activations that are added to the sums, times the layer's ``added_weight``: as many as it has before pooling.

    Raises
    ------
    ValueError
        For an input activation out of range, or sums of 2**53 or more.
    """
    low, high = act_range(act_bits, signed=layer.input_signed)
    if acts.size and (acts.min() < low or acts.max() > high):
        raise ValueError(f"input activations of layer '{layer.name}' must be {low} to {high}, not "
                         f"{acts.min()} to {acts.max()}")
    more = None if added is None else added * layer.added_weight
    pooled = layer.geometry is not None and layer.table is not None and layer.geometry.pool > 1
    if layer.geometry is not None:
        sums = totals(layer.weights, layer.bias, acts, unpooled(layer.geometry) if pooled else layer.geometry, more)
    else:
        step = max(1, BLOCK_WEIGHTS // max(1, layer.cols))
        blocks = [slice(first, first + step) for first in range(0, layer.rows, step)]
        sums = np.concatenate(
            [totals(layer.codebook[layer.codes[block]], layer.bias[block], acts) for block in blocks], axis=1)
        sums = sums if more is None else sums + more
    constants = {"multiplier": layer.multiplier, "pre_shift": layer.pre_shift, "act_bits": act_bits}
    found: np.ndarray = requantize(torch.from_numpy(sums), **constants, clamp=torch.clamp,
                                   signed=layer.activation.signed or layer.table is not None).numpy()
    if layer.table is not None:
        found = layer.table[found & (len(layer.table) - 1)]
    return max_pooled(found, layer.geometry) if pooled and layer.geometry is not None else found


def unpooled(geometry: Geometry) -> Geometry:
    """The convolution ``geometry`` without the max pooling behind it."""
    return replace(geometry, pool=1, pool_stride=1)


def max_pooled(values: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The greatest value of each window of the max pooling behind a convolution: ``[n, outputs]``.

    Parameters
    ----------
    values : array, shape ``[n, outputs without pooling]``
        Integers below 2**53, or floats.
    geometry : Geometry
    """
    planes = torch.from_numpy(values).double().reshape(len(values), -1, *geometry.conv_shape)
    pooled = torch.nn.functional.max_pool2d(planes, geometry.pool, geometry.pool_stride)
    found: np.ndarray = pooled.flatten(1).numpy().astype(values.dtype)
    return found


def totals(weights: np.ndarray, bias: np.ndarray, acts: np.ndarray, geometry: Geometry | None = None,
           added: np.ndarray | None = None) -> np.ndarray:
    """Accumulators plus biases, exact: int64 ``[n, outputs]``.

    A convolution with max pooling gives the greatest sum of each window: pooling may come before requantisation,
    because requantisation keeps the order of sums.

    Parameters
    ----------
    weights : int64 array, shape ``[rows, cols]``
    bias : int64 array, shape ``[rows]``
    acts : int64 array, shape ``[n, inputs]``
    geometry : Geometry, optional
        Geometry of a convolution.
    added : int64 array, optional
        What is added to the sums before pooling, ``[n, sums before pooling]``.

    Raises
    ------
    ValueError
        If sums may reach 2**53, beyond which float64 is not exact.
    """
    greatest = int(np.abs(acts).max(initial=0))
    more = 0 if added is None else int(np.abs(added).max(initial=0))
    if more + greatest * int(np.abs(weights).sum(axis=1).max(initial=0)) + int(np.abs(bias).max(initial=0)) >= EXACT:
        raise ValueError("sums must stay below 2**53")
    # Sums of products of float64 are fast and, below 2**53, exact; those of int64 are slow.
    if geometry is not None:
        return convolve(weights, bias, acts, geometry, added).astype(np.int64)
    products = torch.from_numpy(acts).double() @ torch.from_numpy(weights).double().T
    found: np.ndarray = (products.to(torch.int64) + torch.from_numpy(bias)).numpy()
    return found if added is None else found + added


def convolve(weights: np.ndarray, bias: np.ndarray, acts: np.ndarray, geometry: Geometry,
             added: np.ndarray | None = None) -> np.ndarray:
    """Convolution, bias and max pooling in float64: ``[n, outputs]``; exact for integers below 2**53.

    Parameters
    ----------
    weights : int64 array, shape ``[rows, cols]``
    bias : int64 array, shape ``[rows]``
    acts : int64 array, shape ``[n, inputs]``
    geometry : Geometry
    added : array, shape ``[n, sums before pooling]``, optional
        What is added to the sums before pooling.
    """
    channels, height, width = geometry.in_shape
    kernels = torch.from_numpy(weights).double().reshape(len(weights), channels // geometry.groups, *geometry.kernel)
    copied = channels * math.prod(geometry.kernel) * math.prod(geometry.conv_shape)
    step = max(1, BLOCK_PRODUCTS // copied)
    found = np.empty((len(acts), len(weights) * math.prod(geometry.out_shape)))
    for first in range(0, len(acts), step):
        images, padding = pad_images(
            torch.from_numpy(acts[first:first + step]).double().reshape(-1, channels, height, width), geometry)
        sums = torch.nn.functional.conv2d(images, kernels, torch.from_numpy(bias).double(), geometry.stride,
                                          padding, groups=geometry.groups)
        if added is not None:
            sums += torch.from_numpy(added[first:first + step]).reshape(sums.shape)
        if geometry.pool > 1:
            sums = torch.nn.functional.max_pool2d(sums, geometry.pool, geometry.pool_stride)
        found[first:first + step] = sums.flatten(1).numpy()
    return found
