# SPDX-License-Identifier: Apache-2.0
"""The broadcast in one group of receivers and in several."""

import pytest
from amaranth.lib.data import StructLayout

from rtl.engine.broadcast import Broadcast
from sim.simulator.running import run
from sim.simulator.verilate import build


@pytest.mark.parametrize("copies, cycles", [(3, 1), (20, 3)])
def test_every_copy_arrives_in_time(copies, cycles):
    assert run(build(Broadcast(5, copies, cycles)), "sim.testbenches.broadcast",
               parameters={"copies": copies, "cycles": cycles}, tests=["every_copy_arrives_in_time"]) \
        == ["every_copy_arrives_in_time"]


def test_a_reset_clears_the_flags_under_way():
    shape = StructLayout({"word": 4, "go": 1, "place": 3, "stop": 1})
    flags = 1 << 4 | 1 << 8
    assert run(build(Broadcast(shape, 3, 3, resets=("go", "stop"))), "sim.testbenches.broadcast",
               parameters={"copies": 3, "cycles": 3, "flags": flags}, tests=["a_reset_clears_the_flags_under_way"]) \
        == ["a_reset_clears_the_flags_under_way"]
