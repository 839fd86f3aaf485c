# SPDX-License-Identifier: Apache-2.0
"""The drain: rows, biases and addresses, with activations that arrive late."""

from dataclasses import asdict, replace

import pytest

from rtl.drain import Drain
from sim.running import run
from sim.verilate import build
from tests.units import UNIT


@pytest.mark.parametrize("index_bits, entries_per_word, bias_words", [((4,), 4, 1), ((2,), 2, 3)])
def test_every_row_is_read_and_every_word_written(index_bits, entries_per_word, bias_words):
    config = replace(UNIT, index_bits=index_bits, entries_per_word=entries_per_word)
    assert config.bias_words == bias_words
    assert run(build(Drain(config)), "sim.benches.drain", parameters={"config": asdict(config)}) \
        == ["every_row_is_read_and_every_word_written"]
