# SPDX-License-Identifier: Apache-2.0
"""The drain: rows, biases and addresses, with activations that arrive late."""

from dataclasses import asdict, replace

import pytest

from rtl.engine.drain import Drain
from sim.simulator.running import run
from sim.simulator.verilate import build
from tests.support.units import UNIT


@pytest.mark.parametrize("index_bits, entries_per_word, share, bias_words, row_cycles", [
    ((4,), 4, 1, 1, 1), ((2,), 2, 1, 3, 3), ((4,), 4, 2, 1, 2), ((2,), 2, 2, 3, 3), ((2,), 2, 4, 3, 4)])
def test_every_row_is_read_and_every_word_written(index_bits, entries_per_word, share, bias_words, row_cycles):
    config = replace(UNIT, index_bits=index_bits, entries_per_word=entries_per_word, pes_per_requantizer=share)
    assert (config.bias_words, config.row_cycles) == (bias_words, row_cycles)
    assert run(build(Drain(config)), "sim.testbenches.drain", parameters={"config": asdict(config)}) \
        == ["every_row_is_read_and_every_word_written"]
