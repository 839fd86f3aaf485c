# SPDX-License-Identifier: Apache-2.0
"""The link between a byte stream that may hold anything and commands that answer what they like."""

import random
import zlib
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from rtl.protocol import SYNC, Opcode, Status, pack, packet_length
from sim.cocotb_kit.harness import bench, parameters, start
from sim.cocotb_kit.streams import Scoreboard, StreamDriver, StreamMonitor, take

OFFER_CYCLES = 4
"""Most cycles from one byte of a payload to the offer of the next."""


@dataclass
class Packet:
    """The link's expected reaction to a packet: a request, or for any status but OK an answer of its own.

    ``begin`` and ``end`` are the places of its first byte and of that after its last. The rest is what the commands do
    with a request: take some bytes of the payload and answer.
    """

    begin: int
    end: int
    opcode: int
    payload: bytes
    status: int
    payload_taken: int = 0
    body: bytes = b""

    @property
    def response(self) -> bytes:
        return pack(self.opcode, bytes([self.status]) + self.body)


def understand(content: bytes, packet_bytes: int) -> list[Packet]:
    """The packets in a stream of bytes, as docs/formats.md has them."""
    packets: list[Packet] = []
    place = 0
    while (begin := content.find(SYNC, place)) >= 0 and begin + 4 <= len(content):
        opcode, length = content[begin + 1], int.from_bytes(content[begin + 2:begin + 4], "little")
        place = begin + 4
        status = Status.TOO_LONG
        payload = b""
        if length <= packet_bytes:
            payload, crc = content[place:place + length], content[place + length:place + length + 4]
            place += length + 4
            if place > len(content):
                break
            sound = int.from_bytes(crc, "little") == zlib.crc32(content[begin + 1:place - 4])
            status = Status.OK if sound else Status.BAD_CRC
        packets.append(Packet(begin, place, opcode, payload, status.value))
    return packets


def invent_answer(packet: Packet) -> None:
    """Decides what the commands do with a request."""
    packet.status = random.choice([Status.OK.value, random.randrange(256)])
    packet.payload_taken = random.choice([0, len(packet.payload), random.randint(0, len(packet.payload))])
    most = parameters()["packet_bytes"] - 1
    packet.body = random.randbytes(random.choice([0, 1, random.randint(2, most), most]))


async def answer(dut: Any, requests: list[Packet], idle: float, stall: float) -> None:
    """The commands' part."""
    body = StreamDriver(dut, "requests__body", idle=idle)
    dut.requests__respond.value = dut.requests__payload__ready.value = 0
    for request in requests:
        while not dut.requests__pending.value:
            await RisingEdge(dut.clk)
        # A byte offered after the end of the last body must not be taken.
        body.valid.value = 0
        told = int(dut.requests__opcode.value), int(dut.requests__length.value)
        assert told == (request.opcode, len(request.payload))
        got = await take(dut, "requests__payload", request.payload_taken, stall=stall)
        assert bytes(got) == request.payload[:request.payload_taken]
        dut.requests__payload__ready.value = request.payload_taken == len(request.payload)
        for cycle in range(random.choice([0, 0, 1, 8])):
            await RisingEdge(dut.clk)
            assert dut.requests__pending.value
            # A byte that is left is on offer soon, whether anybody wants it or not; none comes after the last.
            left = request.payload_taken < len(request.payload)
            assert dut.requests__payload__valid.value == left or (left and cycle < OFFER_CYCLES)
        dut.requests__respond.value, dut.requests__status.value = 1, request.status
        dut.requests__response_bytes.value = 1 + len(request.body)
        while dut.requests__pending.value:
            await RisingEdge(dut.clk)
        dut.requests__respond.value = dut.requests__payload__ready.value = 0
        dut.requests__status.value = random.getrandbits(8)
        dut.requests__response_bytes.value = random.randint(0, parameters()["packet_bytes"])
        await body.send(request.body)
        body.valid.value = random.getrandbits(1)


async def watch(dut: Any, packets: list[Packet]) -> None:
    """Fails if the link takes a byte while it answers, or is not busy exactly when it has something to do."""
    received = 0
    for packet in packets:
        answer_left = len(packet.response)
        while answer_left:
            await RisingEdge(dut.clk)
            assert dut.busy.value == (received > packet.begin)
            assert dut.requests__pending.value or not dut.requests__payload__valid.value
            if received < packet.end:
                assert not (dut.requests__pending.value or dut.tx__valid.value)
                received += bool(dut.rx__valid.value and dut.rx__ready.value)
            else:
                assert not dut.rx__ready.value
                answer_left -= bool(dut.tx__valid.value and dut.tx__ready.value)
    while True:
        await RisingEdge(dut.clk)
        assert not (dut.busy.value or dut.requests__pending.value or dut.tx__valid.value)


async def converse(dut: Any, stream: bytes) -> list[Packet]:
    """Sends a stream that ends with a packet and checks all that comes of it; returns the packets in it."""
    idle, stall = parameters()["idle"], parameters()["stall"]
    packets = understand(stream, parameters()["packet_bytes"])
    requests = [packet for packet in packets if packet.status == Status.OK.value]
    assert requests[-1].end == len(stream)
    for request in requests:
        invent_answer(request)
    rx = StreamDriver(dut, "rx", idle=idle)
    tx = StreamMonitor(dut, "tx", stall=stall)
    await start(dut)
    commands = cocotb.start_soon(answer(dut, requests, idle, stall))
    cocotb.start_soon(watch(dut, packets))
    async with Scoreboard(tx, b"".join(packet.response for packet in packets)):
        await rx.send(stream)
    assert commands.done()
    return packets


def good_packet() -> bytes:
    longest = parameters()["packet_bytes"]
    length = random.choice([0, 1, longest, random.randint(0, longest)])
    return pack(random.randrange(256), random.randbytes(length))


def damaged_packet() -> bytes:
    packet = bytearray(good_packet())
    for _ in range(random.randint(1, 3)):
        bit = random.randrange(8, 8 * len(packet))
        packet[bit // 8] ^= 1 << bit % 8
    return bytes(packet)


def long_packet() -> bytes:
    length = parameters()["packet_bytes"] + random.choice([1, 2, random.randint(1, 200)])
    return pack(random.randrange(256), random.randbytes(length))


def cut_packet() -> bytes:
    packet = good_packet()
    return packet[:random.randrange(len(packet))]


def garbage() -> bytes:
    return bytes(random.choice([0, SYNC - 1, SYNC + 1, 0xFF]) for _ in range(random.randint(1, 30)))


def resynchronisation() -> bytes:
    return bytes(packet_length(parameters()["packet_bytes"]))


@bench()
async def packets_are_answered(dut: Any) -> None:
    stream = b""
    for _ in range(120):
        part = random.choice([good_packet, good_packet, damaged_packet, long_packet, cut_packet, garbage])
        stream += part()
        if part in (damaged_packet, long_packet, cut_packet) and random.random() < 0.7:
            stream += resynchronisation()
    stream += resynchronisation() + good_packet()
    statuses = [packet.status for packet in understand(stream, parameters()["packet_bytes"])]
    assert min(statuses.count(status.value) for status in (Status.OK, Status.BAD_CRC, Status.TOO_LONG)) > 5
    packets = await converse(dut, stream)
    assert any(0 < packet.payload_taken < len(packet.payload) for packet in packets)


@bench()
async def any_bytes_leave_the_link_usable(dut: Any) -> None:
    """Only the last packet must be sound, and it must be answered."""
    stream = b""
    for _ in range(10):
        kinds = random.choice([range(256), [SYNC, 0, 1, 2, 3], [SYNC, 0, 0, 0, 0, 9]])
        stream += bytes(random.choice(kinds) for _ in range(random.randint(1, 300))) + resynchronisation()
        stream += pack(Opcode.IDENTIFY.value)
    packets = await converse(dut, stream)
    identified = [packet for packet in packets if packet.opcode == Opcode.IDENTIFY.value and packet.payload == b""]
    assert len(identified) >= 10
