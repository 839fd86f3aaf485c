# SPDX-License-Identifier: Apache-2.0
"""Top level of a board: the LEDs, and the image that it loads at power-up."""

import numpy as np
from amaranth.hdl import ClockDomain, Fragment
from amaranth.lib import io
from amaranth.sim import Simulator

from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from rtl.integration.board_top import Top
from rtl.integration.uart import LEAST_DIVISOR
from rtl.protocol import Opcode, load_packets
from rtl.protocol import pack as packet
from tests.support.networks import SMALL, random_network

LEDS = {"loaded": "led.3", "busy": "led.1", "error": "rgb_led.0.r"}
CYCLES = 12000


class Pins:
    """Stands in for a platform: each resource is a group of ports that the simulator can see."""

    def __init__(self):
        self.ports = {}

    def lookup(self, name, number):
        return self

    ios = ()

    def request(self, name, number=0, dir=None):  # noqa: A002
        return Group(self.ports, f"{name}.{number}") if name != "led" else self.port(f"{name}.{number}")

    def port(self, name):
        return self.ports.setdefault(name, io.SimulationPort("io", 1))


class Group:
    def __init__(self, ports, name):
        self._ports, self._name = ports, name

    def __getattr__(self, part):
        return self._ports.setdefault(f"{self._name}.{part}", io.SimulationPort("io", 1))


def watch(monkeypatch, content):
    """The cycles in which each LED was on, and the serial line's levels, while the board sends itself this."""
    def add_clock(m, *_):
        m.domains.sync = ClockDomain()

    monkeypatch.setattr("rtl.integration.board_top.add_clock", add_clock)
    pins = Pins()
    monkeypatch.setattr(Fragment, "get", platformed(pins))
    top = Top(SMALL, "ecp5", 1, 1, round(1e6 / LEAST_DIVISOR), LEDS, content)
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    seen = {name: [] for name in (*LEDS, "line")}

    async def look(ctx):
        ctx.set(pins.ports["uart.0.rx"].i, 1)
        for cycle in range(CYCLES):
            for name, port in LEDS.items():
                if ctx.get(pins.ports[port].o):
                    seen[name].append(cycle)
            seen["line"].append(ctx.get(pins.ports["uart.0.tx"].o))
            await ctx.tick()

    simulator.add_testbench(look)
    simulator.run()
    return seen


def platformed(pins):
    """Elaborates `Top` for these pins, and all else as the simulator does."""
    get = Fragment.get

    def get_with_pins(component, platform):
        return get(component, pins) if isinstance(component, Top) else get(component, None)
    return staticmethod(get_with_pins)


def test_leds_show_loaded_busy_and_error(monkeypatch):
    network = random_network(np.random.default_rng(3), SMALL, [16, 8], 0.3)
    image = parse_image(image_file(pack(network, SMALL)), SMALL)
    load = b"".join(load_packets(image.engine, SMALL.packet_bytes))
    write = packet(Opcode.WRITE.value, bytes(2) + bytes(range(1, 17)))
    seen = watch(monkeypatch, (load + write + packet(Opcode.RUN.value)).ljust(2300, b"\0"))
    assert seen["loaded"] and seen["busy"]
    assert not seen["error"]
    assert seen["loaded"] == list(range(seen["loaded"][0], CYCLES))
    assert seen["loaded"][0] < seen["busy"][0] and 20 < len(seen["busy"]) < 500
    # Answers to what the board sent itself do not leave it.
    assert all(seen["line"])


def test_the_error_led_goes_out_with_the_next_good_answer(monkeypatch):
    wrong, right = packet(Opcode.RUN.value), packet(Opcode.IDENTIFY.value)
    seen = watch(monkeypatch, wrong + bytes(300) + right + bytes(100))
    assert 600 < len(seen["error"]) < 3000 and not seen["loaded"] and not seen["busy"]
