# SPDX-License-Identifier: Apache-2.0
"""The broadcast in one group of receivers and in several."""

import pytest

from rtl.broadcast import Broadcast
from sim.running import run
from sim.verilate import build


@pytest.mark.parametrize("copies, cycles", [(3, 1), (20, 3)])
def test_every_copy_arrives_in_time(copies, cycles):
    assert run(build(Broadcast(5, copies, cycles)), "sim.benches.broadcast",
               parameters={"copies": copies, "cycles": cycles}) == ["every_copy_arrives_in_time"]
