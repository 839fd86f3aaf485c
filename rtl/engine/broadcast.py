# SPDX-License-Identifier: Apache-2.0
"""The broadcast: registers that carry one thing to every cluster."""

from amaranth.hdl import Cat, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .interfaces import flow

__all__ = ["Broadcast"]


class Broadcast(wiring.Component):
    """A register tree: one register per receiver; from 3 cycles on also one per four receivers.

    Parameters
    ----------
    shape : ShapeLike
    copies : int
        Receivers.
    cycles : int
        Latency; with 0 everyone receives at once, without a register.
    resets : iterable of str
        Fields of the shape that a reset clears while they are under way, as it clears ``valid``.
    always_valid : bool
        The payload is valid in every cycle: there is no register for ``valid``.

    Members
    -------
    i : In(flow(shape))
    o : Out(flow(shape)).array(copies)
    empty : Out(1)
        Nothing valid is under way.
    """

    def __init__(self, shape, copies, cycles, *, resets=(), always_valid=False):
        self.shape = shape
        self.resets = resets
        self.copies = copies
        self.cycles = cycles
        self.always_valid = always_valid
        signature = flow(shape, always_valid=always_valid)
        super().__init__({
            "i": In(signature),
            "o": Out(signature).array(copies),
            "empty": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        payloads, valids = [self.i.payload], [] if self.always_valid else [self.i.valid]
        under_way = []
        for stage in range(self.cycles):
            # The last two stages have several registers, the last one for each receiver.
            left = self.cycles - stage
            count = self.copies if left == 1 else -(-self.copies // 4) if left == 2 and self.cycles > 2 else 1
            payloads, valids = self._stage(m, stage, payloads, valids, count)
            under_way += valids[:1]
        for number, o in enumerate(self.o):
            m.d.comb += o.payload.eq(payloads[number * len(payloads) // self.copies])
            if not self.always_valid:
                m.d.comb += o.valid.eq(valids[number * len(valids) // self.copies])
        m.d.comb += self.empty.eq(~Cat(under_way).any())
        return m

    def _stage(self, m, stage, payloads, valids, count):
        """One stage of the tree: ``count`` registers, fed by those of the stage before."""
        registers, flags = [], []
        for number in range(count):
            # `keep` stops synthesis from merging equal registers again: here long wires limit the clock.
            register = Signal(self.shape, name=f"stage_{stage}_{number}", reset_less=True, attrs={"keep": 1})
            source = number * len(payloads) // count
            m.d.sync += register.eq(payloads[source])
            if self.resets:
                with m.If(ResetSignal()):
                    m.d.sync += [register[name].eq(0) for name in self.resets]
            registers.append(register)
            if not self.always_valid:
                flag = Signal(name=f"stage_{stage}_{number}_valid", attrs={"keep": 1})
                m.d.sync += flag.eq(valids[source])
                flags.append(flag)
        return registers, flags
