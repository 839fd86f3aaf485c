# SPDX-License-Identifier: Apache-2.0
"""Layers that form a graph: what each takes, and what the network computes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from host.network.dead_neurons import drop_dead_neurons, silence_dead_neurons
from host.network.graph import INPUT, Sources, is_chain, only_reader, sources
from host.network.layers import Linear, Network
from host.training.forward import logits, tensors
from rtl.numbers import Activation

RNG = np.random.default_rng(0)


def layer(name, rows, cols, source=None, added=None, activation=Activation.RELU):
    return Linear(name, RNG.normal(size=(rows, cols)).astype(np.float32), RNG.normal(size=rows).astype(np.float32),
                  activation, source=source, added=added)


BRANCHES = (layer("a", 6, 4), layer("b", 6, 6), layer("c", 6, 6, added="a"), layer("d", 4, 6, added=INPUT),
            layer("e", 3, 4, source="d", activation=Activation.IDENTITY))
CHAIN = tuple(replace(one, source=None, added=None) for one in BRANCHES)


def test_sources_are_numbers():
    assert sources(BRANCHES) == [Sources(-1, None), Sources(0, None), Sources(1, 0), Sources(2, -1), Sources(3, None)]
    assert not is_chain(BRANCHES) and is_chain(CHAIN)
    assert is_chain((*CHAIN[:4], BRANCHES[4]))     # its source is the layer before
    with pytest.raises(ValueError, match="layer 'a' takes the outputs of 'b', which does not come before it"):
        sources([replace(BRANCHES[0], source="b"), BRANCHES[1]])


def test_only_readers():
    assert only_reader(BRANCHES) == [None, 2, 3, 4, None]
    assert only_reader(CHAIN) == [1, 2, 3, 4, None]


def test_outputs_are_added_to_sums():
    network = Network("n", BRANCHES)
    inputs = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    sums = [lambda x, one=one: functional.linear(x, torch.from_numpy(one.weight), torch.from_numpy(one.bias))
            for one in BRANCHES]
    a = sums[0](inputs).relu()
    c = (sums[2](sums[1](a).relu()) + a).relu()
    expected = sums[4]((sums[3](c) + inputs).relu())
    hidden = []
    assert torch.allclose(logits(tensors(network), inputs, hidden=hidden), expected, atol=1e-6)
    assert len(hidden) == 4 and torch.equal(hidden[0], a) and torch.allclose(hidden[2], c, atol=1e-6)


def test_neurons_that_several_layers_read_stay():
    layers = list(BRANCHES)
    for number in (0, 1):
        weight, bias = layers[number].weight.copy(), layers[number].bias.copy()
        weight[2], bias[2] = 0, 3.0    # a constant output
        layers[number] = replace(layers[number], weight=weight, bias=bias)
    network = Network("n", tuple(layers))
    silent, small = silence_dead_neurons(network), drop_dead_neurons(network)
    assert silent.layers[0].bias[2] == 3 and silent.layers[1].bias[2] == 0
    assert [one.rows for one in small.layers] == [6, 5, 6, 4, 3]
    inputs = torch.rand(20, 4, generator=torch.Generator().manual_seed(1))
    for other in (silent, small):
        assert torch.allclose(logits(tensors(other), inputs), logits(tensors(network), inputs), atol=1e-5)
