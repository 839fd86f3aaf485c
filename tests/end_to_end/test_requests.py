# SPDX-License-Identifier: Apache-2.0
"""An engine that is asked for what it cannot do: its answers, and that it works on as if nothing had been."""

from dataclasses import replace

import numpy as np
import pytest

from host.device.device import Device, DeviceError
from host.device.requests import input_content, write_packets
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from rtl.descriptor import DESCRIPTOR_WORD_BITS, descriptor_layout, descriptor_words
from rtl.engine.engine import Engine
from rtl.image_format import HEADER_BYTES, LIMIT_STEP, SECTION_BYTES, header_layout
from rtl.protocol import Opcode, Status
from rtl.protocol import pack as packet
from sim.simulator.link import SimulationLink, build_link
from tests.support.images import with_crc
from tests.support.networks import SMALL, random_acts, random_network


@pytest.fixture(scope="module")
def build():
    return build_link(Engine(SMALL), capacity_bytes=SMALL.packet_bytes + 16)


@pytest.fixture
def engine(build):
    """A small engine with an image loaded: link, device, image, network."""
    with SimulationLink(build, patience_cycles=20_000) as link:
        network = random_network(np.random.default_rng(5), SMALL, [60, 40, 8], 0.2)
        image = parse_image(image_file(pack(network, SMALL)), SMALL)
        device = Device(link, SMALL)
        device.load(image)
        yield link, device, image, network


def status(link, opcode, payload=b""):
    """The status with which a request is answered."""
    response = link.exchange(packet(getattr(opcode, "value", opcode), payload))
    return Status(response[4])


def still_works(device, image, network):
    """Two inferences on what is loaded give golden's outputs."""
    acts = random_acts(np.random.default_rng(9), network, 2, 0.5)
    golden = forward(network, acts)[-1] & 0xFF
    device.image = image
    got = [one.layers[-1].tolist() for one in device.inferences(acts)]
    assert got == golden.tolist()


def test_bad_requests_have_their_status_and_no_effect(engine):
    link, device, image, network = engine
    bad_crc = bytearray(packet(Opcode.RUN.value))
    bad_crc[-1] ^= 1
    assert Status(link.exchange(bytes(bad_crc))[4]) == Status.BAD_CRC
    assert status(link, 99) == Status.UNKNOWN_OPCODE
    assert status(link, Opcode.IDENTIFY, b"x") == Status.BAD_LENGTH
    assert status(link, Opcode.RUN, b"x") == Status.BAD_LENGTH
    assert status(link, Opcode.WAIT, b"x") == Status.BAD_LENGTH
    assert status(link, Opcode.WRITE, b"\0\0abc") == Status.BAD_LENGTH
    assert status(link, Opcode.WRITE, b"\0") == Status.BAD_LENGTH
    assert status(link, Opcode.WRITE, bytes([32, 0]) + bytes(4)) == Status.BAD_ADDRESS
    assert status(link, Opcode.WRITE, bytes([31, 0]) + bytes(8)) == Status.BAD_ADDRESS
    assert status(link, Opcode.READ, bytes([0, 0, 0, 0])) == Status.BAD_LENGTH
    assert status(link, Opcode.READ, bytes([31, 0, 2, 0])) == Status.BAD_ADDRESS
    assert status(link, Opcode.READ, bytes([0, 0, 32, 0])) == Status.BAD_LENGTH
    assert status(link, Opcode.LOAD, bytes(4)) == Status.BAD_LENGTH
    assert status(link, Opcode.LOAD, bytes([7, 0, 0, 0, 1])) == Status.BAD_OFFSET
    too_long = packet(Opcode.WRITE.value, bytes(SMALL.packet_bytes + 1))
    assert Status(link.exchange(too_long[:4])[4]) == Status.TOO_LONG
    still_works(device, image, network)


def test_a_run_without_input_or_image_is_refused(engine):
    link, device, image, network = engine
    assert status(link, Opcode.RUN) == Status.NO_INPUT
    link.reset()
    assert status(link, Opcode.RUN) == Status.NOT_LOADED
    device.load(image)
    still_works(device, image, network)


def test_requests_during_a_run_are_refused(engine):
    link, device, _, _ = engine
    # Long enough for all the requests below.
    network = random_network(np.random.default_rng(5), SMALL, [40, 40], 1.0)
    image = parse_image(image_file(pack(network, SMALL)), SMALL)
    device.load(image)
    acts = random_acts(np.random.default_rng(2), network, 1, 1.0)
    for write in write_packets(input_content(image, acts, SMALL)[0], SMALL):
        link.exchange(write)
    assert status(link, Opcode.RUN) == Status.OK
    assert status(link, Opcode.LOAD, bytes(4) + image.engine[:1]) == Status.BUSY
    assert status(link, Opcode.WRITE, bytes(2 + 4)) == Status.BUSY
    assert status(link, Opcode.READ, bytes([0, 0, 1, 0])) == Status.BUSY
    assert status(link, Opcode.RUN) == Status.BUSY
    assert status(link, Opcode.WAIT) == Status.OK
    still_works(device, image, network)


@pytest.mark.parametrize("place, value, expected", [
    (0, 0x55, Status.BAD_MAGIC), (4, 9, Status.BAD_VERSION), (8, 0, Status.WRONG_CONFIG), (15, 0, Status.WRONG_CONFIG),
])
def test_a_header_for_another_engine_leaves_the_image_alone(engine, place, value, expected):
    link, device, image, network = engine
    damaged = bytearray(image.engine)
    damaged[place] = (damaged[place] + 1 + value) & 0xFF
    assert status(link, Opcode.LOAD, bytes(4) + bytes(damaged[:100])) == expected
    still_works(device, image, network)


def test_a_damaged_image_is_dropped_and_the_next_one_taken(engine):
    link, device, image, network = engine
    rng = np.random.default_rng(4)
    for place in rng.integers(HEADER_BYTES * 8, len(image.engine) * 8, 12):
        damaged = bytearray(image.engine)
        damaged[place // 8] ^= 1 << (place % 8)
        bad = parse_image(image_file(pack(network, SMALL)), SMALL)
        object.__setattr__(bad, "engine", bytes(damaged))
        with pytest.raises(DeviceError) as caught:
            device.load(bad)
        assert caught.value.status in (Status.IMAGE_CRC, Status.BAD_SECTION, Status.BAD_OFFSET)
        assert status(link, Opcode.RUN) == Status.NOT_LOADED
    device.load(image)
    still_works(device, image, network)


def test_a_load_that_breaks_off_can_be_taken_up_or_started_anew(engine):
    link, device, image, network = engine
    assert status(link, Opcode.LOAD, bytes(4) + image.engine[:100]) == Status.OK
    assert status(link, Opcode.RUN) == Status.NOT_LOADED
    assert status(link, Opcode.LOAD, (99).to_bytes(4, "little") + image.engine[99:150]) == Status.BAD_OFFSET
    for offset in range(100, len(image.engine), 61):
        part = image.engine[offset:offset + 61]
        assert status(link, Opcode.LOAD, offset.to_bytes(4, "little") + part) == Status.OK
    still_works(device, image, network)
    assert status(link, Opcode.LOAD, bytes(4) + image.engine[:100]) == Status.OK
    device.load(image)
    still_works(device, image, network)


def test_an_image_is_loaded_in_batches(engine):
    _, device, image, network = engine
    sent = []
    device.load(image, progress=sent.append, batch=3)
    assert len(sent) > 2 and sum(sent) == len(image.engine)
    assert sent[:-1] == [3 * (SMALL.packet_bytes - 4)] * (len(sent) - 1)
    still_works(device, image, network)


def test_an_inference_that_does_not_end_in_time_is_stopped(engine):
    """The image allows the inference fewer cycles than it takes, as if it never ended."""
    link, device, image, network = engine
    long = random_network(np.random.default_rng(5), SMALL, [40, 40], 1.0)
    sound = parse_image(image_file(pack(long, SMALL)), SMALL)
    short = with_header(sound.engine, cycle_limit=LIMIT_STEP)
    acts = random_acts(np.random.default_rng(2), long, 1, 1.0)
    for _ in range(2):
        device.load(replace(sound, engine=short))
        with pytest.raises(DeviceError, match=r"the engine refused WAIT \(TIMED_OUT\): .*; load the image again"):
            device.infer(acts)
        assert status(link, Opcode.WAIT) == Status.TIMED_OUT
        assert status(link, Opcode.RUN) == Status.NOT_LOADED
        device.load(image)
        assert status(link, Opcode.WAIT) == Status.TIMED_OUT  # no result is valid until there is a new one
        still_works(device, image, network)
        assert status(link, Opcode.WAIT) == Status.OK
    device.load(sound)
    still_works(device, sound, long)


def with_header(content, **fields):
    """An engine image with other fields in its header."""
    layout, changed = header_layout(), bytearray(content)
    for name, value in fields.items():
        field = layout[name]
        changed[field.offset // 8:(field.offset + field.width) // 8] = value.to_bytes(field.width // 8, "little")
    return with_crc(bytes(changed[:-4]))


def with_output_words(content, words):
    """The first layer drains ``words`` words; its descriptor begins the program, which is the first section."""
    begin = HEADER_BYTES + SECTION_BYTES
    end = begin + descriptor_words(SMALL) * DESCRIPTOR_WORD_BITS // 8
    bits, field = int.from_bytes(content[begin:end], "little"), descriptor_layout(SMALL)["output_words"]
    bits = bits & ~((1 << field.width) - 1 << field.offset) | words << field.offset
    return with_crc(content[:begin] + bits.to_bytes(end - begin, "little") + content[end:-4])


def test_sums_that_an_image_leaves_do_not_reach_the_next_one(engine):
    """An image whose descriptor drains fewer words than its pass fills leaves sums in accumulators."""
    _, device, image, network = engine
    # Its second layer drains a row of each PE, its first one fills eight.
    other = random_network(np.random.default_rng(6), SMALL, [60, 32, 4], 0.5)
    sound = parse_image(image_file(pack(other, SMALL)), SMALL)
    for words in (1, 2, 5):
        device.load(replace(sound, engine=with_output_words(sound.engine, words)))
        list(device.inferences(random_acts(np.random.default_rng(9), other, 3, 1.0)))
        device.load(image)
        still_works(device, image, network)


def test_a_section_that_never_comes_is_noticed(engine):
    link, device, image, network = engine
    sections = int(header_layout().from_bits(int.from_bytes(image.engine[:HEADER_BYTES], "little")).sections)
    for fields in ({"sections": sections + 1}, {"sections": 65535}, {"image_bytes": HEADER_BYTES},
                   {"sections": sections + 1, "image_bytes": 0}):
        with pytest.raises(DeviceError, match="the engine refused LOAD \\(BAD_SECTION\\)"):
            device.load(replace(image, engine=with_header(image.engine, **fields)))
        assert status(link, Opcode.RUN) == Status.NOT_LOADED
        device.load(image)
        still_works(device, image, network)


def test_an_input_does_not_outlast_its_image(engine):
    link, device, image, network = engine
    writes = write_packets(input_content(image, np.full((1, network.inputs), 200), SMALL)[0], SMALL)
    for write in writes:
        assert Status(link.exchange(write)[4]) == Status.OK
    device.load(image)
    assert status(link, Opcode.RUN) == Status.NO_INPUT
    link.reset()
    for write in writes:
        assert Status(link.exchange(write)[4]) == Status.OK
    device.load(image)
    assert status(link, Opcode.RUN) == Status.NO_INPUT
    still_works(device, image, network)


def test_a_reset_in_the_middle_of_an_inference_drops_the_image(engine):
    link, device, image, network = engine
    for cycles in (20, 60, 90, 150):
        for write in write_packets(input_content(image, np.full((1, network.inputs), 200), SMALL)[0], SMALL):
            link.exchange(write)
        link.interrupt(packet(Opcode.RUN.value), cycles)
        assert status(link, Opcode.RUN) == Status.NOT_LOADED
        device.load(image)
        still_works(device, image, network)
