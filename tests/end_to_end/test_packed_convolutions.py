# SPDX-License-Identifier: Apache-2.0
"""Packed convolutional networks in RTL: every output equal to the golden model, every counter to the cycle model."""

from contextlib import contextmanager

import numpy as np
import pytest

from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.device.device import Device
from host.image.image import parse_image
from host.network.layers import Geometry
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from host.verification.compare import compare
from rtl.protocol import COUNTERS
from sim.simulator.link import SimulationLink
from tests.support.engines import built_engine
from tests.support.networks import (
    CONVOLUTIONS,
    WIDE_TAPS,
    random_acts,
    random_branches,
    random_convolutions,
    random_decoder,
)

NETWORKS = {
    # convolutions (output channels, geometry), rows of fully connected layers, density, signed inputs
    "LeNet": ([(6, Geometry((1, 12, 12), (5, 5), padding=(2, 2), pool=2, pool_stride=2)),
               (8, Geometry((6, 6, 6), (3, 3), pool=2, pool_stride=2))], [10, 5], 0.4, False),
    "strides": ([(9, Geometry((3, 11, 9), (3, 3), (2, 2), (1, 1))), (5, Geometry((9, 6, 5), (1, 1), (2, 2)))], [4], 0.4,
                True),
    "groups": ([(6, Geometry((6, 7, 7), (3, 3), padding=(1, 1), groups=6)), (12, Geometry((6, 7, 7), (1, 1)))], [], 0.6,
               False),
    "large kernel": ([(7, Geometry((3, 19, 19), (11, 11), (4, 4), (2, 2), pool=3, pool_stride=1))], [6], 0.3, False),
    "unmet phase": ([(5, Geometry((3, 8, 8), (3, 3))), (9, Geometry((5, 6, 6), (1, 1), (2, 2), (1, 1)))], [], 0.8,
                    False),
    "sparse": ([(40, Geometry((7, 5, 5), (2, 2))), (30, Geometry((40, 4, 4), (3, 3)))], [9], 0.04, False),
    # More activations than fit at once; the second layer takes two passes of rows, the others overwrite their inputs.
    "in place": ([(4, Geometry((3, 16, 16), (3, 3), padding=(1, 1))),
                  (8, Geometry((4, 16, 16), (3, 3), padding=(1, 1))),
                  (4, Geometry((8, 16, 16), (3, 3), padding=(1, 1)))], [5], 0.3, False),
}


FOLDED = {
    # Rows and geometry of a first convolution without zeros; its bands
    "bands": (6, Geometry((2, 16, 7), (3, 3), padding=(1, 1), pool=2, pool_stride=2), 2),
    "bands that overlap": (6, Geometry((1, 19, 8), (3, 3), pool=3, pool_stride=2), 2),
    "phases": (8, Geometry((3, 12, 11), (5, 4), (3, 2), (2, 1)), 1),
    "phases and bands": (6, Geometry((2, 25, 12), (4, 3), (2, 2), (1, 0), pool=2, pool_stride=1), 2),
    "groups": (6, Geometry((4, 17, 6), (3, 3), padding=(1, 1), groups=2), 2),
}


def check(device, config, kind, network, acts):
    """Compares outputs of all layers that can be read, and counters; returns what was packed."""
    packed = pack(network, config)
    image = parse_image(image_file(packed), config)
    words = image.input_words + sum(layer["output_words"] for layer in image.layers)
    assert image.readable == list(range(len(network.layers))) or words > config.act_depth
    assert image.readable[-1] == len(network.layers) - 1
    device.load(image)
    inferences = list(device.inferences(acts, every_layer=True))
    outputs = [np.stack([one.layers[place] for one in inferences]) for place in range(len(image.readable))]
    counters = {key: np.array([one.counters[key] for one in inferences]) for key in inferences[0].counters}
    golden = forward(network, acts)
    result = compare([golden[number] for number in image.readable], outputs,
                     predict(decode(image, config), acts, golden).counters, counters, config.act_bits)
    assert (kind, result.images, result.mismatches) == (kind, len(acts), 0)
    assert (kind, result.counter_mismatches) == (kind, dict.fromkeys(COUNTERS, 0))
    return packed


@contextmanager
def engine(config):
    """An engine runs all networks of a test, one after the other, so that none may leave anything behind."""
    with SimulationLink(built_engine(config), idle=0.02, stall=0.02, patience_cycles=300_000, seed=3) as link:
        yield Device(link, config)


@pytest.mark.parametrize("config", [CONVOLUTIONS, WIDE_TAPS], ids=["4x4 taps", "8x8 taps"])
def test_packed_networks(config):
    with engine(config) as device:
        for seed, (kind, (convolutions, sizes, density, signed)) in enumerate(NETWORKS.items()):
            rng = np.random.default_rng(seed)
            network = random_convolutions(rng, config, convolutions, sizes, density, signed=signed)
            check(device, config, kind, network, random_acts(rng, network, 3, 0.6))


def test_folded_first_convolutions():
    """`FOLDED` tells the bands that the packer makes for four PEs."""
    config = CONVOLUTIONS
    with engine(config) as device:
        for seed, (kind, (rows, geometry, bands)) in enumerate(FOLDED.items()):
            rng = np.random.default_rng(seed)
            following = 5, Geometry((rows, *geometry.out_shape), (2, 2))
            network = random_convolutions(rng, config, [(rows, geometry), following], [7], 0.7)
            codes = network.layers[0].codes
            codes[:] = rng.integers(1, 1 << config.code_bits, codes.shape)
            packed = check(device, config, kind, network, random_acts(rng, network, 3, 0.6))
            assert packed.fold is not None and (kind, packed.fold.bands) == (kind, bands)


@pytest.mark.parametrize(("config", "large"), [(CONVOLUTIONS, (4, 13, 13)), (WIDE_TAPS, (5, 13, 13))],
                         ids=["4x4 taps", "8x8 taps"])
def test_branches(config, large):
    """Sums of layers, some of more values than the activation memory holds at once."""
    added, overwritten = 0, 0
    with engine(config) as device:
        for seed in range(8):
            rng = np.random.default_rng(seed)
            shape, count = tuple(rng.integers(1, (7, 12, 12)).tolist()), int(rng.integers(2, 7))
            if seed % 4 == 3:
                shape, count = large, 6
            network = random_branches(rng, config, shape, count, signed=bool(seed % 2))
            packed = check(device, config, seed, network, random_acts(rng, network, 3, 0.6))
            added += sum(layer.added is not None for layer in network.layers)
            overwritten += len(network.layers) - len(parse_image(image_file(packed), config).readable)
    assert added > 12 and overwritten > 3


@pytest.mark.parametrize("config", [CONVOLUTIONS, WIDE_TAPS], ids=["4x4 taps", "8x8 taps"])
def test_maps_of_fully_connected_layers(config):
    """Convolutions and poolings of the outputs of fully connected layers, some of several passes; sums of both."""
    several, added = 0, 0
    with engine(config) as device:
        for seed in range(6):
            rng = np.random.default_rng(seed)
            maps = [tuple(rng.integers(1, (11, 7, 7)).tolist()) for _ in range(2)]
            if seed == 5:
                maps = [(7, 14, 11) if config is CONVOLUTIONS else (4, 17, 17)]
            network = random_decoder(rng, config, int(rng.integers(3, 30)), maps, 0.3, signed=bool(seed % 2))
            packed = check(device, config, seed, network, random_acts(rng, network, 3, 0.6))
            several += sum(len(layer.assignment.passes) > 1 for layer in packed.layers if layer.quantized.out_map)
            added += sum(layer.added is not None for layer in network.layers)
    assert several and added > 1
