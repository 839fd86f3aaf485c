# SPDX-License-Identifier: Apache-2.0
"""The commands: every opcode, every reason to refuse it, and no effect of what was refused."""

from dataclasses import asdict, replace

import pytest

from rtl.engine.commands import Commands
from sim.simulator.running import run
from sim.simulator.verilate import build
from tests.support.units import UNIT

WIDE_ACTS = replace(UNIT, pes=8, act_bits=16)
TWO_LANES = replace(UNIT, pes=2, slice_word_bits=8, act_depth=64)


@pytest.mark.parametrize("config, idle, stall", [(UNIT, 0.0, 0.0), (UNIT, 0.4, 0.4), (WIDE_ACTS, 0.2, 0.6),
                                                 (TWO_LANES, 0.1, 0.1)])
def test_requests_are_carried_out_or_refused(config, idle, stall):
    parameters = {"config": asdict(config), "idle": idle, "stall": stall}
    assert run(build(Commands(config)), "sim.testbenches.commands", parameters=parameters) \
        == ["requests_are_carried_out_or_refused"]
