# SPDX-License-Identifier: Apache-2.0
"""Pruning for cycles: which inputs and hidden neurons are worth the broadcasts that they cost.

The engine sends every activation that is not zero and has weights to all PEs, one in a cycle, however few those are.
"""

from dataclasses import replace

import numpy as np
import torch

from host.datasets import as_inputs
from host.network.dead_neurons import silence_dead_neurons
from host.network.graph import is_chain
from host.network.layers import Linear, Network
from host.training.forward import layer_outputs, layer_sums, tensors
from nonzero.errors import UserError

__all__ = ["activity", "keep_worthy"]

IMAGES = 10_000
"""More images than these hardly change how often a neuron is active."""

BATCH = 1000

RARE = 1e-3
"""Broadcasts for an image, added to those of every input and neuron: a small cost, to avoid division by zero."""


@torch.no_grad()
def activity(network: Network, images: np.ndarray) -> list[np.ndarray]:
    """Share of the images in which each input of each layer is not zero: float64 ``[inputs]`` for each layer.

    Parameters
    ----------
    network : Network
    images : array, shape ``[n, ...]``
        Those after the first `IMAGES` are left out.
    """
    images = images[:IMAGES]
    counts = [np.zeros(layer.inputs) for layer in network.layers]
    for start in range(0, len(images), BATCH):
        values = [torch.from_numpy(as_inputs(images[start:start + BATCH]))]
        for count, layer in zip(counts, tensors(network), strict=True):
            count += (values[layer.source + 1] != 0).sum(0).numpy()
            values.append(layer_outputs(layer, layer_sums(layer, values)))
    return [count / len(images) for count in counts]


def keep_worthy(network: Network, saliency: list[np.ndarray], often: list[np.ndarray], final: float,
                rounds: int) -> Network:
    """Zeroes every connection of the inputs and hidden neurons that are worth least for their broadcasts; shapes stay.

    The worth of an input is the sum of the saliencies of its outgoing weights, that of a neuron the sum over its
    incoming weights. A channel of a convolution counts as one neuron; it is broadcast once for each of its pixels that
    is not zero.

    Parameters
    ----------
    network : Network
        The network before the cut.
    saliency : list of array, shape ``[rows, cols]``
        Saliency of each layer's weights.
    often : list of array
        `activity` of the network.
    final : float
        Broadcasts for a mean image that are left after the last round.
    rounds : int
        Number of rounds to come, this one included; they reduce the broadcasts in equal ratios.

    Raises
    ------
    UserError
        For a network with branches.
    """
    if not is_chain(network.layers):
        raise UserError("broadcasts are pruned in chains of layers, and this network has branches; use a recipe "
                        "without 'broadcasts'")
    first = network.layers[0]
    worth = [_by_input(first, saliency[0]), *(values.sum(axis=1) for values in saliency[:-1])]
    cost = np.concatenate([times.reshape(len(one), -1).sum(axis=1) for one, times in zip(worth, often, strict=True)])
    whole = np.concatenate(worth)
    now = cost[whole > 0].sum()
    most = final * max(now / final, 1) ** (1 - 1 / rounds)
    order = np.argsort(-whole / (cost + RARE), kind="stable")
    gone = np.zeros(len(whole), bool)
    gone[order[np.cumsum(cost[order]) > most]] = True
    inputs, *rows = np.split(gone, np.cumsum([len(one) for one in worth])[:-1])
    layers = [replace(layer, weight=layer.weight.copy(), bias=layer.bias.copy()) for layer in network.layers]
    _columns(layers[0]).swapaxes(1, 2)[inputs.reshape(_columns(first).shape[0], -1)] = 0
    for layer, dead in zip(layers, rows, strict=False):
        layer.weight[dead], layer.bias[dead] = 0, 0
    return silence_dead_neurons(replace(network, layers=tuple(layers)))


def _columns(layer: Linear, values: np.ndarray | None = None) -> np.ndarray:
    """A layer's weights, or values like them, as a view ``[groups, rows / groups, inputs / groups, taps]``."""
    groups, channels = (layer.geometry.groups, layer.geometry.in_shape[0]) if layer.geometry else (1, layer.cols)
    values = layer.weight if values is None else values
    return values.reshape(groups, layer.rows // groups, channels // groups, -1)


def _by_input(layer: Linear, saliency: np.ndarray) -> np.ndarray:
    return _columns(layer, saliency).sum(axis=(1, 3)).ravel()
