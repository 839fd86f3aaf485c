# SPDX-License-Identifier: Apache-2.0
"""Entry memory in RTL, with one to three planes."""

from dataclasses import asdict

import pytest

from rtl.config import EngineConfig
from rtl.engine.entries import EntryMemory
from sim.simulator.running import run
from sim.simulator.verilate import build


@pytest.mark.parametrize("config", [
    EngineConfig(pes=8, entry_depth=64),
    EngineConfig(pes=8, entry_depth=40, code_bits=5, index_bits=(2, 3, 6), entries_per_word=2),
    EngineConfig(pes=4, slice_word_bits=16, entry_depth=64, index_bits=(5,), entries_per_word=8, act_bits=16),
    EngineConfig(pes=8, entry_depth=40, index_bits=(2, 3, 6), single_port=True),
], ids=["two planes", "three planes", "one plane", "one port"])
def test_words_are_read_as_written(config):
    assert run(build(EntryMemory(config)), "sim.testbenches.entries", parameters=asdict(config)) \
        == ["words_are_read_as_written"]
