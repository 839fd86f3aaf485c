# SPDX-License-Identifier: Apache-2.0
"""Several simulations side by side."""

import threading

import numpy as np
import pytest

from host.device.batch import run_batch
from host.device.target import Target
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from nonzero.errors import UserError
from rtl.protocol import Opcode
from rtl.protocol import pack as pack_packet
from sim.simulator.verilate import SimulationError
from tests.support.networks import SMALL, random_acts, random_network


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_what_stops_one_simulation_stops_all(error):
    """One part fails while the other waits for an answer that does not come for an hour."""
    ends, first, waiting = [], threading.Lock(), threading.Event()

    def load(device, image):
        if not first.acquire(blocking=False):
            waiting.wait()
            raise error("stop")
        device.port.patience_cycles, device.port.timeout_s = 0xFFFF_FFFF, 20
        waiting.set()
        try:
            device.port.exchange([pack_packet(Opcode.RUN.value)[:-1]])
        except SimulationError as end:
            ends.append(end)
            raise
    network = random_network(np.random.default_rng(5), SMALL, [40, 8], 0.2)
    image = parse_image(image_file(pack(network, SMALL)), SMALL)
    acts = random_acts(np.random.default_rng(9), network, 40, 0.5)
    with pytest.raises(error, match="stop"):
        run_batch(Target("sim:small", SMALL), image, acts, processes=2, load=load)
    assert len(ends) == 1 and "the simulation has ended" in str(ends[0])
