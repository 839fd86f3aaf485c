# SPDX-License-Identifier: Apache-2.0
"""Faults of the link, in short: the bench has more of them."""

import numpy as np
import pytest

from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from rtl.engine.engine import Engine
from rtl.protocol import Opcode, Status
from rtl.protocol import pack as packet
from sim.bench.faults import FaultError, Faults, expected_statuses, split_responses
from sim.simulator.link import SimulationLink, build_link
from tests.support.networks import SMALL, random_acts, random_network

CAPACITY_BYTES = 16 * (SMALL.packet_bytes + 16)


@pytest.fixture(scope="module")
def faults():
    network = random_network(np.random.default_rng(5), SMALL, [8, 6, 4], 0.3)
    image = parse_image(image_file(pack(network, SMALL)), SMALL)
    acts = random_acts(np.random.default_rng(9), network, 1, 0.7)
    with SimulationLink(build_link(Engine(SMALL), capacity_bytes=CAPACITY_BYTES), patience_cycles=20_000) as link:
        yield Faults(link, SMALL, image, acts, (forward(network, acts)[-1] & 0xFF).tolist())


def test_flipped_bits_of_an_image_are_noticed(faults):
    """Every bit of the header and every 7th bit of the rest is flipped."""
    assert faults.flip_image_bits(step=7) == -(-8 * len(faults.image.engine) // 7)


def test_mutated_packets_do_no_harm(faults):
    assert faults.mutate_packets(317) == 317


def test_noise_does_no_harm(faults):
    assert faults.send_noise(4001) == 4001


def test_resets_in_the_middle_of_anything(faults):
    assert faults.reset_anywhere(24) == 24


def test_a_wrong_output_is_a_fault(faults):
    broken = Faults(faults.link, SMALL, faults.image, faults.acts, [[1, 2, 3, 4]])
    with pytest.raises(FaultError, match=r"after a load: the engine gives .*, not \[\[1, 2, 3, 4\]\]"):
        broken.mutate_packets(1)


def test_packets_in_a_stream_of_bytes():
    sound, damaged = packet(Opcode.RUN.value), bytearray(packet(Opcode.WAIT.value))
    damaged[-1] ^= 1
    content = b"\0" + sound + bytes(damaged) + bytes([0x4E, 6, 0xFF, 0xFF]) + sound + sound[:5]
    assert expected_statuses(content, 8) == [(Opcode.RUN.value, Status.OK), (Opcode.WAIT.value, Status.BAD_CRC),
                                             (6, Status.TOO_LONG), (Opcode.RUN.value, Status.OK)]
    assert split_responses(sound + sound) == [(Opcode.RUN.value, b"")] * 2
    with pytest.raises(FaultError, match="no sound response"):
        split_responses(bytes(damaged))
