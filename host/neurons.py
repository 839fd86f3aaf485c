# SPDX-License-Identifier: Apache-2.0
"""Neurons that pruning has cut off: their other connections go, and then they themselves.

S. Han et al., "Learning both Weights and Connections", NIPS 2015, section 3.5, "pruning neurons".
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from host.graph import Network

__all__ = ["drop_dead_neurons", "silence_dead_neurons"]


def silence_dead_neurons(network: Network) -> Network:
    """Zeroes every connection of a neuron without inputs or without outputs.

    A neuron without inputs has a constant output; it moves into the biases of the next layer, so the
    network computes the same function. Shapes stay.
    """
    layers = [replace(layer, weight=layer.weight.copy(), bias=layer.bias.copy()) for layer in network.layers]
    changed = True
    while changed:
        changed = False
        for layer, following in pairwise(layers):
            silent = ~layer.weight.any(axis=1) & ((layer.bias != 0) | following.weight.any(axis=0))
            constant = np.where(silent, np.maximum(layer.bias, 0) if layer.relu else layer.bias, 0)
            following.bias[:] += following.weight @ constant.astype(np.float32)
            unheard = ~following.weight.any(axis=0) & (layer.weight.any(axis=1) | (layer.bias != 0))
            following.weight[:, silent] = 0
            layer.weight[unheard] = 0
            layer.bias[silent | unheard] = 0
            changed |= bool(silent.any() or unheard.any())
    return replace(network, layers=tuple(layers))


def drop_dead_neurons(network: Network) -> Network:
    """Takes the hidden neurons without inputs or outputs out of the matrices; the function stays.

    Inputs and outputs of the network stay, and of each layer at least one neuron.
    """
    layers = list(silence_dead_neurons(network).layers)
    for number, following in enumerate(layers[1:]):
        layer = layers[number]
        alive = np.flatnonzero(layer.weight.any(axis=1))
        alive = alive if alive.size else np.array([0])
        layers[number] = replace(layer, weight=layer.weight[alive], bias=layer.bias[alive])
        layers[number + 1] = replace(following, weight=following.weight[:, alive])
    return replace(network, layers=tuple(layers))
