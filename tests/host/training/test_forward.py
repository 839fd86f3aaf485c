# SPDX-License-Identifier: Apache-2.0
"""Loss and error of a network, of classes and of targets, against values computed by hand."""

import math

import numpy as np
import pytest
import torch

from host.training.forward import error_of, loss_of, outputs_of


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
