# SPDX-License-Identifier: Apache-2.0
"""Multiply and accumulate: one useful entry a cycle into the accumulator of its row."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from rtl.layouts import row_bits

__all__ = ["Accumulator"]


class Accumulator(wiring.Component):
    """Pipelined read-modify-write of the accumulators, with forwarding; rows are drained through it as well.

    In each cycle it takes either a product (``term``) to be added to a row or, with ``drain``, a row to be read out:
    ``term`` is its bias then, and the row is zero afterwards. Any sequence of rows gives right sums, also the same row
    in every cycle: results that are not in memory yet are forwarded. There is one exception: where the rows of a drain
    are two cycles or more apart (``config.row_cycles``), a row is zeroed a cycle late. After draining a row the user
    must idle for one cycle, and not address that row for two more, since its zero is not forwarded.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    row : In(row_bits), valid : In(1)
        Process this row: add ``term``, or read it out with ``drain``.
    drain : In(1), keep : In(1)
        Read the row out; with ``keep`` it stays as it is.
    term : In(signed(acc_bits))
        The addend, ``term_cycles`` later than ``row``.
    total : Out(signed(acc_bits)), total_valid : Out(1)
        Row plus bias, ``latency_cycles`` after its ``drain``; it stays until the next row is drained or added to.
    """

    term_cycles = 1

    @staticmethod
    def latency_cycles(config):
        """Cycles from a row that is drained to its total."""
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

        # A drained row is zeroed where its sum would be written; or in the cycle after it, by operands whose sum is
        # zero, which takes less logic.
        apart = self.config.row_cycles > 1
        drains_now = self.valid & self.drain
        zero, answer_zero = Signal(), Signal(name="answer_zero")
        if apart:
            m.d.sync += [zero.eq(drains_now & ~self.keep), answer_zero.eq(zero)]

        # Steps: the memory answers (answer), the sum is computed and written (add), it lies in a register (store).
        # Without a deep pipeline the sum is computed while the memory answers.
        # `valid` marks rows that are written; `keep` marks rows that are drained but not cleared in the same step.
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

        total, stored = Signal(shape), Signal(shape, name="stored")
        term, kept = Signal(shape, init=1, reset_less=True), Signal(shape, reset_less=True, name="kept")
        m.d.comb += stored.eq(total if apart else Mux(drains["add"], 0, total))
        if apart:
            # `kept` is the total of a drained row as well, and does not change while that row is zeroed.
            with m.If(drains["add"] | (valids["add"] & ~drains["store"])):
                m.d.sync += kept.eq(total)
            m.d.comb += self.total.eq(kept)
        else:
            m.d.sync += kept.eq(stored)
            with m.If(drains["add"]):
                m.d.sync += self.total.eq(total)

        # A row is not yet in memory if it was written a cycle before, or while it was read: its sum is forwarded.
        if deep:
            # One of three sums goes into the adder: the one made just before (near), the one before that (far), or the
            # memory's (old). The registers of the others are all ones, so that choosing is a gate, which fits into the
            # adder's cells, and no multiplexer before them. If none is chosen the operand is -1, and the term 1 gives
            # zero. Rows are compared a cycle before.
            near, far, old = (Signal(shape, name=name, init=-1, reset_less=True) for name in ("near", "far", "old"))
            not_near, is_far = Signal(), Signal(name="is_far")
            m.d.sync += [
                not_near.eq(~(valids["answer"] & (rows["answer"] == self.row))),
                is_far.eq(valids["add"] & (rows["add"] == self.row)),
                near.eq(Mux(not_near, -1, stored)),
                far.eq(Mux(not_near & is_far & ~answer_zero, kept, -1)),
                old.eq(Mux(not_near & ~is_far & ~answer_zero, read.data, -1)),
                term.eq(Mux(answer_zero, 1, self.term)),
            ]
            m.d.comb += total.eq((near & far & old) + term)
        else:
            from_add = Signal()
            m.d.sync += from_add.eq(valids["add"] & (rows["add"] == self.row))
            m.d.comb += [
                term.eq(Mux(answer_zero, 0, self.term)),
                total.eq(Mux(answer_zero, 0, Mux(from_add, kept, read.data)) + term),
            ]
        m.d.comb += [
            write.addr.eq(rows["add"]),
            write.data.eq(stored),
            write.en.eq(valids["add"]),
            self.total_valid.eq(valids["store"] & drains["store"] | keeps["store"]),
        ]
        return m
