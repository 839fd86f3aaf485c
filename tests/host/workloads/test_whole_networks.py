# SPDX-License-Identifier: Apache-2.0
"""Drawn networks have the sizes and densities that were published."""

import numpy as np
import pytest

from host.workloads.whole_networks import ALEXNET, VGG16, draw_images, draw_network
from tests.support.drawn import SMALL


def test_drawn_networks_have_their_densities():
    images = draw_images(SMALL.in_shape, 4, 1)
    assert images.shape == (4, 3, 12, 12) and images.std() > 40
    assert not np.array_equal(images, draw_images(SMALL.in_shape, 4, 2))
    shared = draw_network(SMALL, images, 4, 1)
    for layer, stage in zip(shared.layers, SMALL.stages, strict=True):
        assert (layer.codes != 0).mean() == pytest.approx(stage.weight_density, abs=0.01)
        assert layer.activation.signed == (stage.act_density == 1) and (layer.geometry is None) == (stage.kernel == 0)
        assert layer.codes.max() < 16 and layer.values[0] == 0
    again = draw_network(SMALL, images, 4, 1)
    assert all(np.array_equal(one.codes, other.codes) for one, other in zip(shared.layers, again.layers, strict=True))


@pytest.mark.parametrize("drawn, weights", [(ALEXNET, 60_954_656), (VGG16, 138_344_128)])
def test_sizes_of_the_published_networks(drawn, weights):
    """The published numbers of weights are without biases."""
    shape: tuple[int, ...] = drawn.in_shape
    found = 0
    for stage in drawn.stages:
        geometry = stage.geometry(shape)
        found += stage.outputs * (shape[0] // stage.groups * stage.kernel ** 2 if geometry else int(np.prod(shape)))
        shape = (stage.outputs, *geometry.out_shape) if geometry else (stage.outputs, 1, 1)
    assert found == weights
