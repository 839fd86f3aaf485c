# SPDX-License-Identifier: Apache-2.0
"""FIFOs that absorb load imbalance: of slices between the PEs, of beats between the clusters."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .interfaces import flow

__all__ = ["Queue"]

TAPS = {1: (), 2: (1, 2), 3: (2, 3), 4: (3, 4), 5: (3, 5), 6: (5, 6), 7: (6, 7), 8: (4, 5, 6, 8), 9: (5, 9),
        10: (7, 10)}
"""Feedback taps of maximal-length LFSRs by width; bits are counted from 1.

Xilinx XAPP 052, "Efficient Shift Registers, LFSR Counters".
"""


def _next_place(place):
    """Next address of an LFSR counter that includes zero; the order of addresses does not matter in a queue."""
    *lower, _ = place
    parity = Cat(place[bit - 1] for bit in TAPS[len(place)]).xor()
    return Cat(parity ^ ~Cat(lower).any(), lower)


class Queue(wiring.Component):
    """First-in, first-out buffer.

    One item can be written and one read in each cycle. The writer must make sure that there is room: no item is
    refused.

    Parameters
    ----------
    shape : ShapeLike
        Shape of an item.
    depth : int
        Items held; a power of two, at least 2.
    block_ram : bool
        Its memory has an output register, and an item can be read two cycles after it was written; one otherwise.
    limit : int
        ``full`` is high from this level on, 1 to ``depth``.
    most : int
        Greatest level that the writer guarantees, ``limit`` to ``depth`` (default ``depth``).
    bypass : bool
        An item that finds the queue empty can be taken in the cycle in which it comes. Not with ``block_ram``.

    Members
    -------
    i : In(flow(shape))
        Nothing may come while ``level`` is ``most``.
    o : Out(stream.Signature(shape))
    level : Out(range(depth + 1))
        Items held, the one on offer at ``o`` included.
    empty : Out(1)
        ``level`` is 0.
    full : Out(1)
        ``level`` is ``limit`` or more.

    Raises
    ------
    ValueError
        If ``depth`` is not a power of two of at least 2.
    """

    def __init__(self, shape, depth, *, limit=1, most=None, block_ram=False, bypass=False):
        if not isinstance(depth, int) or depth < 2 or depth & (depth - 1):
            raise ValueError(f"queue depth must be a power of two of at least 2, not {depth!r}")
        self.shape = shape
        self.depth = depth
        self.limit, self.most = limit, depth if most is None else most
        self.block_ram, self.bypass = block_ram, bypass
        super().__init__({
            "i": In(flow(shape)),
            "o": Out(stream.Signature(shape)),
            "level": Out(range(depth + 1)),
            "empty": Out(1),
            "full": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.items = items = memory.Memory(shape=self.shape, depth=self.depth, init=[],
                                                   attrs={"ram_style": "block"} if self.block_ram else {})
        write = items.write_port()
        read = items.read_port(domain="sync" if self.block_ram else "comb")
        put, new = self.i.valid, self.i.payload

        # `ready` arrives late in the cycle; it is used only as a register enable.
        write_place, read_place = Signal(exact_log2(self.depth)), Signal(exact_log2(self.depth), name="read_place")
        count, advance, more, some = Signal(range(self.most + 1)), Signal(), Signal(), Signal()
        m.d.comb += [
            write.addr.eq(write_place),
            write.data.eq(new),
            write.en.eq(put),
            read.addr.eq(read_place),
            more.eq(count != 0),
            some.eq(more | (put if self.bypass else 0)),
            self.o.payload.eq(Mux(more, read.data, new) if self.bypass else read.data),
        ]
        with m.If(put):
            m.d.sync += write_place.eq(_next_place(write_place))
        with m.If(advance & some):
            m.d.sync += read_place.eq(_next_place(read_place))
        with m.If(put ^ (advance & some)):
            m.d.sync += count.eq(count + Mux(put, 1, -1))
        if self.block_ram:
            # The front item lies at the memory's output, which holds it; `read_place` is that of the item after it.
            m.d.comb += [advance.eq(self.o.ready | ~self.o.valid), read.en.eq(advance),
                         self.level.eq(count + self.o.valid), self.empty.eq(~(more | self.o.valid))]
            with m.If(advance):
                m.d.sync += self.o.valid.eq(more)
        else:
            m.d.comb += [advance.eq(self.o.ready), self.o.valid.eq(some), self.level.eq(count), self.empty.eq(~more)]
        m.d.comb += self.full.eq(self.level >= self.limit)
        return m
