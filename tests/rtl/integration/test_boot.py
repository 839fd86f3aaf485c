# SPDX-License-Identifier: Apache-2.0
"""An image in the bitstream is sent to the engine before the link is open, from one block RAM or from many."""

import random

import pytest

from rtl.integration.boot import BLOCK_BYTES, CHOICE, Boot
from rtl.protocol import SYNC
from sim.simulator.running import run
from sim.simulator.verilate import build


@pytest.mark.parametrize("blocks", [1, 2, CHOICE + 2])
def test_the_content_comes_first_and_then_the_port(blocks):
    content = random.Random(blocks).randbytes(BLOCK_BYTES * blocks - 3)
    early = [1, 2, 3] if blocks == 1 else [1, SYNC, 2]
    assert run(build(Boot(content)), "sim.testbenches.boot", parameters={"content": content.hex(), "early": early}) \
        == ["the_content_comes_first_and_then_the_port"]
