# SPDX-License-Identifier: Apache-2.0
"""The golden model: what the engine computes, to the bit, at every layer boundary (`rtl.numbers`)."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from rtl.numbers import act_range, requantize

if TYPE_CHECKING:
    from host.quantize import QuantizedLayer, QuantizedNetwork

__all__ = ["forward", "layer_forward", "totals"]

EXACT = 1 << 53
"""Float64 holds every integer of at most this magnitude, so sums below it are exact in any order."""

BLOCK_WEIGHTS = 1 << 22
"""So many weights are taken at a time, since as integers they need eight times the memory of their codes."""


def forward(quantized: "QuantizedNetwork", acts: np.ndarray) -> list[np.ndarray]:
    """Output activations of every layer.

    Parameters
    ----------
    acts : int64 array, shape ``[n, inputs]``
        Input activations (`host.quantize.quantize_inputs`) in the range of the first layer's inputs.

    Returns
    -------
    list of int64 array, shape ``[n, rows]``
        One for each layer; the last holds the network's outputs.
    """
    outputs = []
    for layer in quantized.layers:
        acts = layer_forward(layer, acts, quantized.act_bits)
        outputs.append(acts)
    return outputs


def layer_forward(layer: "QuantizedLayer", acts: np.ndarray, act_bits: int) -> np.ndarray:
    """Output activations ``[n, rows]`` (int64) of one layer for input activations ``[n, cols]``."""
    low, high = act_range(act_bits, signed=layer.input_signed)
    if acts.size and (acts.min() < low or acts.max() > high):
        raise ValueError(f"input activations of layer '{layer.name}' must be {low} to {high}, not "
                         f"{acts.min()} to {acts.max()}")
    step = max(1, BLOCK_WEIGHTS // max(1, layer.cols))
    blocks = [slice(first, first + step) for first in range(0, layer.rows, step)]
    sums = torch.from_numpy(np.concatenate(
        [totals(layer.codebook[layer.codes[block]], layer.bias[block], acts) for block in blocks], axis=1))
    return requantize(sums, multiplier=layer.multiplier, pre_shift=layer.pre_shift, relu=layer.relu,
                      act_bits=act_bits, clamp=torch.clamp).numpy()


def totals(weights: np.ndarray, bias: np.ndarray, acts: np.ndarray) -> np.ndarray:
    """Accumulators plus biases, exact: int64 ``[n, rows]``.

    Parameters
    ----------
    weights : int64 array, shape ``[rows, cols]``
    bias : int64 array, shape ``[rows]``
    acts : int64 array, shape ``[n, cols]``
    """
    greatest = int(np.abs(acts).max(initial=0))
    if greatest * int(np.abs(weights).sum(axis=1).max(initial=0)) + int(np.abs(bias).max(initial=0)) >= EXACT:
        raise ValueError("sums must stay below 2**53")
    # Matrix products of float64 are fast and, below 2**53, exact; those of int64 are slow.
    products = torch.from_numpy(acts).double() @ torch.from_numpy(weights).double().T
    return (products.to(torch.int64) + torch.from_numpy(bias)).numpy()
