# SPDX-License-Identifier: Apache-2.0
"""Convolutions in RTL: every layer equal to plain sums to the bit, every counter equal to the cycle model."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from host.cycle_model.predict import predict
from host.device.device import Device
from rtl.config import EngineConfig
from sim.simulator.link import SimulationLink
from tests.support.engines import built_engine
from tests.support.scatter import compile_convs, random_conv

SMALL = EngineConfig(pes=4, index_bits=(5,), entries_per_word=4, entry_depth=2048, length_bits=6, slice_word_bits=12,
                     slice_depth=256, act_depth=1024, acc_depth=600, queue_depth=16, program_depth=1024, tap_bits=2,
                     packet_bytes=256)
CONFIGS = {"4x4 taps": SMALL,
           "8x8 taps": replace(SMALL, index_bits=(6,), tap_bits=3, entries_per_word=2, acc_bits=26,
                               pes_per_requantizer=4),
           # A word of activations goes through the scanner in two groups.
           "many blocks": replace(SMALL, pes=16, entry_depth=512, packet_bytes=512)}

NETWORKS = {
    # input (channels, rows, columns), then each convolution: outputs and geometry
    "one pixel": ((5, 1, 1), [(6, {"kernel": 1})]),
    "usual": ((3, 7, 6), [(6, {})]),
    "padded": ((3, 7, 6), [(6, {"padding": 1})]),
    "pooled": ((2, 8, 9), [(5, {"padding": 1, "pool": 2, "pool_step": 2})]),
    "overlapping windows": ((2, 9, 9), [(5, {"pool": 3, "pool_step": 2})]),
    "strided": ((3, 9, 8), [(9, {"stride": 2, "padding": 1})]),
    "stride of three": ((1, 11, 10), [(4, {"stride": 3, "kernel": 4})]),
    "pointwise": ((6, 5, 4), [(7, {"kernel": 1, "density": 0.2})]),
    "sparse": ((9, 6, 6), [(12, {"density": 0.03})]),
    "dense": ((2, 5, 5), [(4, {"density": 1.0})]),
    "chain": ((3, 10, 10), [(6, {"padding": 1, "pool": 2, "pool_step": 2}), (9, {}), (5, {"kernel": 1})]),
    "strided chain": ((3, 9, 9), [(4, {"stride": 2}), (6, {"stride": 2, "padding": 1})]),
}


def random_acts(rng, shape, images, act_bits, density):
    acts = rng.integers(1, 1 << act_bits, (images, *shape))
    acts[rng.random(acts.shape) >= density] = 0
    return acts


@pytest.mark.parametrize("name", CONFIGS)
def test_random_convolutions(name):
    """One engine runs all of them, one after the other, so that none may leave anything behind."""
    config = CONFIGS[name]
    with SimulationLink(built_engine(config), idle=0.02, stall=0.02, patience_cycles=100_000, seed=3) as link:
        device = Device(link, config)
        for seed, (kind, (shape, layers)) in enumerate(NETWORKS.items()):
            rng = np.random.default_rng(seed)
            convs, channels = [], shape[0]
            for outputs, traits in layers:
                convs.append(random_conv(rng, config, channels, outputs, **traits))
                channels = outputs
            image, passes = compile_convs(convs, shape, config)
            acts = random_acts(rng, shape, 4, config.act_bits, 0.6)
            acts = np.concatenate([acts, acts[:1]])
            golden, last = [], acts
            for conv in convs:
                last = conv.forward(last, config.act_bits)
                golden.append(last.reshape(len(acts), -1))
            flat = acts.reshape(len(acts), -1)
            device.load(image)
            inferences = list(device.inferences(flat, every_layer=True))
            outputs = [np.stack([one.layers[place] for one in inferences]) for place in range(len(golden))]
            for number, (expected, seen) in enumerate(zip(golden, outputs, strict=True)):
                unsigned = expected & ((1 << config.act_bits) - 1)
                assert (kind, number, unsigned.tolist()) == (kind, number, seen.tolist())
            decoded = SimpleNamespace(image=image, config=config, passes=passes,
                                      network=SimpleNamespace(layers=convs))
            predicted = predict(decoded, flat, golden).counters
            counters = {key: [one.counters[key] for one in inferences] for key in inferences[0].counters}
            assert (kind, {key: values.tolist() for key, values in predicted.items()}) == (kind, counters)
