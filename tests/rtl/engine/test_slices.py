# SPDX-License-Identifier: Apache-2.0
"""Slice lookup in RTL: both widths of lengths, large blocks and the smallest."""

from dataclasses import asdict

import pytest

from rtl.config import EngineConfig
from rtl.engine.slices import SliceLookup
from sim.simulator.running import run
from sim.simulator.verilate import build


@pytest.mark.parametrize("config, pes, own", [
    (EngineConfig(), 1, 0),
    (EngineConfig(pes=2, slice_word_bits=8, slice_depth=50, act_bits=16), 2, 1),
    (EngineConfig(pes=4, length_bits=2, slice_word_bits=8, entry_depth=100, entries_per_word=2), 4, 2),
    (EngineConfig(pes=4, slice_word_bits=16, single_port=True), 4, 3),
], ids=["eight columns", "two columns", "short lengths", "few registers"])
def test_beats_become_jobs(config, pes, own):
    """Slices of one PE, beside others whose memories hold anything."""
    parameters = {"config": asdict(config), "pes": pes, "own": own}
    assert run(build(SliceLookup(config, pes)), "sim.testbenches.slices", parameters=parameters) \
        == ["beats_become_jobs"]
