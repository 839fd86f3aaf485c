# SPDX-License-Identifier: Apache-2.0
"""A serial port for the link: 8 data bits, no parity, one stop bit, least significant bit first."""

from amaranth.hdl import C, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from rtl.protocol import SYNC

__all__ = ["Uart", "check_divisor"]


LEAST_DIVISOR = 16
"""Fewest clock cycles in a bit. With fewer, the synchroniser's delay would move the sample too far from its middle."""


def check_divisor(divisor):
    """Raises `ValueError` unless a bit of ``divisor`` clock cycles can be sampled."""
    if not isinstance(divisor, int) or divisor < LEAST_DIVISOR:
        raise ValueError(f"UART divisor must be an integer of at least {LEAST_DIVISOR} clock cycles a bit, "
                         f"not {divisor!r}")


class Uart(wiring.Component):
    """Bytes to and from two wires.

    A received byte that is not taken before the next is complete is lost: the line has no flow control. A byte whose
    stop bit is wrong is dropped.

    Parameters
    ----------
    divisor : int
        Clock cycles in a bit, 16 or more.

    Members
    -------
    rx_pin : In(1), tx_pin : Out(1)
        High when idle.
    received : Out(stream.Signature(8)), sent : In(stream.Signature(8))
        Bytes that have come in, bytes that are to go out.
    lost : Out(1)
        A byte that may begin a packet, `SYNC`, was not taken in time.
    """

    def __init__(self, divisor):
        check_divisor(divisor)
        self.divisor = divisor
        super().__init__({
            "rx_pin": In(1, init=1),
            "tx_pin": Out(1, init=1),
            "received": Out(stream.Signature(8)),
            "sent": In(stream.Signature(8)),
            "lost": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        self._receive(m)
        self._send(m)
        return m

    def _receive(self, m):
        pin = Signal(init=1)
        m.submodules.pin = FFSynchronizer(self.rx_pin, pin, init=1)
        timer = Signal(range(self.divisor * 3 // 2))
        bits_left = Signal(range(10))
        bits = Signal(8, reset_less=True)
        # After a wrong stop bit the line has to rest before the next byte can start.
        rested = Signal()
        with m.If(self.received.ready):
            m.d.sync += self.received.valid.eq(0)
        with m.If(bits_left == 0):
            m.d.sync += rested.eq(pin)
            with m.If(~pin & rested):
                # The middle of the first data bit.
                m.d.sync += [bits_left.eq(9), timer.eq(self.divisor * 3 // 2 - 1)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self.divisor - 1), bits_left.eq(bits_left - 1)]
            with m.If(bits_left != 1):
                m.d.sync += bits.eq(Cat(bits[1:], pin))
            with m.Elif(pin):
                m.d.sync += [self.received.payload.eq(bits), self.received.valid.eq(1)]
                m.d.comb += self.lost.eq(self.received.valid & ~self.received.ready & (self.received.payload == SYNC))

    def _send(self, m):
        timer = Signal(range(self.divisor))
        bits_left = Signal(range(11))
        bits = Signal(9, init=0x1FF)
        m.d.comb += [self.tx_pin.eq(bits[0]), self.sent.ready.eq(bits_left == 0)]
        with m.If(bits_left == 0):
            with m.If(self.sent.valid):
                m.d.sync += [bits.eq(Cat(C(0, 1), self.sent.payload)), bits_left.eq(10), timer.eq(self.divisor - 1)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self.divisor - 1), bits_left.eq(bits_left - 1), bits.eq(Cat(bits[1:], C(1, 1)))]
