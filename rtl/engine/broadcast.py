# SPDX-License-Identifier: Apache-2.0
"""The broadcast: registers that carry one thing to every processing element."""

from amaranth.hdl import Cat, Module, ResetSignal, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Broadcast"]

class Broadcast(wiring.Component):
    """A registered tree; each receiver has a register of its own, and with three cycles or more each four have one.

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
        payloads, valids = [self.i], [self.i_valid]
        under_way = []
        for stage in range(self.cycles):
            # The last two stages have several registers, the last one for each receiver.
            left = self.cycles - stage
            count = self.copies if left == 1 else -(-self.copies // 4) if left == 2 and self.cycles > 2 else 1
            payloads, valids = self._stage(m, stage, payloads, valids, count)
            under_way.append(valids[0])
        for copy in range(self.copies):
            m.d.comb += [self.o[copy].eq(payloads[copy * len(payloads) // self.copies]),
                         self.o_valid[copy].eq(valids[copy * len(valids) // self.copies])]
        m.d.comb += self.empty.eq(~Cat(under_way).any())
        return m

    def _stage(self, m, stage, payloads, valids, count):
        """So many registers behind those before them."""
        registers, flags = [], []
        for number in range(count):
            # `keep` stops synthesis from merging equal registers again: long wires are what limits the clock here.
            register = Signal(self.shape, name=f"stage_{stage}_{number}", reset_less=True, attrs={"keep": 1})
            flag = Signal(name=f"stage_{stage}_{number}_valid", attrs={"keep": 1})
            source = number * len(payloads) // count
            m.d.sync += [register.eq(payloads[source]), flag.eq(valids[source])]
            if self.resets:
                with m.If(ResetSignal()):
                    m.d.sync += [register[name].eq(0) for name in self.resets]
            registers.append(register)
            flags.append(flag)
        return registers, flags
