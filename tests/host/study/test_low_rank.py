# SPDX-License-Identifier: Apache-2.0
"""Factors and biclusters: what they keep of a layer, and which layers stay whole."""

from dataclasses import replace

import numpy as np
import torch

from host.network.layers import Conv2d, Geometry, Linear, Network
from host.study.low_rank import biclustered, equal_clusters, factored
from host.training.forward import logits, tensors
from rtl.numbers import Activation
from tests.support.stripes import network


def outputs(net, images):
    return logits(tensors(net), torch.from_numpy(images)).numpy()


def test_factors_keep_the_greatest_singular_values():
    rng = np.random.default_rng(0)
    low_rank = (rng.normal(size=(40, 3)) @ rng.normal(size=(3, 49))).astype(np.float32)
    whole = network()
    whole = replace(whole, layers=(replace(whole.layers[0], weight=low_rank), *whole.layers[1:]))
    found = factored(whole, 0.14)
    sizes = [(layer.name, layer.rows, layer.cols, layer.activation) for layer in found.layers]
    assert sizes == [("fc1.right", 3, 49, Activation.IDENTITY), ("fc1.left", 40, 3, Activation.RELU),
                     ("fc2.right", 1, 40, Activation.IDENTITY), ("fc2.left", 20, 1, Activation.RELU),
                     ("fc3", 3, 20, Activation.IDENTITY)]
    images = rng.uniform(size=(5, 49)).astype(np.float32)
    first, before = (Network("", layers) for layers in (found.layers[:2], whole.layers[:1]))
    np.testing.assert_allclose(outputs(first, images), outputs(before, images), rtol=1e-3, atol=1e-3)


def test_layers_of_other_kinds_stay_whole():
    class Other(Linear):
        pass
    other = Other("a", np.ones((30, 30), np.float32), np.zeros(30, np.float32), Activation.RELU)
    last = Linear("b", np.ones((30, 30), np.float32), np.zeros(30, np.float32), Activation.IDENTITY)
    assert factored(Network("", (other, last)), 0.5).layers == (other, last)


def convolution(weight, in_shape, **options):
    rows, channels, *kernel = weight.shape
    geometry = Geometry(in_shape, tuple(kernel), groups=in_shape[0] // channels, **options)
    return Conv2d("conv", weight.reshape(rows, -1), np.arange(rows, dtype=np.float32), Activation.RELU,
                  geometry)


def test_clusters_are_equal_and_of_like_direction():
    rng = np.random.default_rng(0)
    directions, kinds = np.eye(6)[:3], np.array([0, 1, 2] * 5)
    vectors = directions[kinds] * rng.uniform(1, 9, (15, 1)) + rng.normal(0, 0.05, (15, 6))
    found = equal_clusters(vectors, 3)
    assert sorted(map(len, found)) == [5, 5, 5] and all(len(set(kinds[one])) == 1 for one in found)
    uneven = equal_clusters(np.ones((11, 2)), 4)
    assert sorted(map(len, uneven)) == [2, 3, 3, 3] and sorted(np.concatenate(uneven)) == list(range(11))


def test_biclusters_give_back_what_has_their_rank():
    """Each pair of clusters has weights of rank 1, and all of them rank 4 or more, with the channels mixed up."""
    rng = np.random.default_rng(1)
    inputs, outputs_ = rng.permutation(6), rng.permutation(8)
    weight = np.zeros((8, 6, 3, 3))
    for number, rows in enumerate((outputs_[:4], outputs_[4:])):
        for other, cols in enumerate((inputs[:3], inputs[3:])):
            part = np.multiply.outer(rng.uniform(0.5, 1, 4), rng.normal(0, 0.05, (3, 3, 3)) + (number - 0.5)
                                     * np.linspace(-1, 1, 3)[:, None] + (other - 0.5) * np.linspace(-1, 1, 3))
            weight[np.ix_(rows, cols)] = part
    whole = Network("", (convolution(weight.astype(np.float32), (6, 7, 7), padding=(1, 1), pool=2, pool_stride=2),))
    found = biclustered(whole, 0.4, 2)
    assert [(layer.name, layer.rows, layer.cols, layer.weights_kept, layer.activation) for layer in found.layers] == [
        ("conv.right", 4, 54, 4 * 27, Activation.IDENTITY), ("conv.left", 8, 4, 16, Activation.RELU)]
    images = rng.uniform(size=(5, 6 * 49)).astype(np.float32)
    np.testing.assert_allclose(outputs(found, images), outputs(whole, images), rtol=1e-3, atol=1e-3)
    assert biclustered(whole, 0.9, 2).layers[0].rows == 12
    alone = np.abs(outputs(biclustered(whole, 0.1, 1), images) - outputs(whole, images)).max()
    assert alone > 0.1


def test_convolutions_that_would_not_get_smaller_stay():
    whole = Network("", (convolution(np.ones((2, 1, 1, 2), np.float32), (1, 5, 5)),
                         convolution(np.ones((4, 1, 3, 3), np.float32), (2, 5, 4))))
    assert biclustered(whole, 0.5, 2).layers == whole.layers
