# SPDX-License-Identifier: Apache-2.0
"""Networks with tables of activation functions in RTL: each layer equal to golden, each counter to the cycle model."""

from dataclasses import replace

import numpy as np
import pytest

from rtl.config import PRESETS
from rtl.protocol import COUNTERS
from sim.simulator.link import SimulationLink
from tests.end_to_end.test_chain import run
from tests.support.engines import built_engine
from tests.support.networks import (
    QUEUED,
    TABLES,
    WIDE_ACTS,
    random_acts,
    random_network,
    with_tables,
)

CONFIGS = {
    "small": TABLES, "queued": replace(QUEUED, act_table=True, program_depth=1024),
    "direct weights": replace(WIDE_ACTS, act_bits=8, act_table=True, program_depth=1024),
    "tiny": replace(PRESETS["tiny"], act_table=True, program_depth=1024),
}

NETWORKS = [([60, 40, 20, 5], 0.2, 0.4, {}), ([20, 24, 9], 1.0, 1.0, {}), ([100, 60, 30, 4], 0.02, 0.2, {}),
            ([10, 6, 3, 3, 3, 3, 2], 0.5, 0.5, {"signed": True}), ([40, 30, 10], 0.5, 0.9, {"extreme": True})]
"""Sizes, weight density, activation density, further traits."""


def check(link, network, config, seed, density):
    acts = random_acts(np.random.default_rng(seed), network, 4, density)
    result = run(f"network {seed}", link, network, np.concatenate([acts, acts[:1]]), config)
    assert (seed, result.mismatches) == (seed, 0)
    assert (seed, result.counter_mismatches) == (seed, dict.fromkeys(COUNTERS, 0))


@pytest.mark.parametrize("name", CONFIGS)
def test_fully_connected_layers(name):
    config = CONFIGS[name]
    with SimulationLink(built_engine(config), idle=0.02, stall=0.02, patience_cycles=50_000, seed=3) as link:
        for seed, (sizes, density, act_density, traits) in enumerate(NETWORKS):
            rng = np.random.default_rng(seed)
            network = with_tables(rng, random_network(rng, config, sizes, density, **traits), share=[0.7, 1][seed % 2])
            check(link, network, config, seed, act_density)
