# SPDX-License-Identifier: Apache-2.0
"""The broadcast: registers that carry one thing to every processing element."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Broadcast"]

class Broadcast(wiring.Component):
    """A registered tree; each receiver has a register of its own.

    Parameters
    ----------
    shape : ShapeLike
    copies : int
        Receivers.
    cycles : int
        Latency, 1 or more.
    resets : bool
        A reset makes zeros of all that is under way; otherwise that holds for whether it is valid alone.

    Members
    -------
    i : In(shape), i_valid : In(1)
    o : Out(ArrayLayout(shape, copies)), o_valid : Out(copies)
    empty : Out(1)
        Nothing valid is under way.
    """

    def __init__(self, shape, copies, cycles, *, resets=False):
        self.shape = shape
        self.resets = resets
        self.copies = copies
        self.cycles = cycles
        super().__init__({
            "i": In(shape),
            "i_valid": In(1),
            "o": Out(data.ArrayLayout(shape, copies)),
            "o_valid": Out(copies),
            "empty": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        payload, valid = self.i, self.i_valid
        under_way = []
        for stage in range(self.cycles - 1):
            next_payload = Signal(self.shape, name=f"trunk_{stage}", reset_less=not self.resets)
            next_valid = Signal(name=f"trunk_{stage}_valid")
            m.d.sync += [next_payload.eq(payload), next_valid.eq(valid)]
            payload, valid = next_payload, next_valid
            under_way.append(valid)
        arrived = Signal()
        m.d.sync += arrived.eq(valid)
        for copy in range(self.copies):
            # `keep` stops synthesis from merging equal registers again: long wires are what limits the clock here.
            branch = Signal(self.shape, name=f"branch_{copy}", reset_less=not self.resets, attrs={"keep": 1})
            branch_valid = Signal(name=f"branch_{copy}_valid", attrs={"keep": 1})
            m.d.sync += [branch.eq(payload), branch_valid.eq(valid)]
            m.d.comb += [self.o[copy].eq(branch), self.o_valid[copy].eq(branch_valid)]
        m.d.comb += self.empty.eq(~Cat(under_way, arrived).any())
        return m
