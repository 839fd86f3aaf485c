# SPDX-License-Identifier: Apache-2.0
"""Networks with tables of activation functions in RTL: each layer equal to golden, each counter to the cycle model."""

from dataclasses import replace

import numpy as np
import pytest

from host.network.layers import Geometry
from rtl.config import PRESETS
from tests.end_to_end.test_packed_convolutions import NETWORKS as CONVOLUTIONAL
from tests.end_to_end.test_packed_convolutions import check, engine
from tests.support.networks import (
    CONVOLUTIONS,
    QUEUED,
    TABLES,
    WIDE_ACTS,
    random_acts,
    random_branches,
    random_convolutions,
    random_network,
    with_tables,
)

CONFIGS = {
    "small": TABLES, "queued": replace(QUEUED, act_table=True, program_depth=1024),
    "direct weights": replace(WIDE_ACTS, act_bits=8, act_table=True, program_depth=1024),
    "tiny": replace(PRESETS["tiny"], act_table=True, program_depth=1024),
}

TABLED = replace(CONVOLUTIONS, act_table=True)

NETWORKS = [([60, 40, 20, 5], 0.2, 0.4, {}), ([20, 24, 9], 1.0, 1.0, {}), ([100, 60, 30, 4], 0.02, 0.2, {}),
            ([10, 6, 3, 3, 3, 3, 2], 0.5, 0.5, {"signed": True}), ([40, 30, 10], 0.5, 0.9, {"extreme": True})]
"""Sizes, weight density, activation density, further traits. Some layers are scanned faster than a table is sent."""


@pytest.mark.parametrize("name", CONFIGS)
def test_fully_connected_layers(name):
    config = CONFIGS[name]
    with engine(config) as device:
        for seed, (sizes, density, act_density, traits) in enumerate(NETWORKS):
            rng = np.random.default_rng(seed)
            network = with_tables(rng, random_network(rng, config, sizes, density, **traits), share=[0.7, 1][seed % 2])
            acts = random_acts(rng, network, 4, act_density)
            check(device, config, seed, network, np.concatenate([acts, acts[:1]]))


def test_convolutions():
    with engine(TABLED) as device:
        for seed, (kind, (convolutions, sizes, density, signed)) in enumerate(CONVOLUTIONAL.items()):
            rng = np.random.default_rng(seed)
            network = with_tables(rng, random_convolutions(rng, TABLED, convolutions, sizes, density, signed=signed))
            check(device, TABLED, kind, network, random_acts(rng, network, 3, 0.6))


def test_two_bands_and_sums():
    with engine(TABLED) as device:
        rng = np.random.default_rng(1)
        first = 6, Geometry((2, 16, 7), (3, 3), padding=(1, 1), pool=2, pool_stride=2)
        network = random_convolutions(rng, TABLED, [first, (5, Geometry((6, 8, 3), (2, 2)))], [7], 0.7)
        codes = network.layers[0].codes
        codes[:] = rng.integers(1, 1 << TABLED.code_bits, codes.shape)
        network = with_tables(rng, network, share=1)
        packed = check(device, TABLED, "bands", network, random_acts(rng, network, 3, 0.6))
        assert packed.fold is not None and packed.fold.bands == 2
        for seed in range(3):
            rng = np.random.default_rng(seed)
            network = with_tables(rng, random_branches(rng, TABLED, (5, 7, 6), 5, signed=bool(seed % 2)))
            check(device, TABLED, seed, network, random_acts(rng, network, 3, 0.6))
