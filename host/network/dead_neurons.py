# SPDX-License-Identifier: Apache-2.0
"""Removes the neurons that pruning has disconnected.

S. Han et al., "Learning both Weights and Connections", NIPS 2015, section 3.5, "pruning neurons". A channel of a
convolution counts as one neuron.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from host.network.activate import activate
from host.network.graph import only_reader, sources
from host.network.layers import Linear, Network

__all__ = ["drop_dead_neurons", "keep_neurons", "living_neurons", "put_back", "silence_dead_neurons",
           "take_neurons", "weight_places"]


def silence_dead_neurons(network: Network) -> Network:
    """``network`` with zeros for every connection of a neuron without inputs or without outputs.

    A neuron without inputs has a constant output; it moves into the biases of the next layer, so the
    network computes the same function. Only a constant before a convolution with padding stays, whose zeros it
    differs from, and whatever several layers read, or one adds to its sums. Shapes stay.
    """
    layers = [replace(layer, weight=layer.weight.copy(), bias=layer.bias.copy()) for layer in network.layers]
    changed = True
    while changed:
        changed = False
        for layer, following in _pairs(layers):
            taken = _taken(layer, following)
            heard = taken.any(axis=(1, 3)).ravel()
            constant = activate(layer.bias, layer.activation)
            silent = ~layer.weight.any(axis=1) & ((layer.bias != 0) | heard) & (layer.added is None)
            if following.geometry is not None and following.geometry.padded:
                silent &= constant == 0
            constant = np.where(silent, constant, 0).astype(np.float32).reshape(len(taken), -1, 1)
            following.bias[:] += (taken.sum(axis=3) @ constant).ravel()
            unheard = ~heard & (layer.weight.any(axis=1) | (layer.bias != 0))
            taken.swapaxes(1, 2)[silent.reshape(len(taken), -1)] = 0
            layer.weight[unheard] = 0
            layer.bias[silent | unheard] = 0
            changed |= bool(silent.any() or unheard.any())
    return replace(network, layers=tuple(layers))


def _pairs(layers: Sequence[Linear]) -> list[tuple[Linear, Linear]]:
    """Each layer whose outputs a single one takes, with that one; but not a fully connected layer before a convolution,
    which has one weight for many of its neurons."""
    return [(layer, layers[reader]) for layer, reader in zip(layers, only_reader(layers), strict=True)
            if reader is not None and not (layer.out_map and layers[reader].geometry)]


def _taken(layer: Linear, following: Linear) -> np.ndarray:
    """The weights that take a layer's outputs, as a view ``[groups, rows / groups, neurons / groups, weights]``."""
    groups = following.geometry.groups if following.geometry else 1
    return following.weight.reshape(groups, following.rows // groups, layer.rows // groups, -1)


def keep_neurons(network: Network, saliency: list[np.ndarray], counts: dict[str, int]) -> Network:
    """Zeroes every connection of the hidden neurons that are too many; shapes stay.

    Parameters
    ----------
    network : Network
    saliency : list of array, shape ``[rows, cols]``
        Saliency of each layer's weights; the neurons with the greatest sum over their incoming weights stay.
    counts : dict
        Neurons to keep, by the layer's name.
    """
    layers = []
    for layer, values in zip(network.layers, saliency, strict=True):
        gone = np.argsort(-values.sum(axis=1), kind="stable")[counts.get(layer.name, layer.rows):]
        weight, bias = layer.weight.copy(), layer.bias.copy()
        weight[gone], bias[gone] = 0, 0
        layers.append(replace(layer, weight=weight, bias=bias))
    return silence_dead_neurons(replace(network, layers=tuple(layers)))


def drop_dead_neurons(network: Network) -> Network:
    """``network`` without the hidden neurons that have no inputs or no outputs; the function stays.

    Inputs and outputs of the network stay, and of each layer at least one neuron. So do the channels that go into a
    convolution with groups, or come from one, and the neurons of a fully connected layer that are a feature map.
    """
    network = silence_dead_neurons(network)
    return take_neurons(network, living_neurons(network))


def living_neurons(network: Network) -> list[np.ndarray]:
    """Rows of each layer that `drop_dead_neurons` leaves, in ``network``, whose dead neurons are silent."""
    rows = [np.arange(layer.rows) for layer in network.layers]
    for number, (layer, reader) in enumerate(zip(network.layers, only_reader(network.layers), strict=True)):
        if reader is not None and layer.added is None and not layer.out_map and not any(
                one.geometry and one.geometry.groups > 1 for one in (layer, network.layers[reader])):
            alive = np.flatnonzero(layer.weight.any(axis=1) | (layer.bias != 0))
            rows[number] = alive if alive.size else np.array([0])
    return rows


def take_neurons(network: Network, rows: list[np.ndarray], inputs: np.ndarray | None = None) -> Network:
    """The network with some rows of each layer, and the columns of the next layer that take their outputs.

    Parameters
    ----------
    network : Network
    rows : list of int array
        For each layer the rows that stay.
    inputs : int array, optional
        The columns of the first layer that stay, if it is fully connected; None for all.
    """
    layers, wires = [], sources(network.layers)
    for number, (layer, places) in enumerate(zip(network.layers, weight_places(network, rows, inputs), strict=True)):
        geometry, source = layer.geometry, wires[number].source
        if geometry is not None and source >= 0 and len(rows[source]) < network.layers[source].rows:
            geometry = replace(geometry, in_shape=(len(rows[source]), *geometry.in_shape[1:]))
        layers.append(replace(layer, weight=layer.weight.ravel()[places], bias=layer.bias[rows[number]],
                              geometry=geometry))
    return replace(network, layers=tuple(layers))


def put_back(network: Network, rows: list[np.ndarray], arrays: Sequence[np.ndarray],
             inputs: np.ndarray | None = None) -> list[np.ndarray]:
    """Arrays of the weights that `take_neurons` leaves, in the shapes of the whole network's weights; elsewhere 0.

    Parameters
    ----------
    network : Network
        Before `take_neurons`.
    rows, inputs
        See `take_neurons`.
    arrays : sequence of array, shape ``[rows left, columns left]``
        One for each layer.

    Returns
    -------
    list of array, shape ``[rows, cols]``
    """
    found = []
    for layer, places, values in zip(network.layers, weight_places(network, rows, inputs), arrays, strict=True):
        whole = np.zeros(layer.weight.size, values.dtype)
        whole[places] = values
        found.append(whole.reshape(layer.weight.shape))
    return found


def weight_places(network: Network, rows: list[np.ndarray], inputs: np.ndarray | None = None) -> list[np.ndarray]:
    """Where the weights that `take_neurons` leaves stand in the flattened weights of each layer.

    Parameters
    ----------
    network : Network
        Before `take_neurons`.
    rows, inputs
        See `take_neurons`.

    Returns
    -------
    list of int64 array, shape ``[rows left, columns left]``
    """
    places = []
    for layer, kept, (source, _) in zip(network.layers, rows, sources(network.layers), strict=True):
        own = np.arange(layer.weight.size).reshape(layer.weight.shape)[kept]
        if source < 0:
            own = own if inputs is None else own[:, inputs]
        elif len(rows[source]) < network.layers[source].rows:
            own = own.reshape(len(own), network.layers[source].rows, -1)[:, rows[source]].reshape(len(own), -1)
        places.append(own)
    return places
