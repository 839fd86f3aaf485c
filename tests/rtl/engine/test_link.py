# SPDX-License-Identifier: Apache-2.0
"""The link: packets, damage and garbage, with stalls on every side."""

import pytest

from rtl.engine.link import Link
from sim.simulator.running import run
from sim.simulator.verilate import build

PACKET_BYTES = 32


@pytest.mark.parametrize("idle, stall", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.3, 0.3)])
def test_packets_are_answered_and_anything_else_is_survived(idle, stall):
    parameters = {"packet_bytes": PACKET_BYTES, "idle": idle, "stall": stall}
    assert run(build(Link(PACKET_BYTES)), "sim.testbenches.link", parameters=parameters) \
        == ["packets_are_answered", "any_bytes_leave_the_link_usable"]
