# SPDX-License-Identifier: Apache-2.0
"""The driver: the same tests for a simulated engine, a whole simulated board and a serial port; and bad cables."""

import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import serial

from host.device.device import Device, DeviceError
from host.device.serial_port import SerialPort
from host.device.target import Target, parse_target
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from host.verification.adopt import adopt
from rtl.config import PRESETS
from rtl.engine.engine import Engine
from rtl.numbers import Activation
from rtl.protocol import COUNTERS, PROTOCOL_VERSION, Opcode, Status
from rtl.protocol import pack as packet
from sim.simulator.link import SimulationLink, build_link
from tests.support.cable import Cable, dropping, flipping, preceding, silent, sound
from tests.support.networks import SMALL, random_acts, random_network

TIMEOUT_S = 0.3


@pytest.fixture(scope="module")
def cable():
    """Makes a serial port at whose other end is the small engine, just reset: the cable and the target."""
    build = build_link(Engine(SMALL), capacity_bytes=SMALL.packet_bytes + 16)
    with SimulationLink(build, patience_cycles=3000) as link:
        @contextmanager
        def connected(**faults):
            link.reset()
            with Cable(link, **faults) as connection:
                yield connection, Target("serial:cable", SMALL, None, connection.path, 1_000_000)
        yield connected


@contextmanager
def opened(kind, cable):
    if kind == "serial":
        with cable() as (_, target), Device.open(target, timeout_s=TIMEOUT_S) as device:
            yield device
    elif kind == "sim:ulx3s-85f":
        with Device.open(replace(parse_target(kind), config=SMALL)) as device:
            yield device
    else:
        with Device.open(kind) as device:
            yield device


def example(config, sizes=(40, 20, 6), *, signed=False):
    """A network, its image and inputs for it."""
    rng = np.random.default_rng(7)
    network = random_network(rng, config, list(sizes), 0.3)
    last = replace(network.layers[-1], activation=Activation.IDENTITY if signed else Activation.RELU)
    network = replace(network, layers=(*network.layers[:-1], last))
    return network, parse_image(image_file(pack(network, config)), config), random_acts(rng, network, 3, 0.5)


@pytest.fixture(scope="module", params=["sim:default", "sim:ulx3s-85f", "serial"])
def device(request, cable):
    with opened(request.param, cable) as device:
        yield device


@pytest.mark.parametrize("signed", [False, True])
def test_inferences_give_golden_outputs_and_counters(device, signed):
    network, image, acts = example(device.config, signed=signed)
    device.load(image)
    outputs, golden = device.infer(acts), forward(network, acts)[-1]
    assert outputs.dtype == np.int64 and outputs.tolist() == golden.tolist()
    assert (golden < 0).any() == signed
    counters = device.counters()
    last = [*device.inferences(acts, batch=2)][-1].counters
    assert list(counters) == list(COUNTERS) and counters == last and counters["cycles"] > 0


def test_the_icebreaker_runs_an_image():
    with Device.open("sim:icebreaker") as device:
        assert device.info().config_name == "tiny"
        network, image, acts = example(device.config)
        device.load(image)
        assert device.infer(acts).tolist() == forward(network, acts)[-1].tolist()


def test_a_board_answers_from_power_up_with_the_image_in_its_bitstream(tmp_path):
    network, _, acts = example(SMALL)
    baked = tmp_path / "baked.img"
    baked.write_bytes(image_file(pack(network, SMALL)))
    with Device.open(replace(parse_target(f"sim:ulx3s-85f?baked={baked}"), config=SMALL)) as device:
        adopt(device, baked)
        assert device.infer(acts).tolist() == forward(network, acts)[-1].tolist()
        _, other, _ = example(SMALL, (40, 30, 6))
        with pytest.raises(DeviceError, match="another image at power-up"):
            adopt(device, other)
        with pytest.raises(DeviceError, match="no inference is possible"):
            device.infer(acts)
        device.load(other)
        adopt(device, other)


def test_a_board_forgets_what_has_begun_once_its_line_is_quiet():
    """A packet that breaks off has no answer, and the next one has its own at once."""
    with Device.open(replace(parse_target("sim:ulx3s-85f"), config=SMALL)) as device:
        device.info()
        assert isinstance(device.port, SerialPort)
        # The simulation may be slow: its time passes sooner or later.
        for quiet_s in (0.5, 2, 8, 32):
            before = device.port.repeated
            with serial.Serial(device.port.path) as line:
                line.write(packet(Opcode.LOAD.value, bytes(100))[:9])
            time.sleep(quiet_s)
            device.info()
            if device.port.repeated == before:
                break
        else:
            pytest.fail("the board still waits for the rest of a packet")


def test_a_board_without_an_image_has_none_to_adopt():
    _, image, _ = example(SMALL)
    with Device.open(replace(parse_target("sim:ulx3s-85f"), config=SMALL)) as device, \
            pytest.raises(DeviceError, match="no image at power-up"):
        adopt(device, image)


@pytest.mark.parametrize("name", ["tang-primer-20k", "ecpix-5", "icepi-zero", "arty-a7"])
def test_every_family_of_boards_runs_an_image(name):
    network, image, acts = example(SMALL)
    with Device.open(replace(parse_target(f"sim:{name}"), config=SMALL)) as device:
        device.load(image)
        assert device.infer(acts).tolist() == forward(network, acts)[-1].tolist()


def test_an_image_is_loaded_from_its_file(device, tmp_path):
    network, _, acts = example(device.config)
    (tmp_path / "model.img").write_bytes(image_file(pack(network, device.config)))
    device.load(str(tmp_path / "model.img"))
    assert device.infer(acts[:1]).tolist() == forward(network, acts[:1])[-1].tolist()
    assert device.infer(acts[:0]).shape[0] == 0


def test_info_tells_the_configuration(device):
    config = device.config
    info = device.info()
    assert (info.protocol_version, info.config_hash) == (PROTOCOL_VERSION, config.hash.hex())
    assert info.config_name == ("default" if config == PRESETS["default"] else "custom")
    assert (info.pes, info.packet_bytes) == (config.pes, config.packet_bytes)
    entry_bytes = config.entries_per_word * (config.code_bits + config.index_bits[-1]) * config.entry_depth // 8
    assert info.memory_bytes == {
        "entries": config.pes * entry_bytes, "slices": config.pes * config.slice_depth * config.slice_word_bits // 8,
        "activations": config.pes * config.act_depth, "program": 4 * config.program_depth}


def test_what_the_engine_refuses(device):
    _, image, acts = example(device.config)
    damaged = bytearray(image.engine)
    damaged[-1] ^= 1
    with pytest.raises(DeviceError, match=r"^the engine refused LOAD \(IMAGE_CRC\): .*; load it again") as caught:
        device.load(replace(image, engine=bytes(damaged)))
    assert caught.value.status == Status.IMAGE_CRC
    assert not device.info().loaded
    with pytest.raises(DeviceError, match=r"^no inference is possible \(NOT_LOADED\): .*; load one$"):
        device.infer(acts)
    device.load(image)
    assert device.info().loaded


FAULTS = {
    "bytes lost on the way there": {"to_engine": dropping(0.004, 1)},
    "bytes lost on the way back": {"from_engine": dropping(0.02, 2)},
    "bits wrong on the way there": {"to_engine": flipping(0.004, 3)},
    "bits wrong on the way back": {"from_engine": flipping(0.02, 4)},
    "garbage on the way there": {"to_engine": preceding(b"NN\x02\x09\x00abc", 0.1, 5)},
    "garbage on the way back": {"from_engine": preceding(b"x\x00N\x05\x06\x00N\x03\x01", 0.2, 6)},
    "noise in both directions": {"to_engine": flipping(0.002, 7), "from_engine": dropping(0.01, 8)},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_cable_changes_no_result(cable, fault):
    """Every result is right, since what is damaged is sent again."""
    network, image, acts = example(SMALL)
    with cable(**FAULTS[fault]) as (_, target), Device.open(target, timeout_s=0.2, retries=20) as device:
        device.load(image)
        assert device.infer(acts).tolist() == forward(network, acts)[-1].tolist()
        assert device.port.repeated > 0 or fault == "garbage on the way back"


def test_lost_answers_do_not_repeat_what_was_done(cable):
    """Every other answer is lost: RUN and LOAD meet their own effect when they come again."""
    network, image, acts = example(SMALL)
    answers = []

    def every_other(content):
        if not content or content[1] == Opcode.IDENTIFY.value:
            return content
        answers.append(content[1])
        return content if len(answers) % 2 == 0 else b""

    with cable() as (connection, target), Device.open(target, timeout_s=0.2, retries=10) as device:
        connection.from_engine = every_other
        device.load(image)
        assert device.infer(acts).tolist() == forward(network, acts)[-1].tolist()
        assert device.port.repeated == len(answers) // 2 > 10
    assert set(answers[::2]) == {opcode.value for opcode in Opcode} - {Opcode.IDENTIFY.value}


def test_a_packet_that_was_begun_before_does_no_harm(cable):
    """Another program that used the port was killed in the middle of a packet."""
    with cable() as (connection, target):
        connection.link.exchange(packet(Opcode.WRITE.value, bytes(100))[:50])
        with Device.open(target, timeout_s=0.2, retries=10) as device:
            assert device.info().pes == SMALL.pes and device.port.repeated > 0


@pytest.mark.parametrize("faults, status, message", [
    ({"from_engine": silent}, Status.NO_ANSWER, r"IDENTIFY \(NO_ANSWER\): nothing came back in time.*; check cable"),
    ({"to_engine": silent}, Status.NO_ANSWER, "NO_ANSWER"),
    ({"from_engine": flipping(0.5, 1)}, Status.DAMAGED, "every answer was damaged .*; take a shorter cable"),
])
def test_a_hopeless_cable_is_named(cable, faults, status, message):
    with cable(**faults) as (_, target), pytest.raises(DeviceError, match=message) as caught:
        Device.open(target, timeout_s=TIMEOUT_S, retries=2)
    assert caught.value.status == status


def test_an_engine_that_falls_silent_may_come_back(cable):
    network, image, acts = example(SMALL)
    with cable() as (connection, target), Device.open(target, timeout_s=TIMEOUT_S, retries=2) as device:
        device.load(image)
        connection.to_engine = silent
        with pytest.raises(DeviceError, match="gave no sound answer to WRITE"):
            device.infer(acts)
        connection.to_engine = sound
        assert device.infer(acts).tolist() == forward(network, acts)[-1].tolist()


def test_an_engine_that_is_no_preset_has_to_be_named(cable):
    with cable() as (_, target), pytest.raises(DeviceError, match=r"\(WRONG_ENGINE\).* name the configuration"):
        Device.open(replace(target, config=None), timeout_s=TIMEOUT_S)


def test_a_port_in_use_and_a_port_that_goes_are_named(cable):
    with cable() as (_, target), Device.open(target, timeout_s=TIMEOUT_S) as device:
        with pytest.raises(DeviceError, match="close other programs"):
            Device.open(target)
        device.port.close()
        with pytest.raises(DeviceError, match=r"failed: .*\(DISCONNECTED\)"):
            device.info()


def test_abort_ends_an_exchange_of_another_thread(cable):
    with cable() as (connection, target), Device.open(target, timeout_s=30) as device:
        connection.to_engine = silent
        timer = threading.Timer(0.1, device.abort)
        timer.start()
        with pytest.raises(DeviceError, match="was given up"):
            device.info()
        timer.join()
