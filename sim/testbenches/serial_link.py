# SPDX-License-Identifier: Apache-2.0
"""Packets over a serial line on which things go wrong; every request that arrives in time is answered OK."""

import random
from typing import Any

from cocotb.triggers import Timer
from cocotbext.uart import UartSink, UartSource

from rtl.protocol import SYNC, Status, pack, packet_length
from sim.cocotb_kit.harness import CLOCK_NS, bench, parameters, start
from sim.testbenches.uart import bit_ns, peer, rest, send_frame

BYTE_BITS = 10
STATUS_BYTES = packet_length(1)
"""A response without a body."""


class Line:
    """The host's end."""

    def __init__(self, dut: Any) -> None:
        self.pin = dut.rx_pin
        self.source, self.sink = peer(UartSource, dut.rx_pin), peer(UartSink, dut.tx_pin)

    async def send(self, content: bytes) -> None:
        await self.source.write(content)
        await self.source.wait()

    async def answer(self) -> bytes:
        """All that comes until the line has been silent for two bytes."""
        content = b""
        while True:
            await Timer((STATUS_BYTES + 2) * BYTE_BITS * bit_ns(), "ns")
            if self.sink.empty():
                return content
            content += bytes(self.sink.read_nowait())

    async def resynchronise(self) -> None:
        """Sends zero bytes and drops the answers to them, as docs/formats.md says."""
        await self.send(bytes(packet_length(parameters()["packet_bytes"]) + 2 * STATUS_BYTES))
        await self.answer()


def gap_bits() -> float:
    """The time-out between bytes, in bits of the line."""
    return float((1 << parameters()["gap_bits"]) * CLOCK_NS / bit_ns())


def good_packet() -> bytes:
    longest = parameters()["packet_bytes"]
    return pack(random.randrange(256), random.randbytes(random.choice([0, 1, longest, random.randint(0, longest)])))


async def check_answer(line: Line, packet: bytes) -> None:
    assert await line.answer() == pack(packet[1], bytes([Status.OK.value]))


async def lost_byte(line: Line, packet: bytes) -> None:
    place = random.randrange(len(packet))
    await line.send(packet[:place] + packet[place + 1:])


async def framing_error(line: Line, packet: bytes) -> None:
    place = random.randrange(len(packet))
    await line.send(packet[:place])
    await send_frame(line.pin, packet[place], stop=0)
    await line.send(packet[place + 1:])


async def broken_line(line: Line, packet: bytes) -> None:
    await line.send(packet[:random.randrange(len(packet))])
    await rest(line.pin, random.choice([12, 50]), level=0)
    await rest(line.pin, 1)


async def byte_too_many(line: Line, packet: bytes) -> None:
    place = random.randrange(1, len(packet))
    await line.send(packet[:place] + random.randbytes(1) + packet[place:])


async def wrong_bit(line: Line, packet: bytes) -> None:
    damaged = bytearray(packet)
    damaged[random.randrange(len(packet))] ^= 1 << random.randrange(8)
    await line.send(bytes(damaged))
    assert await line.answer() != pack(damaged[1], bytes([Status.OK.value]))


async def anything(line: Line, packet: bytes) -> None:
    await line.send(random.randbytes(30) + bytes([SYNC]) * random.randrange(3))


TROUBLES = (lost_byte, framing_error, broken_line, byte_too_many, wrong_bit, anything)


@bench(cycles=10_000_000)
async def zeros_bring_the_link_back(dut: Any) -> None:
    line = Line(dut)
    await start(dut)
    for trouble in random.sample(TROUBLES * 4, 4 * len(TROUBLES)):
        await trouble(line, good_packet())
        await line.resynchronise()
        packet = good_packet()
        await line.send(packet)
        await check_answer(line, packet)


@bench(cycles=10_000_000)
async def garbage_before_a_packet_does_no_harm(dut: Any) -> None:
    line = Line(dut)
    await start(dut)
    for _ in range(10):
        await line.send(bytes(byte for byte in random.randbytes(20) if byte != SYNC))
        await rest(line.pin, random.choice([40, 0.5, 1]), level=0)
        await rest(line.pin, BYTE_BITS)  # what is short may be the beginning of a byte
        packet = good_packet()
        await line.send(packet)
        await check_answer(line, packet)


@bench(cycles=10_000_000)
async def a_packet_may_take_its_time(dut: Any) -> None:
    """Bytes may come as slowly as the time-out between them allows."""
    line = Line(dut)
    await start(dut)
    for _ in range(3):
        packet = good_packet()
        for byte in packet:
            await line.send(bytes([byte]))
            await rest(line.pin, random.choice([0.1, 3.3, 0.9 * gap_bits() - BYTE_BITS]))
        await check_answer(line, packet)


@bench(cycles=10_000_000)
async def silence_ends_a_packet(dut: Any) -> None:
    """A packet that breaks off, wherever that is, is forgotten without an answer; the next packet is taken."""
    line = Line(dut)
    await start(dut)
    for _ in range(20):
        begun = good_packet()
        await line.send(begun[:random.randrange(1, len(begun))])
        await rest(line.pin, random.uniform(1.1, 3) * gap_bits())
        assert line.sink.empty()
        packet = good_packet()
        await line.send(packet)
        await check_answer(line, packet)


@bench(cycles=10_000_000)
async def a_request_before_the_answer_has_ended_is_refused(dut: Any) -> None:
    """Wherever within the answer it begins."""
    line = Line(dut)
    await start(dut)
    for _ in range(20):
        first = good_packet()
        await line.send(first)
        # The answer has begun; a byte that comes while its last one is sent waits for its turn.
        await rest(line.pin, random.uniform(1, (STATUS_BYTES - 3) * BYTE_BITS))
        await line.send(good_packet())
        # What came of the second one after the answer may look like the beginning of a third.
        await rest(line.pin, 2 * gap_bits())
        answer = await line.answer()
        assert answer.startswith(pack(first[1], bytes([Status.OK.value])))
        assert pack(0, bytes([Status.OVERRUN.value])) in answer
        await line.resynchronise()
        packet = good_packet()
        await line.send(packet)
        await check_answer(line, packet)
