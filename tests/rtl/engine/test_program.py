# SPDX-License-Identifier: Apache-2.0
"""The program's reader: descriptors and codebooks in order, for every form of weights."""

from dataclasses import asdict, replace

import pytest

from rtl.engine.program import Program
from sim.simulator.running import run
from sim.simulator.verilate import build
from tests.support.units import UNIT


@pytest.mark.parametrize("weights", [
    {"weight_bits": 6, "code_bits": 5},
    {"weight_bits": 16},
    {"weight_bits": 6, "code_bits": 6, "direct_weights": True},
    {"tap_bits": 2, "program_depth": 250},
    {"tap_bits": 3, "program_depth": 250, "weight_bits": 6, "code_bits": 6, "direct_weights": True},
    {"act_table": True, "program_depth": 250},
    {"act_table": True, "program_depth": 250, "weight_bits": 6, "code_bits": 6, "direct_weights": True},
    {"act_table": True, "program_depth": 250, "tap_bits": 2},
], ids=["8-bit-values", "16-bit-values", "direct", "taps", "direct-taps", "tables", "direct-tables", "taps-tables"])
def test_descriptors_and_codebooks_come_in_order(weights):
    config = replace(UNIT, **weights)
    assert run(build(Program(config)), "sim.testbenches.program", parameters={"config": asdict(config)}) \
        == ["descriptors_and_codebooks_come_in_order"]
