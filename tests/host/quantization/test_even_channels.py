# SPDX-License-Identifier: Apache-2.0
"""Channels that are scaled between layers: the same network, and less lost by rounding."""

from dataclasses import replace

import numpy as np
import pytest

from host.compression.share_weights import share_weights
from host.network.activations import sigmoid
from host.network.layers import Conv2d, Geometry, Linear, Network
from host.quantization.even_channels import even_channels
from host.quantization.losses import float_values, integer_values, last_values
from host.quantization.quantize import quantize
from rtl.numbers import Activation
from tests.support.stripes import Widths

DRAWN = np.random.default_rng(5)
SPANS = np.array([100, 30, 10, 3, 1, 0.3, 0.1, 0.03], np.float32)
RELU, IDENTITY = Activation.RELU, Activation.IDENTITY


def linear(name, rows, cols, activation=RELU, spans=1.0, **options):
    weight = DRAWN.normal(size=(rows, cols)).astype(np.float32) * np.reshape(spans, (-1, 1))
    return Linear(name, weight.astype(np.float32), DRAWN.normal(size=rows).astype(np.float32), activation, **options)


def conv(name, rows, geometry, activation=RELU, spans=1.0):
    cols = geometry.in_shape[0] // geometry.groups * geometry.kernel[0] * geometry.kernel[1]
    plain = linear(name, rows, cols, activation, spans)
    return Conv2d(name, plain.weight, plain.bias, activation, geometry=geometry)


def separable():
    """A convolution whose channels differ, a depthwise one, and a fully connected layer."""
    depthwise = conv("depthwise", 8, Geometry((8, 6, 6), (3, 3), groups=8), spans=1 / SPANS)
    return Network("separable", (conv("first", 8, Geometry((2, 6, 6), (1, 1)), spans=SPANS), depthwise,
                                 linear("last", 3, 8 * 16, IDENTITY)))


def evened(network, images):
    return even_channels(network, images, weight_bits=8, act_bits=8)


def outputs(network, images):
    return last_values(float_values(network), images)


def images_for(network):
    return DRAWN.random((60, network.inputs)).astype(np.float32)


def rounding_error(network, images, exact):
    """Of the engine's outputs, against those of the float network ``exact``."""
    config = Widths(weight_bits=8, code_bits=8, direct_weights=True)
    integers = quantize(share_weights(network, config), config, images, classes=False)
    return np.sqrt(np.square(last_values(integer_values(integers), images) - outputs(exact, images)).mean())


def test_the_network_computes_the_same():
    network = separable()
    images = images_for(network)
    after = evened(network, images)
    assert np.allclose(outputs(after, images), outputs(network, images), rtol=1e-4, atol=1e-4)
    assert rounding_error(after, images, network) < rounding_error(network, images, network) / 3


def test_channels_that_are_alike_stay():
    network = Network("alike", (Linear("a", np.eye(6, dtype=np.float32), np.zeros(6, np.float32), RELU),
                                Linear("b", np.ones((2, 6), np.float32), np.zeros(2, np.float32), IDENTITY)))
    images = images_for(network)
    images[0] = 1
    after = evened(network, images)
    assert all(np.array_equal(one.weight, other.weight)
               for one, other in zip(after.layers, network.layers, strict=True))


def test_all_readers_are_multiplied():
    first = linear("a", 8, 5, spans=SPANS)
    second, third = linear("b", 4, 8, IDENTITY, source="a"), linear("c", 4, 8, IDENTITY, source="a", added="b")
    network = Network("two readers", (first, replace(second, weight=second.weight / SPANS),
                                      replace(third, weight=third.weight / SPANS)))
    images = images_for(network)
    after = evened(network, images)
    assert not np.array_equal(after.layers[0].weight, first.weight)
    assert np.allclose(outputs(after, images), outputs(network, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", [
    lambda layers: (replace(layers[0], activation=sigmoid()), layers[1]),
    lambda layers: (replace(layers[0], fixed=True), layers[1]),
    lambda layers: (layers[0], replace(layers[1], fixed=True)),
    lambda layers: (layers[0], replace(layers[1], weight=np.eye(8, dtype=np.float32), bias=np.zeros(8, np.float32),
                                       added="a")),
    lambda layers: (layers[0],),
], ids=["an activation that scaling changes", "constant weights", "constant weights behind", "added elsewhere",
        "outputs of the network"])
def test_what_may_not_be_scaled_stays(change):
    layers = change((linear("a", 8, 5, spans=SPANS), linear("b", 3, 8, IDENTITY, source="a")))
    network = Network("held", layers)
    after = evened(network, images_for(network))
    assert all(np.array_equal(one.weight, other.weight) for one, other in zip(after.layers, layers, strict=True))


def test_dead_channels_are_left_alone():
    network = separable()
    first = network.layers[0]
    weight, bias = first.weight.copy(), first.bias.copy()
    weight[2], bias[2] = 0, 0
    weight[5], bias[5] = -np.abs(weight[5]), -1
    network = replace(network, layers=(replace(first, weight=weight, bias=bias), *network.layers[1:]))
    images = images_for(network)
    after = evened(network, images)
    assert np.array_equal(after.layers[0].weight[[2, 5]], weight[[2, 5]])
    assert np.allclose(outputs(after, images), outputs(network, images), rtol=1e-4, atol=1e-4)
