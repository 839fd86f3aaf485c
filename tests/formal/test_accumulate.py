# SPDX-License-Identifier: Apache-2.0
"""Accumulator forwarding equals a naive read-modify-write, for any sequence of rows and drains."""

from dataclasses import replace

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cover, Mux, Signal, signed

from rtl.config import EngineConfig
from rtl.engine.accumulate import Accumulator
from tests.support.formal import prove, specify, with_bug

CONFIG = EngineConfig(acc_bits=24, acc_depth=8)
APART = replace(CONFIG, pes_per_requantizer=2)
"""Rows of a drain are at least two cycles apart."""

DEPTH = 11
"""Three times the pipeline: every overlap of operations occurs, with one before and one after."""
FEW = 8
"""Likewise with few registers."""


def specification(component, config=CONFIG):
    m, clock = specify()
    m.submodules.dut = dut = component(config)
    for port in (dut.row, dut.valid, dut.drain, dut.term):
        m.d.comb += port.eq(AnySeq(port.shape()))
    row = Signal(dut.row.shape())
    m.d.comb += row.eq(AnyConst(row.shape()))

    # The naive model of one row, any row: add in the cycle in which the term is there.
    hit, drain, value = Signal(), Signal(), Signal(signed(24))
    m.d.sync += [hit.eq(dut.valid & (dut.row == row)), drain.eq(dut.drain)]
    with m.If(hit):
        m.d.sync += value.eq(Mux(drain, 0, value + dut.term))
    drained, total = [hit & drain], [value + dut.term]
    for step in range(dut.latency_cycles(config) - 1):
        later, later_total = Signal(name=f"drained_{step}"), Signal(signed(24), name=f"total_{step}")
        m.d.sync += [later.eq(drained[-1]), later_total.eq(total[-1])]
        drained.append(later)
        total.append(later_total)
    with m.If(drained[-1]):
        m.d.comb += [Assert(dut.total_valid), Assert(dut.total == total[-1])]

    # No drain, no total.
    any_drain, drained_row = [dut.valid & dut.drain], [dut.row]
    for step in range(dut.latency_cycles(config)):
        later, later_row = Signal(name=f"any_drain_{step}"), Signal.like(row, name=f"drained_row_{step}")
        m.d.sync += [later.eq(any_drain[-1]), later_row.eq(drained_row[-1])]
        any_drain.append(later)
        drained_row.append(later_row)
    if config.row_cycles > 1:
        m.d.comb += Assume(~(dut.valid & any_drain[1]))
        m.d.comb += (Assume(~(dut.valid & any_drain[step] & (drained_row[step] == dut.row)))
                     for step in range(2, dut.latency_cycles(config) + 1))
        # The total stays for a cycle more.
        still, still_total = Signal(), Signal(signed(24))
        m.d.sync += [still.eq(drained[-1]), still_total.eq(total[-1])]
        with m.If(still):
            m.d.comb += Assert(dut.total == still_total)
    m.d.comb += [
        Assert(dut.total_valid == any_drain[-1]),
        Assume(dut.term != 0),
        Cover(drained[-1] & (total[-1] == 1234)),
    ]
    return m, clock


@pytest.mark.parametrize("config, depth", [
    (CONFIG, DEPTH), (APART, DEPTH), (replace(CONFIG, single_port=True), FEW), (replace(APART, single_port=True), FEW),
], ids=["in turn", "apart", "in turn, few registers", "apart, few registers"])
def test_forwarding_equals_read_modify_write(tmp_path, config, depth):
    assert prove(specification(Accumulator, config), tmp_path, depth=depth) == "pass"


@pytest.mark.parametrize("config", [CONFIG, APART], ids=["in turn", "apart"])
def test_a_drained_total_can_be_seen(tmp_path, config):
    assert prove(specification(Accumulator, config), tmp_path, depth=DEPTH, mode="cover") == "pass"


@pytest.mark.parametrize("config, right, wrong", [
    (CONFIG, 'not_near.eq(~(valids["answer"] & (rows["answer"] == self.row)))', "not_near.eq(1)"),
    (CONFIG, 'is_far.eq(valids["add"] & (rows["add"] == self.row))', "is_far.eq(0)"),
    (CONFIG, "Mux(not_near & is_far &", "Mux(is_far &"),
    (CONFIG, "Mux(not_near & ~is_far &", "Mux(not_near &"),
    (APART, "not_near & is_far & ~answer_zero", "not_near & is_far"),
    (APART, "not_near & ~is_far & ~answer_zero", "not_near & ~is_far"),
    (CONFIG, "kept.eq(stored)", "kept.eq(total)"),
    (CONFIG, "write.data.eq(stored)", "write.data.eq(total)"),
    (APART, "rows[steps[0]].eq(rows[steps[0]])", "rows[steps[0]].eq(self.row)"),
    (APART, "term.eq(Mux(answer_zero, 1, self.term))", "term.eq(self.term)"),
    (APART, "zero.eq(drains_now & ~self.keep)", "zero.eq(0)"),
    (APART, '~drains["store"]', "1"),
    (APART, 'm.If(drains["add"] |', "m.If("),
    (replace(APART, single_port=True), "term.eq(Mux(answer_zero, 0, self.term))", "term.eq(self.term)"),
    (replace(APART, single_port=True), "Mux(answer_zero, 0, Mux(from_add, kept, read.data))",
     "Mux(from_add, kept, read.data)"),
    (replace(CONFIG, single_port=True), 'from_add.eq(valids["add"] & (rows["add"] == self.row))', "from_add.eq(0)"),
])
def test_planted_bugs_are_found(tmp_path, config, right, wrong):
    assert prove(specification(with_bug(Accumulator, right, wrong), config), tmp_path, depth=DEPTH) == "fail"
