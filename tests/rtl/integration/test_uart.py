# SPDX-License-Identifier: Apache-2.0
"""The serial port against waveforms made by hand, and against an independent serial port."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from rtl.engine.link import Link
from rtl.integration.uart import LEAST_DIVISOR, Uart, check_divisor
from sim.simulator.running import run
from sim.simulator.verilate import build
from tests.support.pysim import simulate

PACKET_BYTES = 32
GAP_BITS = 12


class SerialLink(wiring.Component):
    """Link and serial port; every request that arrives is answered OK."""

    rx_pin: In(1, init=1)
    tx_pin: Out(1, init=1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.uart = uart = Uart(LEAST_DIVISOR)
        m.submodules.link = link = Link(PACKET_BYTES, gap_bits=GAP_BITS)
        connect(m, uart.received, link.rx)
        connect(m, link.tx, uart.sent)
        m.d.comb += [uart.rx_pin.eq(self.rx_pin), self.tx_pin.eq(uart.tx_pin),
                     link.requests.respond.eq(link.requests.pending), link.requests.response_bytes.eq(1),
                     link.lost.eq(uart.lost)]
        return m


def waveform(byte, stop=1):
    return [0, *((byte >> place) & 1 for place in range(8)), stop]


@pytest.mark.parametrize("divisor", [16, 23, 80])
def test_received_bytes(divisor):
    uart = Uart(divisor)
    sent = np.random.default_rng(divisor).integers(0, 256, 20).tolist()
    got = []

    async def line(ctx):
        for byte in sent:
            for bit in waveform(byte):
                ctx.set(uart.rx_pin, bit)
                for _ in range(divisor):
                    await ctx.tick()
                    if ctx.get(uart.received.valid) and ctx.get(uart.received.ready):
                        got.append(ctx.get(uart.received.payload))
        await ctx.tick().repeat(divisor)

    async def taker(ctx):
        ctx.set(uart.received.ready, 1)

    simulate(uart, taker, line)
    assert got == sent


def test_a_byte_without_a_stop_bit_is_dropped():
    uart = Uart(16)
    valid = []

    async def line(ctx):
        for byte, stop in ((0x55, 0), (0xA3, 1)):
            for bit in [*waveform(byte, stop), 1, 1, 1]:
                ctx.set(uart.rx_pin, bit)
                await ctx.tick().repeat(16)
            valid.append(ctx.get(uart.received.valid))
            if valid[-1]:
                assert ctx.get(uart.received.payload) == byte

    simulate(uart, line)
    assert valid == [0, 1]


@pytest.mark.parametrize("divisor", [16, 21])
def test_sent_bytes(divisor):
    uart = Uart(divisor)
    sent = [0x00, 0xFF, 0x4E, 0x81]
    seen = []

    async def sender(ctx):
        for byte in sent:
            ctx.set(uart.sent.payload, byte)
            ctx.set(uart.sent.valid, 1)
            await ctx.tick().until(uart.sent.ready)
        ctx.set(uart.sent.valid, 0)
        await ctx.tick().repeat(12 * divisor)

    async def watcher(ctx):
        for _ in sent:
            while ctx.get(uart.tx_pin):
                await ctx.tick()
            await ctx.tick().repeat(divisor // 2)
            bits = []
            for _ in range(10):
                if bits:
                    await ctx.tick().repeat(divisor)
                bits.append(ctx.get(uart.tx_pin))
            seen.append(bits)

    simulate(uart, sender, watcher)
    assert seen == [waveform(byte) for byte in sent]


def test_divisors_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="UART divisor must be an integer of at least 16 clock cycles a bit, not 3"):
        check_divisor(3)


@pytest.mark.parametrize("error", [-0.02, 0.02])
def test_an_independent_serial_port(error):
    """Its clock may be 2 % too fast or too slow."""
    parameters = {"divisor": LEAST_DIVISOR, "error": error}
    assert run(build(Uart(LEAST_DIVISOR)), "sim.testbenches.uart", parameters=parameters) == [
        "both_ways_at_once_without_a_pause", "only_whole_bytes_are_received",
        "a_byte_that_is_not_taken_is_replaced_by_the_next"]


def test_packets_on_a_bad_line():
    parameters = {"divisor": LEAST_DIVISOR, "error": 0.02, "packet_bytes": PACKET_BYTES, "gap_bits": GAP_BITS}
    assert run(build(SerialLink()), "sim.testbenches.serial_link", parameters=parameters) == [
        "zeros_bring_the_link_back", "garbage_before_a_packet_does_no_harm", "a_packet_may_take_its_time",
        "silence_ends_a_packet", "a_request_before_the_answer_has_ended_is_refused"]
