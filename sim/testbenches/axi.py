# SPDX-License-Identifier: Apache-2.0
"""The engine behind AXI, with random pauses of every master and slave, and monitors of the rules on every channel."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp, AxiStreamBus, AxiStreamSink, AxiStreamSource

from host.device.device import Device
from host.image.image import parse_image
from rtl.config import PRESETS
from rtl.integration.axi_top import IDENTIFICATION, Register
from rtl.protocol import COUNTERS, PROTOCOL_VERSION, Opcode, Status, pack
from sim.cocotb_kit.harness import CLOCK_NS, bench, parameters
from sim.cocotb_kit.requests import RandomRequests

CHANNELS = {
    "s_axis": ["tdata"], "m_axis": ["tdata", "tlast"], "s_axil_aw": ["addr", "prot"], "s_axil_w": ["data", "strb"],
    "s_axil_b": ["resp"], "s_axil_ar": ["addr", "prot"], "s_axil_r": ["data", "resp"],
}
"""Every channel and what it carries."""


class Monitors:
    """Fail the test if an offer is not held until it is taken, or an answer has no request.

    Attributes
    ----------
    taken : dict of int
        Transfers of each channel.
    """

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.taken = dict.fromkeys(CHANNELS, 0)
        self.tasks = [cocotb.start_soon(self._watch(name, fields)) for name, fields in CHANNELS.items()]

    async def _watch(self, name: str, fields: Sequence[str]) -> None:
        letter = "t" if name.endswith("axis") else ""
        separator = "_" if letter else ""
        valid, ready = (getattr(self.dut, f"{name}{separator}{letter}{part}") for part in ("valid", "ready"))
        payload = [getattr(self.dut, f"{name}{separator}{field}") for field in fields]
        waiting = None
        while True:
            await RisingEdge(self.dut.aclk)
            if not self.dut.aresetn.value:
                assert name not in ("m_axis", "s_axil_b", "s_axil_r") or not valid.value, f"{name}: valid in a reset"
                waiting = None
                continue
            offered = [int(part.value) for part in payload] if valid.value else None
            assert waiting in (None, offered), f"{name}: {waiting} was not held until it was taken"
            waiting = None
            if offered is not None and ready.value:
                self.taken[name] += 1
                self._check_answers()
            elif offered is not None:
                waiting = offered

    def _check_answers(self) -> None:
        taken = self.taken
        # A response may be taken in the cycle in which nothing else is; its request was taken before.
        assert taken["s_axil_b"] <= min(taken["s_axil_aw"], taken["s_axil_w"]), "an answer without a write"
        assert taken["s_axil_r"] <= taken["s_axil_ar"], "an answer without a read"

    def finish(self) -> None:
        """Every request has its answer by now."""
        assert all(not task.done() for task in self.tasks)
        taken = self.taken
        assert taken["s_axil_aw"] == taken["s_axil_w"] == taken["s_axil_b"]
        assert taken["s_axil_ar"] == taken["s_axil_r"] > 0


def pauses(choices: random.Random, probability: float) -> Iterator[bool]:
    while True:
        yield choices.random() < probability


def bus(dut: Any) -> SimpleNamespace:
    """Masters and slaves on all ports, with monitors; reset as it is at the start."""
    reset = {"reset": dut.aresetn, "reset_active_level": False}
    dut.aresetn.value = 0
    found = SimpleNamespace(
        source=AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.aclk, **reset),
        sink=AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.aclk, **reset),
        lite=AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.aclk, **reset),
        monitors=Monitors(dut))
    write, read = found.lite.write_if, found.lite.read_if
    choices = random.Random(f"{cocotb.RANDOM_SEED} pauses")
    for part, told in ((found.source, "idle"), (write.aw_channel, "idle"), (write.w_channel, "idle"),
                       (read.ar_channel, "idle"), (found.sink, "stall"), (write.b_channel, "stall"),
                       (read.r_channel, "stall")):
        part.set_pause_generator(pauses(choices, parameters()[told]))
        part.log.disabled = True
    write.log.disabled = read.log.disabled = True
    return found


async def begin(dut: Any) -> SimpleNamespace:
    found = bus(dut)
    Clock(dut.aclk, CLOCK_NS, unit="ns").start(start_high=False)
    await ClockCycles(dut.aclk, 4)
    await FallingEdge(dut.aclk)
    dut.aresetn.value = 1
    await RisingEdge(dut.aclk)
    return found


async def exchange(found: SimpleNamespace, requests: Sequence[bytes]) -> list[bytes]:
    """Sends requests one behind the other and takes a frame for each."""
    for request in requests:
        await found.source.send(request)
    return [bytes((await found.sink.recv()).tdata) for _ in requests]


async def check_registers(found: SimpleNamespace, config: Any, count: int, *, status: Callable[[int], bool]) -> None:
    """Reads and writes random addresses; ``status`` says whether STATUS may have a value."""
    fixed = {
        Register.IDENTIFICATION: IDENTIFICATION, Register.PROTOCOL_VERSION: PROTOCOL_VERSION,
        Register.CONFIG_HASH_LOW: int.from_bytes(config.hash[:4], "little"),
        Register.CONFIG_HASH_HIGH: int.from_bytes(config.hash[4:], "little"),
        Register.PES: config.pes, Register.PACKET_BYTES: config.packet_bytes,
    }
    end = Register.COUNTERS + 4 * len(COUNTERS)
    for _ in range(count):
        address = random.choice([4 * random.randrange(end // 4 + 2), 4 * random.randrange(1024)])
        known = address < end and address != 0x1C
        if random.random() < 0.3:
            done = await found.lite.write(address, random.randbytes(4))
            assert (done.resp == AxiResp.OKAY) == known, f"write to {address:#x}: {done.resp}"
            continue
        done = await found.lite.read(address, 4)
        value = int.from_bytes(done.data, "little")
        assert done.resp == (AxiResp.OKAY if known else AxiResp.SLVERR), f"read of {address:#x}: {done.resp}"
        if address == Register.STATUS:
            assert status(value), f"status is {value:#x}"
        else:
            assert value == fixed.get(address, 0), f"{address:#x} is {value:#x}"


def configuration() -> Any:
    fields = parameters()["config"]
    return replace(PRESETS["tiny"], **{name: tuple(value) if isinstance(value, list) else value
                                       for name, value in fields.items()})


@bench(cycles=40_000_000)
async def packets_and_registers(dut: Any) -> None:
    """Random packets each way, while the registers are read."""
    config = configuration()
    found = await begin(dut)
    requests = RandomRequests(config, random.Random(f"{cocotb.RANDOM_SEED} requests"))
    pairs = requests.first_writes()
    while len(pairs) < parameters()["packets"]:
        pairs.append(requests.next())
    registers = cocotb.start_soon(check_registers(
        found, config, len(pairs), status=lambda value: not value & 5 and (value >> 8 != 0) == (value >> 3 & 1)))

    async def send() -> None:
        for request, _ in pairs:
            await found.source.send(request)
    cocotb.start_soon(send())
    for number, (request, expected) in enumerate(pairs):
        got = bytes((await found.sink.recv()).tdata)
        assert got == expected, f"response {number} to {request.hex()} is {got.hex()}, expected {expected.hex()}"
    await registers
    await ClockCycles(dut.aclk, 100)
    assert found.sink.empty()
    found.monitors.finish()
    assert found.monitors.taken["m_axis"] == sum(len(expected) for _, expected in pairs)


@bench(cycles=2_000_000)
async def an_inference(dut: Any) -> None:
    """Load, write, run and read over AXI, as the driver does it; afterwards the registers have the counters."""
    told, config = parameters(), configuration()
    found = await begin(dut)
    image = parse_image(bytes.fromhex(told["image"]), config)

    class Port:
        @staticmethod
        def exchange(requests: Sequence[bytes]) -> list[bytes]:
            responses: list[bytes] = cocotb.task.resume(exchange)(found, requests)
            return responses

        @staticmethod
        def abort() -> None:
            """Nothing to do: no other process has the device."""

    def infer() -> list[Any]:
        device = Device(Port(), config)
        device.load(image)
        return list(device.inferences(np.array(told["acts"])))
    inferences = await cocotb.task.bridge(infer)()
    assert [one.layers[-1].tolist() for one in inferences] == told["outputs"]
    for place, name in enumerate(COUNTERS):
        read = await found.lite.read(Register.COUNTERS + 4 * place, 4)
        assert int.from_bytes(read.data, "little") == inferences[-1].counters[name], name
    state = int.from_bytes((await found.lite.read(Register.STATUS, 4)).data, "little")
    assert state == 1, f"status is {state:#x} after an inference"
    await exchange(found, [pack(Opcode.RUN.value)])
    state = int.from_bytes((await found.lite.read(Register.STATUS, 4)).data, "little")
    assert state == 1 | 8 | Status.NO_INPUT.value << 8, f"status is {state:#x} after a refusal"
    found.monitors.finish()
