# SPDX-License-Identifier: Apache-2.0
"""A small float network, data that it learns at once, and a short recipe of pruning."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from host.compression.prune import prune
from host.compression.recipe import PruneSettings
from host.compression.retrain import Retraining
from host.datasets import Dataset
from host.network.activate import activate
from host.network.layers import Linear, Network
from rtl.numbers import Activation

SHORT = PruneSettings(density=0.1, rounds=4, round_epochs=2, final_epochs=4, batch=50, learning_rate=0.01,
                      final_learning_rate=0.02, augment=0.3)
"""Four rounds of few epochs, which take milliseconds."""


@dataclass(frozen=True)
class Widths:
    """The widths of an `EngineConfig`, without its other rules."""

    act_bits: int = 8
    weight_bits: int = 8
    code_bits: int = 4
    acc_bits: int = 32
    direct_weights: bool = False
    act_table: bool = False


def network(seed=0, sizes=(49, 40, 20, 3)):
    rng = np.random.default_rng(seed)
    return Network("small", tuple(
        Linear(f"fc{index + 1}", rng.normal(0, cols ** -0.5, (rows, cols)).astype(np.float32),
               rng.normal(0, 0.1, rows).astype(np.float32),
               Activation.RELU if index < len(sizes) - 2 else Activation.IDENTITY)
        for index, (cols, rows) in enumerate(pairwise(sizes))))


def with_weights(net, weights=None, biases=None):
    """The network with other weights or biases of some layers, by their names."""
    weights, biases = weights or {}, biases or {}
    return replace(net, layers=tuple(replace(layer, weight=weights.get(layer.name, layer.weight),
                                             bias=biases.get(layer.name, layer.bias)) for layer in net.layers))


def sparse_network(**changes):
    """The network of `network` with 30 % of its weights."""
    return prune(network(**changes), None, PruneSettings(density=0.3)).network


def dataset(count=600):
    """7 x 7 images of three classes: a bright stripe in one third of the image."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 3, count)
    images = rng.integers(0, 100, (count, 7, 7), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label:2 * label + 2] += 100
    return Dataset("stripes", images[100:], labels[100:], images[:100], labels[:100])


def run(net, inputs):
    """The outputs of a network in float64."""
    for layer in net.layers:
        inputs = inputs @ layer.weight.astype(np.float64).T + layer.bias
        inputs = activate(inputs, layer.activation)
    return inputs


def same(one, other):
    """Whether two networks are equal to the bit."""
    return all(np.array_equal(a.weight, b.weight) and np.array_equal(a.bias, b.bias)
               for a, b in zip(one.layers, other.layers, strict=True))


def write_files(directory, net):
    """Writes the network and the data as files; returns the path of the model and the specification of the data."""
    data = dataset()
    np.savez(directory / "data.npz", train_images=data.train_images, train_labels=data.train_labels,
             test_images=data.test_images, test_labels=data.test_labels)
    torch.save({f"{layer.name}.{kind}": torch.from_numpy(getattr(layer, kind))
                for layer in net.layers for kind in ("weight", "bias")}, directory / "model.pt")
    return str(directory / "model.pt"), f"npz:{directory / 'data.npz'}"


def weights_during(settings, monkeypatch, net=None):
    """Prunes; returns the result, and the network after the cut of each round."""
    seen = []
    begin = Retraining.begin

    def spy(self, network, names):
        seen.append(network)
        begin(self, network, names)
    with monkeypatch.context() as patch:
        patch.setattr(Retraining, "begin", spy)
        return prune(net or network(), dataset(), settings, 3), seen
