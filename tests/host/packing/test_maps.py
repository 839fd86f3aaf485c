# SPDX-License-Identifier: Apache-2.0
"""Feature maps that fully connected layers give: packed, read back, and run by a slow model of the engine."""

from dataclasses import replace

import numpy as np
import pytest

from host.network.graph import INPUT
from host.network.layers import Geometry
from host.packing.balance_rows import assign_map
from host.packing.pack import pack
from host.quantization.golden_model import forward
from host.quantization.integer_network import QuantizedNetwork
from tests.host.packing.test_convolutions import check
from tests.support.networks import CONVOLUTIONS, WIDE_TAPS, random_acts, random_decoder


@pytest.mark.parametrize("seed", range(20))
def test_random_maps_run_as_the_golden_model(seed):
    rng = np.random.default_rng(seed)
    config = (CONVOLUTIONS, WIDE_TAPS)[seed % 2]
    maps = [tuple(rng.integers(1, (13, 8, 8)).tolist()) for _ in range(2)]
    network = random_decoder(rng, config, int(rng.integers(1, 20)), maps, 0.3, signed=bool(rng.integers(2)))
    activity = [rng.random(network.inputs), *(rng.random(layer.outputs) for layer in network.layers)]
    check(network, config, seed, activity if seed % 3 else None)


@pytest.mark.parametrize("balance", [False, True])
def test_a_channel_has_the_same_place_in_every_pixel(balance):
    work = np.random.default_rng(0).random(6 * 5)
    found = assign_map(work, 6, 4, 3, balance=balance)
    assert (found.words, len(found.passes)) == (10, 4)
    places = found.position.reshape(6, 5)
    assert np.array_equal(places, places[:, :1] + np.arange(5) * 2 * 4) and np.unique(places).size == 30
    assert places[:, 0].max() < 2 * 4


def test_passes_end_within_a_pixel():
    """Fewer accumulators than words: six at a time, of maps of four words a pixel."""
    config = replace(CONVOLUTIONS, acc_depth=8)
    network = random_decoder(np.random.default_rng(3), CONVOLUTIONS, 9, [(13, 3, 1)], 0.5)
    network = replace(network, layers=network.layers[:1])
    assert [one.encoded.slots for one in pack(network, config).layers[0].passes] == [range(6), range(6, 12)]
    check(network, config)


def test_an_input_that_a_matrix_and_a_convolution_take():
    """The input lies as the convolution takes it, although the first layer is fully connected."""
    rng = np.random.default_rng(1)
    for first_added in (False, True):
        matrix, conv, *_ = random_decoder(rng, CONVOLUTIONS, 5 * 4 * 3, [(5, 4, 3)], 0.4).layers
        conv = replace(conv, name="conv", source=INPUT, geometry=Geometry((5, 4, 3), (1, 1)), codes=rng.integers(
            0, 8, (5, 5)).astype(np.uint8), bias=rng.integers(-9, 9, 5), added=matrix.name, added_weight=2,
            added_signed=matrix.activation.signed, input_signed=False)
        if first_added:
            conv = replace(conv, source=None, added=INPUT, added_signed=False, input_signed=matrix.activation.signed)
        network = QuantizedNetwork("both", (matrix, conv), 1.0, False, 8)
        image = check(network, CONVOLUTIONS)
        assert len(image.input_values) == 2 * 4 * 4 * 3
        assert forward(network, random_acts(rng, network, 3, 0.5))[-1].any()
