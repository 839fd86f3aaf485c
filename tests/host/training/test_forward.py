# SPDX-License-Identifier: Apache-2.0
"""The layers of a network in torch, with outputs that were computed by hand."""

import math

import numpy as np
import pytest
import torch

from host.network.layers import Conv2d, Geometry, Linear, Network
from host.training.forward import activations, error_of, logits, loss_of, outputs_of, tensors, weighted_sums
from rtl.numbers import Activation

GEOMETRY = Geometry((1, 3, 3), (2, 2), pool=2, pool_stride=1)
CONVOLUTION = Conv2d("conv", np.float32([[1, 0, 0, 1], [0, 0, 0, -1]]), np.float32([0, 1]), Activation.RELU, GEOMETRY)
"""The sum of a diagonal, and 1 less the lower right pixel: two channels, of which pooling leaves one pixel each."""

LAST = Linear("fc", np.float32([[1, 2], [-1, 0], [0, -3]]), np.float32([0.5, 0, 0]), Activation.IDENTITY)
NETWORK = Network("small", (CONVOLUTION, LAST))
IMAGE = torch.arange(1.0, 10.0).reshape(1, 9)


def test_sums_are_weights_times_inputs_plus_bias():
    weight, bias, _, geometry, *_ = tensors(NETWORK)[1]
    assert weighted_sums(torch.tensor([[14.0, 2.0]]), weight, bias, geometry).tolist() == [[18.5, -14, -6]]
    weight, bias, _, geometry, *_ = tensors(NETWORK)[0]
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
    network = Network("one", (Linear("fc", weight, bias, Activation.RELU),))
    (ours, our_bias, activation, geometry, *_), = tensors(network)
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
    assert error_of(forward, images, labels) == 100 * 2 / 5000


def test_the_loss_of_classes_is_the_cross_entropy():
    outputs = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    # Chances 1/4 and 3/4, and twice 1/2.
    assert loss_of(outputs, torch.tensor([1, 0])).item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 2)) / 2)


def test_the_loss_of_targets_is_the_mean_squared_error():
    outputs = torch.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    loss = loss_of(outputs, torch.tensor([[2.0, 2.0], [1.0, 8.0]]))
    loss.backward()
    assert loss.item() == 3.5 and outputs.grad.tolist() == [[-0.5, 0.0], [1.0, -1.5]]


def test_the_error_is_over_all_batches():
    """More images than `outputs_of` takes at a time; a network of one weight."""
    images = np.arange(10_000, dtype=np.float32).reshape(-1, 1)

    def forward(inputs):
        return torch.cat([inputs, torch.full_like(inputs, 4999.5)], dim=1)
    assert np.array_equal(outputs_of(forward, images)[:, :1], images)
    assert error_of(forward, images, np.zeros(10_000, np.int64)) == 50
    assert error_of(forward, images, (images[:, 0] < 4999).astype(np.int64)) == pytest.approx(0.01)
    targets = np.concatenate([images + 3, np.full_like(images, 4999.5)], axis=1)
    assert error_of(forward, images, targets) == 4.5


def test_bytes_are_inputs_from_0_to_1():
    assert outputs_of(lambda inputs: 2 * inputs, np.array([[0], [51], [255]], np.uint8)).tolist() == [
        [0], [pytest.approx(0.4)], [2]]
