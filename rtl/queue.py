# SPDX-License-Identifier: Apache-2.0
"""The queue of a processing element: evens out how much work a broadcast means for each of them."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["Queue"]


class Queue(wiring.Component):
    """First-in, first-out buffer.

    One item can be written and one read in each cycle. Whoever writes sees to it that there is room: an item is not
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
        So many items or more are ``full``, 1 to ``depth``.
    bypass : bool
        An item that finds the queue empty can be taken in the cycle in which it comes. Not with ``block_ram``.

    Members
    -------
    i : In(shape), i_valid : In(1)
        Nothing may come while ``level`` is ``depth``.
    o : Out(stream.Signature(shape))
    level : Out(range(depth + 1)), empty : Out(1), full : Out(1)
        Items held, the one on offer at ``o`` included; whether there is none; whether there are ``limit`` or more.
    """

    def __init__(self, shape, depth, *, limit=1, block_ram=False, bypass=False):
        if not isinstance(depth, int) or depth < 2 or depth & (depth - 1):
            raise ValueError(f"queue depth must be a power of two of at least 2, not {depth!r}")
        self.shape = shape
        self.depth = depth
        self.limit, self.block_ram, self.bypass = limit, block_ram, bypass
        super().__init__({
            "i": In(self.shape),
            "i_valid": In(1),
            "o": Out(stream.Signature(shape)),
            "level": Out(range(depth + 1)),
            "empty": Out(1),
            "full": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.items = items = memory.Memory(shape=self.shape, depth=self.depth, init=[])
        write = items.write_port()
        read = items.read_port(domain="sync" if self.block_ram else "comb")

        # Places count modulo twice the depth, so that full and empty differ.
        write_place, read_place = Signal(ceil_log2(self.depth) + 1), Signal(ceil_log2(self.depth) + 1)
        behind = Signal.like(write_place)
        advance, more = Signal(), Signal()
        # `ready` comes late, and decides nothing but whether registers change.
        m.d.comb += [
            write.addr.eq(write_place),
            write.data.eq(self.i),
            write.en.eq(self.i_valid),
            more.eq(write_place != read_place),
            behind.eq(write_place - read_place),
            read.addr.eq(read_place),
            self.o.payload.eq(Mux(more, read.data, self.i) if self.bypass else read.data),
        ]
        # Only its highest bit is wanted: the way of `full` is long.
        beyond, left_of_limit = Signal.like(write_place, init=2 * self.depth - self.limit), Signal.like(write_place)
        with m.If(self.i_valid):
            m.d.sync += [write_place.eq(write_place + 1), beyond.eq(beyond + 1)]
        with m.If(advance):
            m.d.sync += read_place.eq(read_place + (self.o.valid if self.bypass else more))
        if self.block_ram:
            # The front item lies at the memory's output, which holds it; `read_place` is that of the item after it.
            m.d.comb += [
                advance.eq(self.o.ready | ~self.o.valid), read.en.eq(advance),
                self.level.eq(behind + self.o.valid), self.empty.eq(~(more | self.o.valid)),
                self.full.eq(self.level >= self.limit),
            ]
            with m.If(advance):
                m.d.sync += self.o.valid.eq(more)
        else:
            m.d.comb += [advance.eq(self.o.ready), self.o.valid.eq(more | (self.i_valid if self.bypass else 0)),
                         self.level.eq(behind), self.empty.eq(~more),
                         left_of_limit.eq(beyond - read_place), self.full.eq(~left_of_limit[-1])]
        return m
