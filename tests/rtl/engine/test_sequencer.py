# SPDX-License-Identifier: Apache-2.0
"""The sequencer: the order of fetch, codebook, scan and drain, whatever each of them takes."""

from rtl.engine.sequencer import Sequencer
from sim.simulator.running import run
from sim.simulator.verilate import build
from tests.support.units import UNIT


def test_layers_run_in_order():
    assert run(build(Sequencer(UNIT)), "sim.testbenches.sequencer") == ["layers_run_in_order"]
