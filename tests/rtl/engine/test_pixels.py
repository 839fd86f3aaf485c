# SPDX-License-Identifier: Apache-2.0
"""Pixels, pooling windows and their greatest activations in RTL."""

from dataclasses import asdict, replace

import pytest

from rtl.engine.pixels import Pixels
from rtl.engine.pooling import MaxPool, Windows
from sim.simulator.running import run
from sim.simulator.verilate import build
from tests.support.units import UNIT

CONFIG = replace(UNIT, tap_bits=2)


@pytest.mark.parametrize("unit, case", [
    (Pixels, "pixels_come_in_order"),
    (Windows, "windows_come_in_order"),
    (MaxPool, "the_greatest_of_each_window_comes_out"),
])
@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, tap_bits=3, act_bits=16, acc_bits=24)],
                         ids=["4x4 taps", "8x8 taps"])
def test_unit(unit, case, config):
    assert run(build(unit(config)), "sim.testbenches.pixels", parameters=asdict(config), tests=[case]) == [case]
