# SPDX-License-Identifier: Apache-2.0
"""The sequencer: the order of fetch, codebook, scan and drain, whatever each of them takes."""

from rtl.sequencer import Sequencer
from sim.running import run
from sim.verilate import build
from tests.units import UNIT


def test_layers_run_in_order():
    assert run(build(Sequencer(UNIT)), "sim.benches.sequencer") == ["layers_run_in_order"]
