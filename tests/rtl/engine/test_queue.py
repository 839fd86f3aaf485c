# SPDX-License-Identifier: Apache-2.0
"""The queue under random pauses before it and stalls behind it; its proof is in tests/formal/test_queue.py."""

import pytest

from rtl.engine.queue import Queue
from sim.simulator.running import run
from sim.simulator.verilate import build


@pytest.mark.parametrize("kind", [{}, {"block_ram": True}, {"bypass": True}])
@pytest.mark.parametrize("idle, stall", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.3, 0.3)])
def test_everything_arrives_in_order(idle, stall, kind):
    parameters = {"depth": 16, "idle": idle, "stall": stall}
    assert run(build(Queue(8, 16, **kind)), "sim.testbenches.queue", parameters=parameters) \
        == ["everything_arrives_in_order"]


@pytest.mark.parametrize("depth", [0, 1, 12, "16"])
def test_depths_that_are_refused(depth):
    with pytest.raises(ValueError, match="queue depth must be a power of two of at least 2, not "):
        Queue(8, depth)
