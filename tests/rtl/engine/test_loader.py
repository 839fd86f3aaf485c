# SPDX-License-Identifier: Apache-2.0
"""The loader: sound images, and every way in which an image can be wrong."""

from dataclasses import asdict, replace

import pytest

from rtl.engine.loader import Loader
from sim.simulator.running import run
from sim.simulator.verilate import build
from tests.support.units import UNIT

WIDE_ENTRIES = replace(UNIT, code_bits=5, index_bits=(4,), entries_per_word=8)


@pytest.mark.parametrize("config, idle", [(UNIT, 0.0), (UNIT, 0.4), (WIDE_ENTRIES, 0.1)])
def test_images_are_taken_apart(config, idle):
    parameters = {"config": asdict(config), "idle": idle}
    assert run(build(Loader(config)), "sim.testbenches.loader", parameters=parameters) \
        == ["images_are_taken_apart", "a_length_that_goes_round_is_refused",
            "a_beginning_forgets_what_was_wrong_just_before"]
