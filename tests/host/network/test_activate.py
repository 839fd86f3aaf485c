# SPDX-License-Identifier: Apache-2.0
"""Activation functions of NumPy arrays: the right values, and the same as torch's."""

import numpy as np
import pytest
import torch

from host.network.activate import activate
from host.training.forward import activations
from rtl.numbers import Activation

SUMS = np.array([[-3.0, -0.5, 0.0], [0.25, 2.0, 7.0]])

VALUES = {Activation.IDENTITY: SUMS, Activation.RELU: np.array([[0, 0, 0], [0.25, 2, 7]])}


def test_every_function_has_its_values_here():
    assert set(VALUES) == set(Activation)


@pytest.mark.parametrize("activation", VALUES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_shape_and_number_format(activation, dtype):
    found = activate(SUMS.astype(dtype), activation)
    assert np.array_equal(found, VALUES[activation]) and found.dtype == dtype


@pytest.mark.parametrize("activation", VALUES)
def test_torch_computes_the_same(activation):
    sums = np.random.default_rng(0).normal(0, 5, size=(20, 30))
    assert np.array_equal(activations(torch.from_numpy(sums), activation, None), activate(sums, activation))
