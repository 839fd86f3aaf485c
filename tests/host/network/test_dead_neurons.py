# SPDX-License-Identifier: Apache-2.0
"""Dead neurons are removed, and the network computes the same."""

from dataclasses import replace

import numpy as np

from host.network.dead_neurons import drop_dead_neurons, silence_dead_neurons
from rtl.numbers import Activation
from tests.support.stripes import network, run, same, with_weights


def test_dead_neurons_are_silenced_and_the_function_stays():
    net = network()
    one, two, three = (layer.weight.copy() for layer in net.layers)
    one[[3, 5, 7]] = 0         # no inputs: constant outputs
    two[:, [8, 9]] = 0         # no outputs
    two[4] = 0
    two[6, [i for i in range(40) if i not in (3, 5)]] = 0  # inputs from dead neurons only
    three[:, 11] = 0
    net = with_weights(net, {"fc1": one, "fc2": two, "fc3": three})
    cleaned = silence_dead_neurons(net)
    one, two, three = (layer.weight for layer in cleaned.layers)
    assert not two[:, [3, 5, 7]].any() and not one[[8, 9]].any()
    assert not three[:, [4, 6]].any() and not two[11].any()
    assert not cleaned.layers[0].bias[[3, 5, 7, 8, 9]].any() and not cleaned.layers[1].bias[[4, 6, 11]].any()
    assert cleaned.weights_kept < net.weights_kept
    inputs = np.random.default_rng(1).uniform(size=(50, 49))
    assert np.allclose(run(cleaned, inputs), run(net, inputs), rtol=0, atol=1e-5)
    assert same(silence_dead_neurons(cleaned), cleaned)


def test_death_spreads_through_layers_without_relu():
    net = network(sizes=(5, 4, 3, 2))
    net = replace(net, layers=tuple(replace(layer, activation=Activation.IDENTITY) for layer in net.layers))
    third = net.layers[2].weight.copy()
    third[:] = 0
    net = replace(net, layers=(*net.layers[:2], replace(net.layers[2], weight=third)))
    cleaned = silence_dead_neurons(net)
    assert cleaned.weights_kept == 0 and not cleaned.layers[0].bias.any()
    assert np.array_equal(cleaned.layers[2].bias, net.layers[2].bias)
    first = replace(net.layers[0], weight=np.zeros((4, 5), np.float32))
    blind = replace(network(sizes=(5, 4, 3, 2)), layers=(first, *network(sizes=(5, 4, 3, 2)).layers[1:]))
    cleaned = silence_dead_neurons(blind)
    assert cleaned.weights_kept == 0
    assert np.allclose(cleaned.layers[2].bias, run(blind, np.zeros((1, 5)))[0], atol=1e-6)


def test_dropping_makes_matrices_smaller_and_the_function_stays():
    net = network()
    one, two, three = (layer.weight.copy() for layer in net.layers)
    one[[3, 5, 7]] = 0
    two[:, [8, 9]] = 0
    two[6] = 0
    three[:, 11] = 0
    net = with_weights(net, {"fc1": one, "fc2": two, "fc3": three})
    dropped = drop_dead_neurons(net)
    assert [layer.weight.shape for layer in dropped.layers] == [(35, 49), (18, 35), (3, 18)]
    assert [layer.bias.shape for layer in dropped.layers] == [(35,), (18,), (3,)]
    assert dropped.weights_kept == silence_dead_neurons(net).weights_kept
    assert all(layer.weight.any(axis=1).all() for layer in dropped.layers)
    inputs = np.random.default_rng(1).uniform(size=(50, 49))
    assert np.allclose(run(dropped, inputs), run(net, inputs), rtol=0, atol=1e-5)
    assert same(drop_dead_neurons(network()), network())


def test_a_network_without_any_weight_keeps_a_neuron_in_each_layer():
    net = network()
    empty = with_weights(net, {layer.name: np.zeros_like(layer.weight) for layer in net.layers})
    dropped = drop_dead_neurons(empty)
    assert [layer.weight.shape for layer in dropped.layers] == [(1, 49), (1, 1), (3, 1)]
    inputs = np.random.default_rng(1).uniform(size=(5, 49))
    assert np.allclose(run(dropped, inputs), run(empty, inputs), rtol=0, atol=1e-5)
