# SPDX-License-Identifier: Apache-2.0
"""Fastfood layers against the product of their parts."""

import numpy as np
import torch

from host.study.fastfood import Fastfood, fry


def test_fastfood_is_the_product_of_its_parts():
    torch.manual_seed(0)
    layer = Fastfood(5, 11)
    hadamard = np.ones((1, 1))
    for _ in range(3):
        hadamard = np.kron(np.array([[1, 1], [1, -1]]), hadamard) / 2 ** 0.5
    blocks = [np.diag(scale) @ hadamard @ np.diag(gauss) @ np.eye(8)[order] @ hadamard @ np.diag(sign)
              for scale, gauss, order, sign in zip(*(part.detach().numpy() for part in (
                  layer.scale, layer.gauss, layer.order, layer.sign)), strict=True)]
    with torch.no_grad():
        layer.bias += torch.arange(11.0)
        found = layer(torch.eye(5)).numpy()
    np.testing.assert_allclose(found, np.concatenate(blocks)[:11, :5].T + np.arange(11), rtol=1e-4, atol=1e-5)


def test_fastfood_outputs_have_the_variance_of_he():
    torch.manual_seed(0)
    with torch.no_grad():
        outputs = Fastfood(784, 300)(torch.randn(256, 784))
    assert 1.3 < outputs.std() < 1.5


def test_only_fully_connected_layers_are_fried():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Sequential(
        torch.nn.Linear(18, 7), torch.nn.ReLU()), torch.nn.Linear(7, 3))
    kinds = [type(one).__name__ for one in fry(model, 1).modules()]
    assert kinds == ["Sequential", "Conv2d", "Flatten", "Sequential", "Fastfood", "ReLU", "Linear"]
    assert model(torch.zeros(2, 1, 5, 5)).shape == (2, 3)
