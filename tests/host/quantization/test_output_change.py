# SPDX-License-Identifier: Apache-2.0
"""What a rounded layer changes at the outputs, and the scales that follow from it."""

from dataclasses import replace

import numpy as np
import pytest

from host.compression.share_weights import ShareSettings, share_weights
from host.network.layers import Linear, Network
from host.quantization import output_change
from host.quantization.output_change import OutputChange
from host.quantization.quantize import quantize
from rtl.numbers import Activation
from tests.support.stripes import Widths

DIRECT = Widths(weight_bits=8, code_bits=8, direct_weights=True)


def network():
    """A hidden neuron that is mostly small, and rarely large where it matters."""
    first = Linear("a", np.eye(2, dtype=np.float32), np.zeros(2, np.float32), Activation.RELU)
    last = Linear("b", np.array([[0, 100], [0.01, 0]], np.float32), np.zeros(2, np.float32), Activation.IDENTITY)
    return Network("net", (first, last))


def test_the_change_is_that_of_the_outputs():
    images = np.random.default_rng(0).random((20, 2)).astype(np.float32)
    change = OutputChange(network(), images)
    assert change.places.tolist() == list(range(20))
    exact = images[change.places]
    assert change.of(0, exact) == 0
    assert change.of(0, exact + np.array([0.5, 0])) == pytest.approx((0.005 ** 2) / 2, rel=1e-3)
    assert change.of(0, exact + np.array([0, 0.5])) == pytest.approx(50 ** 2 / 2, rel=1e-3)


def test_large_networks_are_measured_on_fewer_examples(monkeypatch):
    monkeypatch.setattr(output_change, "MACS", 8 * 2 * 5)
    assert OutputChange(network(), np.zeros((20, 2), np.float32)).places.tolist() == [0, 4, 9, 14, 19]


def test_a_hidden_scale_does_not_clip_what_the_outputs_need():
    """All values but one are fine ones, of neurons that hardly count: clipping that one helps the others."""
    fine = 30
    first = Linear("a", np.diag([0.7] * fine + [1.0]).astype(np.float32), np.zeros(fine + 1, np.float32),
                   Activation.RELU)
    last = Linear("b", np.array([[0.01] * fine + [100]], np.float32), np.zeros(1, np.float32), Activation.IDENTITY)
    images = np.zeros((10_000, fine + 1), np.float32)
    images[:, :fine] = np.random.default_rng(0).random((10_000, fine)) * 0.5
    images[0, fine] = 1
    shared = share_weights(Network("net", (first, last)), DIRECT, None, ShareSettings(epochs=0))
    hidden = quantize(shared, DIRECT, images, classes=False).layers[0]
    assert hidden.output_scale * 255 >= 0.95


def test_outputs_count_alike_whatever_they_are_multiplied_by():
    images = np.random.default_rng(0).random((20, 2)).astype(np.float32)
    first, last = network().layers
    scaled = replace(last, output_scale=np.array([1e6, 1], np.float32), output_offset=np.array([5, 0], np.float32))
    of_values = OutputChange(Network("net", (first, scaled)), images)
    assert of_values.of(0, images + 1) == OutputChange(network(), images).of(0, images + 1)
