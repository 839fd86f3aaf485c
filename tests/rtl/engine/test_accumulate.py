# SPDX-License-Identifier: Apache-2.0
"""The accumulator under any mixture of rows and drains; its proof is in tests/formal/test_accumulate.py."""

from dataclasses import asdict

import pytest

from rtl.config import EngineConfig
from rtl.engine.accumulate import Accumulator
from sim.simulator.running import run
from sim.simulator.verilate import build


@pytest.mark.parametrize("config", [EngineConfig(acc_bits=32, acc_depth=8), EngineConfig(acc_bits=24, acc_depth=100),
                                    EngineConfig(acc_depth=32, pes_per_requantizer=2),
                                    EngineConfig(acc_depth=32, single_port=True),
                                    EngineConfig(acc_depth=32, pes_per_requantizer=2, single_port=True)],
                         ids=["32 bits", "24 bits", "rows apart", "few registers", "few registers, rows apart"])
def test_sums_are_exact(config):
    assert run(build(Accumulator(config)), "sim.testbenches.accumulate", parameters=asdict(config)) \
        == ["sums_are_exact"]
