# SPDX-License-Identifier: Apache-2.0
"""The serial port with an independent one at its other end, whose clock is not quite the same."""

import logging
import random
from typing import Any

from cocotb.triggers import ClockCycles, Timer
from cocotbext.uart import UartSink, UartSource

from sim.cocotb_kit.harness import CLOCK_NS, bench, parameters, start
from sim.cocotb_kit.streams import Scoreboard, StreamDriver, StreamMonitor


def peer(kind: Any, pin: Any) -> Any:
    """The other side's sender or receiver."""
    # It makes the length of a bit from the baud rate, and rounds down.
    made = kind(pin, baud=1e9 / (bit_ns() + 0.5), bits=8, stop_bits=1)
    made.log.setLevel(logging.WARNING)  # a line for each byte would take longer than the byte
    return made


def bit_ns() -> int:
    """The other side's bit: longer than ours by the error of its clock."""
    return round(parameters()["divisor"] * CLOCK_NS * (1 + parameters().get("error", 0.0)))


async def rest(pin: Any, bits: float, *, level: int = 1) -> None:
    """Holds the line at ``level`` for the time of ``bits`` bits."""
    pin.value = level
    await Timer(round(bits * bit_ns()), "ns")


async def send_frame(pin: Any, byte: int, *, stop: int = 1) -> None:
    """A byte, bit by bit, with a wrong stop bit if one likes; then the line rests for a bit."""
    for bit in [0, *(byte >> place & 1 for place in range(8)), stop]:
        await rest(pin, 1, level=bit)
    await rest(pin, 1)


@bench(cycles=1_000_000)
async def both_ways_at_once_without_a_pause(dut: Any) -> None:
    content = [0x00, 0xFF, 0x55, 0xAA, 0x80, 0x01, *random.randbytes(100)]
    source, sink = peer(UartSource, dut.rx_pin), peer(UartSink, dut.tx_pin)
    driver, monitor = StreamDriver(dut, "sent"), StreamMonitor(dut, "received")
    await start(dut)
    sending = driver.start(content[::-1])
    async with Scoreboard(monitor, content):
        await source.write(content)
        await source.wait()
    await sending
    await rest(dut.rx_pin, 12)
    assert list(sink.read_nowait()) == content[::-1]


@bench(cycles=1_000_000)
async def only_whole_bytes_are_received(dut: Any) -> None:
    """A break or a wrong stop bit gives no byte, and the byte after it is right."""
    pin = dut.rx_pin
    pin.value, dut.sent__valid.value = 1, 0
    monitor = StreamMonitor(dut, "received")
    await start(dut)
    expected = list(random.randbytes(20))
    async with Scoreboard(monitor, expected):
        for byte in expected:
            trouble = random.choice(["none", "framing error", "break", "two breaks"])
            if trouble == "framing error":
                await send_frame(pin, random.getrandbits(8), stop=0)
            elif trouble != "none":
                for _ in range(trouble.count("break") + trouble.startswith("two")):
                    await rest(pin, random.choice([10, 15.3, 40]), level=0)
                    await rest(pin, 1)
            await send_frame(pin, byte)


@bench()
async def a_byte_that_is_not_taken_is_replaced_by_the_next(dut: Any) -> None:
    """A serial line can not wait."""
    source = peer(UartSource, dut.rx_pin)
    dut.received__ready.value = dut.sent__valid.value = 0
    await start(dut)
    await source.write([1, 2, 3])
    await source.wait()
    await ClockCycles(dut.clk, 4)
    assert (int(dut.received__valid.value), int(dut.received__payload.value)) == (1, 3)
