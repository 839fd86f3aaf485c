# SPDX-License-Identifier: Apache-2.0
"""Whole networks in RTL: every layer equal to golden to the bit, every counter equal to the cycle model."""


import numpy as np
import pytest

from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.device.device import Device
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from host.verification.compare import compare
from rtl.config import PRESETS
from rtl.protocol import COUNTERS
from sim.simulator.link import SimulationLink
from tests.support.engines import built_engine
from tests.support.networks import QUEUED, SHARED, SMALL, WIDE_ACTS, random_acts, random_network

CONFIGS = {"small": SMALL, "wide-acts": WIDE_ACTS, "tiny": PRESETS["tiny"], "shared": SHARED, "queued": QUEUED}

NETWORKS = {
    # sizes, weight density, activation density, further traits
    "usual": ([60, 40, 20, 5], 0.2, 0.4, {}),
    "dense": ([20, 24, 9], 1.0, 1.0, {}),
    "queues are full": ([120, 12, 5], 1.0, 1.0, {}),
    "sparse": ([100, 60, 30, 4], 0.02, 0.2, {}),
    "without weights": ([10, 6, 3], 0.0, 0.5, {}),
    "all-zero inputs": ([30, 20, 10], 0.3, 0.0, {}),
    "one neuron": ([17, 1, 1, 3], 0.8, 0.5, {}),
    "extreme values": ([40, 30, 10], 0.5, 0.9, {"extreme": True}),
    "signed inputs": ([40, 30, 10], 0.3, 0.7, {"signed": True}),
    "one layer": ([50, 33], 0.3, 0.5, {}),
}


def run(name, link, network, acts, config, *, fresh=True):
    """Loads and runs; returns the comparison with golden and cycle model."""
    image = parse_image(image_file(pack(network, config)), config)
    words = image.input_words + sum(layer["output_words"] for layer in image.layers)
    assert image.readable == list(range(len(network.layers))) or words > config.act_depth
    assert image.readable[-1] == len(network.layers) - 1
    decoded = decode(image, config)
    device = Device(link, config)
    device.load(image)
    inferences = list(device.inferences(acts, every_layer=True))
    golden = forward(network, acts)
    assert inferences
    outputs = [np.stack([one.layers[place] for one in inferences]) for place in range(len(image.readable))]
    counters = {key: np.array([one.counters[key] for one in inferences]) for key in inferences[0].counters}
    predicted = predict(decoded, acts, golden)
    assert predicted.counters["useful_macs"].tolist() == useful_macs(network, acts, golden)
    return compare([golden[number] for number in image.readable], outputs, predicted.counters, counters,
                   config.act_bits)


def useful_macs(network, acts, golden):
    """Products of a weight and an activation that are both not zero, counted as they are defined."""
    inputs = [acts, *golden[:-1]]
    return sum((values != 0).astype(int) @ (layer.codes != 0).sum(axis=0)
               for values, layer in zip(inputs, network.layers, strict=True)).tolist()


@pytest.mark.parametrize("name", CONFIGS)
def test_random_networks(name):
    """One engine runs all of them, one after the other, so that none may leave anything behind."""
    config = CONFIGS[name]
    with SimulationLink(built_engine(config), idle=0.02, stall=0.02, patience_cycles=50_000, seed=3) as link:
        for seed, (kind, (sizes, density, act_density, traits)) in enumerate(NETWORKS.items()):
            rng = np.random.default_rng(seed)
            network = random_network(rng, config, sizes, density, **traits)
            acts = random_acts(rng, network, 8, act_density, extreme=traits.get("extreme", False))
            # The same input twice, and between others: an inference must not depend on the one before.
            acts = np.concatenate([acts, acts[:1], acts[:1]])
            result = run(name, link, network, acts, config)
            assert (kind, result.mismatches) == (kind, 0)
            assert (kind, result.counter_mismatches) == (kind, dict.fromkeys(COUNTERS, 0))
            assert result.images == 10
