# SPDX-License-Identifier: Apache-2.0
"""Weights that are rounded so that the sums for examples change little (GPTQ)."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from host.compression import round_weights as module
from host.compression.round_weights import Moments, input_moments, round_weights
from host.compression.share_weights import ShareSettings, share_weights
from host.network.layers import Conv2d, Geometry, Linear, Network
from rtl.config import PRESETS
from rtl.numbers import Activation
from tests.support.stripes import Widths

DRAWN = np.random.default_rng(3)


def moments_of(inputs):
    return Moments(inputs.mean(0)[None], np.cov(inputs.T, bias=True)[None])


def correlated(count, cols, shared=3):
    """Inputs that a few causes explain, with a mean."""
    return DRAWN.normal(size=(count, shared)) @ DRAWN.normal(size=(shared, cols)) \
        + 0.1 * DRAWN.normal(size=(count, cols)) + 1


def sum_error(weight, rounded, shift, inputs):
    return np.square(inputs @ (rounded - weight).T - shift).mean()


def to_quarters(some):
    return np.rint(some * 4) / 4


def test_errors_of_correlated_inputs_make_each_other_good():
    inputs = correlated(500, 24)
    weight = DRAWN.normal(size=(16, 24))
    rounded, shift = round_weights(weight, moments_of(inputs), to_quarters)
    assert np.array_equal(rounded, to_quarters(rounded))
    nearest = to_quarters(weight)
    assert sum_error(weight, rounded, shift, inputs) < sum_error(weight, nearest, 0, inputs) / 10


def test_the_mean_goes_into_the_bias():
    inputs = np.full((50, 4), 3.0)
    weight = np.array([[0.3, 0.3, 0.3, 0.3]])
    rounded, shift = round_weights(weight, moments_of(inputs), to_quarters)
    assert rounded.tolist() == [[0.25] * 4] and shift == pytest.approx([-0.2 * 3])


def test_pruned_weights_stay_pruned_and_hand_on_what_they_should_take_back():
    inputs = correlated(300, 40)
    weight = np.where(DRAWN.random((16, 40)) < 0.5, DRAWN.normal(size=(16, 40)), 0)
    rounded, shift = round_weights(weight, moments_of(inputs), to_quarters)
    assert not rounded[weight == 0].any()
    assert sum_error(weight, rounded, shift, inputs) < sum_error(weight, to_quarters(weight), 0, inputs) / 5


def test_weights_that_are_representable_stay():
    weight = to_quarters(DRAWN.normal(size=(8, 12)))
    rounded, shift = round_weights(weight, moments_of(correlated(300, 12)), to_quarters)
    assert np.array_equal(rounded, weight) and not shift.any()


@pytest.mark.parametrize(("groups", "padding", "end_padding"), [(1, (1, 0), (0, 1)), (2, (1, 0), (0, 1)),
                                                                (6, (1, 1), None), (1, (2, 0), None)])
def test_moments_of_a_convolution_are_those_of_its_patches(groups, padding, end_padding):
    geometry = Geometry((6, 7, 5), (3, 2), (2, 1), padding, groups, end_padding=end_padding)
    weight = DRAWN.normal(size=(12, 6 // groups * 6)).astype(np.float32)
    layer = Conv2d("conv", weight, np.zeros(12, np.float32), Activation.RELU, geometry=geometry)
    images = DRAWN.normal(size=(9, 6 * 7 * 5)).astype(np.float32)
    [found] = input_moments(Network("one", (layer,)), images)
    (above, below), (left, right) = geometry.pads
    padded = functional.pad(torch.from_numpy(images).view(9, 6, 7, 5), (left, right, above, below)).double()
    sums = functional.conv2d(padded, torch.from_numpy(weight).double().view(12, 6 // groups, 3, 2), stride=(2, 1),
                             groups=groups).transpose(0, 1).flatten(1).numpy()
    for row, (values, kernel) in enumerate(zip(sums, weight.astype(np.float64), strict=True)):
        group = row // (12 // groups)
        assert kernel @ found.mean[group] == pytest.approx(values.mean(), abs=1e-5)
        assert kernel @ found.covariance[group] @ kernel == pytest.approx(values.var(), rel=1e-5)


def test_constant_and_very_wide_layers_are_left_alone(monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 4)
    layers = tuple(Linear(name, np.ones((rows, cols), np.float32), np.zeros(rows, np.float32), Activation.RELU,
                          fixed=fixed) for name, rows, cols, fixed in
                   (("wide", 4, 5, False), ("constant", 3, 4, True), ("usual", 2, 3, False)))
    found = input_moments(Network("three", layers), DRAWN.random((10, 5)).astype(np.float32))
    assert [one is None for one in found] == [True, True, False]


@pytest.mark.parametrize("config", [PRESETS["default"], Widths(weight_bits=4, code_bits=4, direct_weights=True)])
def test_examples_make_shared_weights_lose_less(config):
    weight = DRAWN.normal(size=(20, 30)).astype(np.float32)
    network = Network("one", (Linear("fc", weight, np.zeros(20, np.float32), Activation.IDENTITY),))
    inputs = correlated(400, 30).astype(np.float32)
    exact = inputs @ weight.T

    def error(images):
        layer = share_weights(network, config, None, ShareSettings(), images=images).layers[0]
        return np.square(inputs @ layer.weight.T + layer.bias - exact).mean()
    assert error(inputs) < error(None) / 4


def test_blocks_of_columns_change_nothing(monkeypatch):
    inputs = correlated(400, 30)
    weight = DRAWN.normal(size=(5, 30))
    whole, _ = round_weights(weight, moments_of(inputs), to_quarters)
    monkeypatch.setattr(module, "BLOCK", 7)
    assert np.array_equal(round_weights(weight, moments_of(inputs), to_quarters)[0], whole)


def test_values_that_overflow_are_rounded_each_by_itself():
    layer = Linear("fc", np.ones((2, 3), np.float32), np.zeros(2, np.float32), Activation.IDENTITY)
    huge = np.array([[1e38, 2e38, 3e38], [3e38, -1e38, 1e38]], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isfinite(input_moments(Network("one", (layer,)), huge)[0].covariance).all()
    rows = tuple(Linear(name, 1e30 * np.eye(3, dtype=np.float32), np.zeros(3, np.float32), Activation.IDENTITY)
                 for name in "ab")
    assert input_moments(Network("two", rows), huge)[1] is None
