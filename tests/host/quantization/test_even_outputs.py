# SPDX-License-Identifier: Apache-2.0
"""Outputs of unequal ranges: moved and scaled alike, and back again."""

from dataclasses import replace

import numpy as np
import pytest

from host.network.activations import sigmoid
from host.network.layers import Conv2d, Geometry, Linear, Network
from host.quantization.even_outputs import even_outputs, with_outputs_as_read
from host.quantization.losses import float_values, last_values
from rtl.numbers import Activation

DRAWN = np.random.default_rng(0)
IMAGES = DRAWN.normal(size=(200, 12)).astype(np.float32)


def network(rows=3, spans=(1000, 1, 0.01), means=(5, -200, 0), **options):
    weight = DRAWN.normal(size=(rows, 12)).astype(np.float32) * np.array(spans, np.float32)[:, None]
    last = Linear("last", weight, np.array(means, np.float32), Activation.IDENTITY)
    return Network("uneven", (replace(last, **options),))


def outputs(of):
    return last_values(float_values(of), IMAGES)


def integers_of(of):
    """What the engine computes, before scales and offsets."""
    last = replace(of.layers[-1], output_scale=None, output_offset=None)
    return outputs(replace(of, layers=(*of.layers[:-1], last)))


def test_each_output_spans_the_same_range():
    before = network()
    after = even_outputs(before, IMAGES)
    values = integers_of(after)
    assert np.allclose(values.max(axis=0), -values.min(axis=0), rtol=1e-3)
    assert np.ptp(values.max(axis=0)) < 1e-3 * values.max()
    assert np.abs(outputs(after) - outputs(before)).max(axis=0) == pytest.approx([0, 0, 0], abs=2e-3)
    assert (np.abs(outputs(after) - outputs(before)) <= 1e-5 * np.abs(outputs(before)).max(axis=0)).all()


def test_feature_maps_have_one_scale_for_a_channel():
    geometry = Geometry((3, 2, 2), (1, 1))
    weight = DRAWN.normal(size=(2, 3)).astype(np.float32) * np.array([[100], [1]], np.float32)
    before = Network("maps", (Conv2d("c", weight, np.zeros(2, np.float32), Activation.IDENTITY, geometry),))
    after = even_outputs(before, IMAGES)
    assert after.layers[-1].output_scale.shape == (2,)
    assert np.allclose(outputs(after), outputs(before), rtol=1e-4, atol=1e-4)
    assert np.abs(integers_of(after)).reshape(200, 2, 4).max(axis=(0, 2)) == pytest.approx(
        np.abs(integers_of(after)).max(), rel=0.2)


def test_the_weights_come_back():
    before = network()
    after = with_outputs_as_read(even_outputs(before, IMAGES))
    assert after.layers[-1].output_scale is None and with_outputs_as_read(before) is before
    assert np.allclose(after.layers[-1].weight, before.layers[-1].weight, rtol=1e-5)
    assert np.allclose(outputs(after), outputs(before), rtol=1e-4, atol=2e-3)


def test_outputs_that_are_even_stay_as_they_are():
    last = replace(even_outputs(network(), IMAGES).layers[-1], output_scale=None, output_offset=None)
    even = Network("even", (last,))
    assert even_outputs(even, IMAGES) is even


@pytest.mark.parametrize("options", [{"activation": sigmoid()}, {"activation": Activation.RELU}, {"fixed": True}])
def test_outputs_of_a_function_stay_as_they_are(options):
    unchanged = network(**options)
    assert even_outputs(unchanged, IMAGES) is unchanged
