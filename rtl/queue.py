# SPDX-License-Identifier: Apache-2.0
"""The queue of a processing element: evens out how much work a broadcast means for each of them."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["Queue"]


class Queue(wiring.Component):
    """First-in, first-out buffer on a synchronously read memory.

    An item can be read two cycles after it was written. One item can be written and one read in each cycle.

    Parameters
    ----------
    shape : ShapeLike
        Shape of an item.
    depth : int
        Items held; a power of two, at least 2.

    Members
    -------
    i : In(stream.Signature(shape))
    o : Out(stream.Signature(shape))
    level : Out(range(depth + 1))
        Items held, the one on offer at ``o`` included.
    """

    def __init__(self, shape, depth):
        if not isinstance(depth, int) or depth < 2 or depth & (depth - 1):
            raise ValueError(f"queue depth must be a power of two of at least 2, not {depth!r}")
        self.shape = shape
        self.depth = depth
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "level": Out(range(depth + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.items = items = memory.Memory(shape=self.shape, depth=self.depth, init=[])
        write = items.write_port()
        read = items.read_port()

        write_place = Signal(ceil_log2(self.depth))
        read_place = Signal(ceil_log2(self.depth))
        next_place = Signal.like(read_place)
        put = Signal()
        take = Signal()
        m.d.comb += [
            self.i.ready.eq(self.level != self.depth),
            put.eq(self.i.valid & self.i.ready),
            take.eq(self.o.valid & self.o.ready),
            write.addr.eq(write_place),
            write.data.eq(self.i.payload),
            write.en.eq(put),
            next_place.eq(read_place + take),
            # The front item is read again in every cycle, so the memory's output needs no register beside it.
            read.addr.eq(next_place),
            read.en.eq(1),
            self.o.payload.eq(read.data),
        ]
        m.d.sync += [
            write_place.eq(write_place + put),
            read_place.eq(next_place),
            self.level.eq(self.level + put - take),
            # Items written in this cycle can not be read yet.
            self.o.valid.eq(self.level > take),
        ]
        return m
