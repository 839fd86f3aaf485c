# SPDX-License-Identifier: Apache-2.0
"""The queue of a processing element: evens out how much work a broadcast means for each of them."""

from amaranth.hdl import Module, Mux, Signal
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

        write_place, read_place = Signal(ceil_log2(self.depth)), Signal(ceil_log2(self.depth))
        put, take, advance, more = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(self.level != self.depth),
            put.eq(self.i.valid & self.i.ready),
            take.eq(self.o.valid & self.o.ready),
            write.addr.eq(write_place),
            write.data.eq(self.i.payload),
            write.en.eq(put),
            # The front item lies at the memory's output, which holds it; `read_place` is that of the item after it.
            # So `ready` decides nothing but whether registers change.
            advance.eq(take | ~self.o.valid),
            more.eq(self.level > self.o.valid),
            read.addr.eq(read_place),
            read.en.eq(advance),
            self.o.payload.eq(read.data),
        ]
        m.d.sync += [
            write_place.eq(write_place + put),
            # Not one sum, since `take` comes late.
            self.level.eq(Mux(take, self.level + put - 1, self.level + put)),
        ]
        with m.If(advance):
            m.d.sync += [self.o.valid.eq(more), read_place.eq(read_place + more)]
        return m
