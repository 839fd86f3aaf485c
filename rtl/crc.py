# SPDX-License-Identifier: Apache-2.0
"""The CRC-32 of Ethernet and zlib, a byte a cycle."""

from functools import reduce
from operator import xor

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Crc32"]

POLYNOMIAL = 0xEDB88320
"""With the bits reversed, since the least significant bit of a byte comes first."""

ONES = (1 << 32) - 1


def _after(state, bits):
    """The register so many bits of zeros later."""
    for _ in range(bits):
        state = state >> 1 ^ (POLYNOMIAL if state & 1 else 0)
    return state


class Crc32(wiring.Component):
    """Its byte and the register's lowest one are added first: they act on the others only together.

    That takes half the logic of `amaranth.lib.crc`, which writes each bit as a sum of the byte's and the register's.

    Members
    -------
    start : In(1)
        Forget everything; comes before ``valid``.
    data : In(8), valid : In(1)
        The next byte.
    crc : Out(32)
        Of all bytes so far.
    match : Out(1)
        The bytes end with their own CRC.
    """

    start: In(1)
    data: In(8)
    valid: In(1)
    crc: Out(32)
    match: Out(1)

    def elaborate(self, platform):
        m = Module()
        state = Signal(32, init=ONES)
        added = Signal(8)
        effects = [_after(1 << number, 8) for number in range(8)]
        m.d.comb += [
            added.eq(self.data ^ state[:8]), self.crc.eq(~state),
            # What a CRC leaves behind when it is taken for four more bytes.
            self.match.eq(state == _after(ONES, 32)),
        ]
        with m.If(self.start):
            m.d.sync += state.eq(ONES)
        with m.Elif(self.valid):
            shifted = state >> 8
            m.d.sync += state.eq(Cat(
                reduce(xor, [shifted[place], *(added[number] for number in range(8) if effects[number] >> place & 1)])
                for place in range(len(state))))
        return m
