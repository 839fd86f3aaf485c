# SPDX-License-Identifier: Apache-2.0
"""The layers of a network in torch, with outputs that were computed by hand."""

import numpy as np
import torch

from host.network.layers import Conv2d, Geometry, Linear, Network
from host.training.forward import activations, error_percent, logits, tensors, weighted_sums
from rtl.numbers import Activation

GEOMETRY = Geometry((1, 3, 3), (2, 2), pool=2, pool_stride=1)
CONVOLUTION = Conv2d("conv", np.float32([[1, 0, 0, 1], [0, 0, 0, -1]]), np.float32([0, 1]), Activation.RELU, GEOMETRY)
"""The sum of a diagonal, and 1 less the lower right pixel: two channels, of which pooling leaves one pixel each."""

LAST = Linear("fc", np.float32([[1, 2], [-1, 0], [0, -3]]), np.float32([0.5, 0, 0]), Activation.IDENTITY)
NETWORK = Network("small", (CONVOLUTION, LAST))
IMAGE = torch.arange(1.0, 10.0).reshape(1, 9)


def test_sums_are_weights_times_inputs_plus_bias():
    weight, bias, _, geometry = tensors(NETWORK)[1]
    assert weighted_sums(torch.tensor([[14.0, 2.0]]), weight, bias, geometry).tolist() == [[18.5, -14, -6]]
    weight, bias, _, geometry = tensors(NETWORK)[0]
    assert weighted_sums(IMAGE, weight, bias, geometry).tolist() == [[[[6, 8], [12, 14]], [[-4, -5], [-7, -8]]]]


def test_stride_padding_and_groups():
    """Each of two channels of three columns, with a zero on both sides, has a kernel of its own."""
    geometry = Geometry((2, 1, 3), (1, 2), stride=(1, 2), padding=(0, 1), groups=2)
    sums = weighted_sums(torch.tensor([[1.0, 2, 3, 10, 20, 30]]), torch.tensor([[1.0, 1], [1, -1]]), torch.zeros(2),
                         geometry)
    assert sums.tolist() == [[[[1, 5]], [[-10, -10]]]]


def test_activations_are_pooled_and_flat():
    sums = torch.tensor([[[[6.0, 8], [12, 14]], [[-4, -5], [-7, -8]]]])
    assert activations(sums, Activation.RELU, GEOMETRY).tolist() == [[14, 0]]
    assert activations(sums, Activation.IDENTITY, GEOMETRY).tolist() == [[14, -4]]
    assert activations(sums, Activation.IDENTITY, Geometry((1, 3, 3), (2, 2))).tolist() \
        == [[6, 8, 12, 14, -4, -5, -7, -8]]
    overlapping = Geometry((1, 4, 4), (2, 2), pool=2, pool_stride=1)
    assert activations(IMAGE.view(1, 1, 3, 3), Activation.RELU, overlapping).tolist() == [[5, 6, 8, 9]]


def test_outputs_of_a_chain_and_what_goes_into_its_layers():
    hidden = []
    assert logits(tensors(NETWORK), IMAGE, hidden=hidden).tolist() == [[14.5, -14, 0]]
    assert [acts.tolist() for acts in hidden] == [[[14, 0]]]


def test_dropped_outputs_are_zero_and_the_others_greater():
    layers = tensors(Network("one", (Linear("fc", np.eye(4, dtype=np.float32), np.zeros(4, np.float32),
                                            Activation.IDENTITY),)))
    inputs = torch.ones(2000, 4)
    found = logits(layers, inputs, [0.75], torch.Generator().manual_seed(0))
    assert set(found.unique().tolist()) == {0, 4} and 0.22 < (found != 0).float().mean() < 0.28
    assert torch.equal(logits(layers, inputs, [0.0]), inputs)


def test_tensors_share_the_networks_memory():
    weight, bias = np.zeros((1, 2), np.float32), np.zeros(1, np.float32)
    (ours, our_bias, activation, geometry), = tensors(Network("one", (Linear("fc", weight, bias, Activation.RELU),)))
    weight[0, 1], bias[0] = 5, 6
    assert ours.tolist() == [[0, 5]] and our_bias.tolist() == [6] and activation is Activation.RELU and geometry is None


def test_the_error_counts_images_whose_greatest_output_is_not_their_label():
    labels = np.arange(5000) % 2
    images = np.zeros((5000, 2), np.uint8)
    images[np.arange(5000), labels] = 255
    labels[[7, 4500]] ^= 1

    def forward(inputs):
        assert inputs.max() == 1  # bytes mean 0 to 1
        return inputs
    assert error_percent(forward, images, labels) == 100 * 2 / 5000
