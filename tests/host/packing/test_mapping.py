# SPDX-License-Identifier: Apache-2.0
"""Layers whose taps often fall outside the output: what that is expected to cost, and how they are balanced."""

from dataclasses import replace

import numpy as np
import pytest

from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.image.image import parse_image
from host.network.layers import Geometry
from host.packing import mapping
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from host.quantization.work import layer_work
from rtl.config import PRESETS
from tests.support.networks import random_acts, random_convolutions


def lenet_like(seed):
    """A convolution of 5 x 5 taps on 12 x 12 pixels, and images for it.

    As in pruned networks some channels and places of the kernel have more weights than others, some inputs more zeros.
    """
    rng = np.random.default_rng(seed)
    geometry = Geometry((16, 12, 12), (5, 5), pool=2, pool_stride=2)
    network = random_convolutions(rng, PRESETS["conv"], [(48, geometry)], [10], 1)
    kept = rng.uniform(0.2, 1, (48, 1, 1)) * rng.uniform(0.2, 1, (48, 1, 25)) * rng.uniform(0.2, 1, (1, 16, 1))
    codes = network.layers[0].codes
    codes[rng.random(codes.shape) >= 0.07 * kept.reshape(codes.shape) / kept.mean()] = 0
    often = rng.random((3, 16, 144)) < rng.uniform(0.1, 1, (1, 16, 1))
    return network, random_acts(rng, network, 3, 1) * often.reshape(3, -1)


def test_dropped_taps_count_as_told():
    """Two groups of a channel: each tap of a weight meets some of its channel's inputs, and misses the others."""
    geometry = Geometry((2, 2, 3), (1, 2), groups=2)
    network = random_convolutions(np.random.default_rng(0), PRESETS["conv"], [(2, geometry)], [], 1)
    layer = replace(network.layers[0], codes=np.array([[1, 0], [3, 2]], np.uint8))
    often = np.array([1, 2, 4, 8, 16, 32, 1, 1, 1, 1, 1, 1])
    assert layer_work(layer, often).tolist() == [1 + 2 + 8 + 16, 4 + 4]
    assert layer_work(layer, often, dropped=0.5).tolist() == [1 + 2 + 8 + 16 + (4 + 32) / 2, 4 + 4 + (2 + 2) / 2]


@pytest.mark.parametrize("geometry, share", [
    (Geometry((1, 12, 12), (5, 5)), 1 - (8 / 12) ** 2),
    (Geometry((4, 12, 12), (5, 5), groups=2), 1 - (8 / 12) ** 2),
    (Geometry((1, 12, 12), (5, 5), stride=(2, 2)), 0),      # there the taps are those of other phases
    (Geometry((1, 12, 12), (1, 1)), 0),
])
def test_the_share_of_dropped_taps(geometry, share):
    network = random_convolutions(np.random.default_rng(0), PRESETS["conv"], [(2, geometry)], [], 1)
    assert mapping.dropped_share(network.layers[0]) == pytest.approx(share)


def test_a_layer_that_drops_many_taps_gets_the_best_of_several_balances(monkeypatch):
    """The cycles of several networks count, since what a balance costs is only expected."""
    def cycles():
        total = 0.0
        for network, acts in networks:
            outputs = forward(network, acts)
            activity = [(values != 0).mean(axis=0) for values in (acts, *outputs[:-1])]
            image = parse_image(image_file(pack(network, PRESETS["conv"], activity=activity)), PRESETS["conv"])
            total += predict(decode(image, PRESETS["conv"]), acts, outputs).counters["cycles"].mean()
        return total

    networks = [lenet_like(seed) for seed in range(4)]
    best = cycles()
    monkeypatch.setattr(mapping, "DROPPED", mapping.DROPPED[:1])
    assert best < cycles()
