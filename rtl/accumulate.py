# SPDX-License-Identifier: Apache-2.0
"""Multiply and accumulate: one useful entry a cycle into the accumulator of its row."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .layouts import row_bits

__all__ = ["Accumulator"]


class Accumulator(wiring.Component):
    """Pipelined read-modify-write of the accumulators, with forwarding; the drain passes through it as well.

    In each cycle it takes either a product (``term``) to be added to a row or, with ``drain``, a row to be read out:
    ``term`` is its bias then, and the row is zero afterwards. Any sequence of rows is right, the same row in every
    cycle included: results that are not in memory yet are forwarded. Only where the rows of a drain are two cycles or
    more apart (``config.row_cycles``) nothing may come in the cycle after one, since it is zeroed then, and not that
    row in the two after that: its zero is not forwarded.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    row : In(row_bits), valid : In(1), drain : In(1), keep : In(1)
        What to do, and with which row; with ``keep`` a drained row stays as it is.
    term : In(signed(acc_bits))
        What to add, one cycle later than ``row``.
    total : Out(signed(acc_bits)), total_valid : Out(1)
        Row plus bias, ``latency_cycles`` after its ``drain``; it stays until the next row, be it drained or added to.
    """

    term_cycles = 1

    @staticmethod
    def latency_cycles(config):
        """From a row that is drained to its total."""
        return 2 + config.deep_pipeline

    def __init__(self, config):
        self.config = config
        super().__init__({
            "row": In(row_bits(config)),
            "valid": In(1),
            "drain": In(1),
            "keep": In(1),
            "term": In(signed(config.acc_bits)),
            "total": Out(signed(config.acc_bits)),
            "total_valid": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        deep, shape = self.config.deep_pipeline, signed(self.config.acc_bits)
        m.submodules.sums = sums = memory.Memory(shape=shape, depth=self.config.acc_depth, init=[])
        read = sums.read_port()
        write = sums.write_port()
        m.d.comb += [read.addr.eq(self.row), read.en.eq(1)]

        # A drained row is zeroed where its sum would be written; or in the cycle after it, by registers' resets, which
        # takes less logic.
        apart = self.config.row_cycles > 1
        drains_now = self.valid & self.drain
        zero, answer_zero = Signal(), Signal()
        if apart:
            m.d.sync += [zero.eq(drains_now & ~self.keep), answer_zero.eq(zero)]

        # Steps: the memory answers (answer), the sum is made and written (add), it lies in a register (store). With few
        # registers the sum is made while the memory answers.
        # `valid` speaks of rows that change, `keep` of rows that are drained and stay, for the time being.
        rows, valids, drains, keeps = {}, {}, {}, {}
        stays = drains_now & (1 if apart else self.keep)
        row, valid, drain, keep = self.row, self.valid & ~stays | zero, drains_now, stays
        steps = ("answer", "add", "store") if deep else ("add", "store")
        for step in steps:
            rows[step] = Signal(row_bits(self.config), name=f"{step}_row", reset_less=True)
            valids[step] = Signal(name=f"{step}_valid")
            drains[step] = Signal(name=f"{step}_drain", reset_less=True)
            keeps[step] = Signal(name=f"{step}_keep")
            m.d.sync += [rows[step].eq(row), valids[step].eq(valid), drains[step].eq(drain), keeps[step].eq(keep)]
            row, valid, drain, keep = rows[step], valids[step], drains[step], keeps[step]
        with m.If(zero):
            m.d.sync += rows[steps[0]].eq(rows[steps[0]])

        # A row is not yet in memory if it was written a cycle before, or while it was read: its sum is kept for one
        # cycle. Rows are compared a cycle before the values are needed.
        from_add, from_store = Signal(), Signal()
        m.d.sync += [
            from_add.eq(valids["add"] & (rows["add"] == (rows["answer"] if deep else self.row))),
            from_store.eq(valids["add"] & (rows["add"] == self.row)),
        ]

        old, term = Signal(shape, reset_less=True), Signal(shape, reset_less=True)
        total, stored, kept = Signal(shape), Signal(shape), Signal(shape, reset_less=True)
        m.d.comb += [
            total.eq(Mux(from_add, kept, old) + term),
            stored.eq(total if apart else Mux(drains["add"], 0, total)),
        ]
        domain = "sync" if deep else "comb"
        m.d[domain] += [old.eq(Mux(from_store, kept, read.data) if deep else read.data), term.eq(self.term)]
        if apart:
            # What is kept is a drained row's total as well, and stays while that row is zeroed.
            with m.If(drains["add"] | (valids["add"] & ~drains["store"])):
                m.d.sync += kept.eq(total)
            with m.If(answer_zero):
                m.d[domain] += [old.eq(0), term.eq(0)]
            m.d.comb += self.total.eq(kept)
        else:
            m.d.sync += kept.eq(stored)
            with m.If(drains["add"]):
                m.d.sync += self.total.eq(total)
        m.d.comb += [
            write.addr.eq(rows["add"]),
            write.data.eq(stored),
            write.en.eq(valids["add"]),
            self.total_valid.eq(valids["store"] & drains["store"] | keeps["store"]),
        ]
        return m
