# SPDX-License-Identifier: Apache-2.0
"""Layers in a recording, compared with what packed them."""

import numpy as np
import pytest

from host.decoding.decode import decode
from host.image.image import parse_image
from host.network.layers import Geometry
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.view.recording import bin_cycles, layer_figures
from tests.support.networks import CONVOLUTIONS, SMALL, random_convolutions, random_network


def networks():
    rng = np.random.default_rng(3)
    yield SMALL, random_network(rng, SMALL, [60, 30, 20, 10], 0.3)
    for geometry in (Geometry((2, 9, 9), (3, 3), (2, 2), (1, 1)), Geometry((1, 12, 12), (5, 5), pool=2, pool_stride=2)):
        yield CONVOLUTIONS, random_convolutions(rng, CONVOLUTIONS, [(6, geometry)], [10], 0.5)


@pytest.mark.parametrize("config, network", list(networks()))
def test_layers_take_what_the_compiler_says(config, network):
    packed = pack(network, config)
    decoded = decode(parse_image(image_file(packed), config), config)
    figures = layer_figures(decoded, None)
    assert sum(layer["bits"] for layer in figures) == sum(
        bits for purpose, bits in packed.storage_bits.items() if purpose not in ("codebooks", "program"))
    for layer, told in zip(packed.layers, figures, strict=True):
        encoded = [one.encoded for one in layer.passes]
        quantized = layer.quantized
        assert (told["name"], told["weights_kept"]) == (quantized.name, quantized.weights_kept)
        assert (told["inputs"], told["outputs"]) == (quantized.inputs, quantized.outputs)
        assert told["entries"] == sum(one.entries for one in encoded)
        assert told["index_bits"] == encoded[0].index_bits
        assert told["weights_total"] == quantized.codes.size


@pytest.mark.parametrize("cycles, pes, expected", [
    (1, 2, 1), (416, 16, 1), (1000, 16, 1), (1001, 16, 2), (50_500_000, 64, 50_500), (256, 256, 1), (257, 256, 2)])
def test_bins_are_bounded(cycles, pes, expected):
    assert bin_cycles(cycles, pes) == expected
