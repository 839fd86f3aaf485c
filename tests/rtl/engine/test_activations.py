# SPDX-License-Identifier: Apache-2.0
"""The activation memory under reads and writes at random."""

from dataclasses import asdict, replace

import pytest

from rtl.engine.activations import ActivationMemory
from sim.simulator.running import run
from sim.simulator.verilate import build
from tests.support.units import UNIT


@pytest.mark.parametrize("config", [UNIT, replace(UNIT, single_port=True)], ids=["flags stored", "flags found"])
def test_words_come_out_as_they_were_written(config):
    assert run(build(ActivationMemory(config)), "sim.testbenches.activations", parameters={"config": asdict(config)}) \
        == ["words_come_out_as_they_were_written"]
