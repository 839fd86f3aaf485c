# SPDX-License-Identifier: Apache-2.0
"""The broadcast: registers that carry one thing to every processing element."""

from amaranth.hdl import Cat, Module, ResetSignal, Signal
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
        Latency; with 0 everyone receives at once, without a register.
    resets : iterable of str
        Fields of the shape of which a reset makes zeros while they are under way, as it does of ``valid``.

    Members
    -------
    i : In(shape), i_valid : In(1)
    o : Out(ArrayLayout(shape, copies)), o_valid : Out(copies)
    empty : Out(1)
        Nothing valid is under way.
    """

    def __init__(self, shape, copies, cycles, *, resets=()):
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
        if not self.cycles:
            m.d.comb += [self.empty.eq(1), self.o_valid.eq(valid.replicate(self.copies)),
                         *(copy.eq(payload) for copy in self.o)]
            return m
        under_way = []
        for stage in range(self.cycles - 1):
            next_payload = Signal(self.shape, name=f"trunk_{stage}", reset_less=True)
            next_valid = Signal(name=f"trunk_{stage}_valid")
            m.d.sync += next_valid.eq(valid)
            self._pass_on(m, payload, next_payload)
            payload, valid = next_payload, next_valid
            under_way.append(valid)
        arrived = Signal()
        m.d.sync += arrived.eq(valid)
        for copy in range(self.copies):
            # `keep` stops synthesis from merging equal registers again: long wires are what limits the clock here.
            branch = Signal(self.shape, name=f"branch_{copy}", reset_less=True, attrs={"keep": 1})
            branch_valid = Signal(name=f"branch_{copy}_valid", attrs={"keep": 1})
            m.d.sync += branch_valid.eq(valid)
            self._pass_on(m, payload, branch)
            m.d.comb += [self.o[copy].eq(branch), self.o_valid[copy].eq(branch_valid)]
        m.d.comb += self.empty.eq(~Cat(under_way, arrived).any())
        return m

    def _pass_on(self, m, payload, register):
        m.d.sync += register.eq(payload)
        if self.resets:
            with m.If(ResetSignal()):
                m.d.sync += [register[name].eq(0) for name in self.resets]
