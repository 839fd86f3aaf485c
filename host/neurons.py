# SPDX-License-Identifier: Apache-2.0
"""Neurons that pruning has cut off: their other connections go, and then they themselves.

S. Han et al., "Learning both Weights and Connections", NIPS 2015, section 3.5, "pruning neurons". A channel of a
convolution counts as one neuron.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from host.graph import Linear, Network

__all__ = ["drop_dead_neurons", "silence_dead_neurons"]


def silence_dead_neurons(network: Network) -> Network:
    """Zeroes every connection of a neuron without inputs or without outputs.

    A neuron without inputs has a constant output; it moves into the biases of the next layer, so the
    network computes the same function. Only a constant before a convolution with padding stays, whose zeros it
    differs from. Shapes stay.
    """
    layers = [replace(layer, weight=layer.weight.copy(), bias=layer.bias.copy()) for layer in network.layers]
    changed = True
    while changed:
        changed = False
        for layer, following in pairwise(layers):
            taken = _taken(layer, following)
            heard = taken.any(axis=(1, 3)).ravel()
            constant = np.maximum(layer.bias, 0) if layer.relu else layer.bias
            silent = ~layer.weight.any(axis=1) & ((layer.bias != 0) | heard)
            if following.geometry is not None and any(following.geometry.padding):
                silent &= constant == 0
            constant = np.where(silent, constant, 0).astype(np.float32).reshape(len(taken), -1, 1)
            following.bias[:] += (taken.sum(axis=3) @ constant).ravel()
            unheard = ~heard & (layer.weight.any(axis=1) | (layer.bias != 0))
            taken.swapaxes(1, 2)[silent.reshape(len(taken), -1)] = 0
            layer.weight[unheard] = 0
            layer.bias[silent | unheard] = 0
            changed |= bool(silent.any() or unheard.any())
    return replace(network, layers=tuple(layers))


def _taken(layer: Linear, following: Linear) -> np.ndarray:
    """The weights that take a layer's outputs, as a view ``[groups, rows / groups, neurons / groups, weights]``."""
    groups = following.geometry.groups if following.geometry else 1
    return following.weight.reshape(groups, following.rows // groups, layer.rows // groups, -1)


def drop_dead_neurons(network: Network) -> Network:
    """Takes the hidden neurons without inputs or outputs out of the matrices; the function stays.

    Inputs and outputs of the network stay, and of each layer at least one neuron. So do the channels that go into a
    convolution with groups, or come from one.
    """
    layers = list(silence_dead_neurons(network).layers)
    for number, following in enumerate(layers[1:]):
        layer = layers[number]
        if any(one.geometry and one.geometry.groups > 1 for one in (layer, following)):
            continue
        alive = np.flatnonzero(layer.weight.any(axis=1) | (layer.bias != 0))
        alive = alive if alive.size else np.array([0])
        taken = _taken(layer, following)[0][:, alive].reshape(following.rows, -1)
        layers[number] = replace(layer, weight=layer.weight[alive], bias=layer.bias[alive])
        geometry = following.geometry
        if geometry is not None:
            geometry = replace(geometry, in_shape=(len(alive), *geometry.in_shape[1:]))
        layers[number + 1] = replace(following, weight=taken, geometry=geometry)
    return replace(network, layers=tuple(layers))
