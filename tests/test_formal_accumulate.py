# SPDX-License-Identifier: Apache-2.0
"""Accumulator forwarding equals a naive read-modify-write, for any sequence of rows and drains."""

from dataclasses import replace

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cover, Mux, Signal, signed

from rtl.accumulate import Accumulator
from rtl.config import EngineConfig
from tests.formal import prove, specify, with_bug

CONFIG = EngineConfig(acc_bits=24, acc_depth=8)
APART = replace(CONFIG, pes_per_requantizer=2)
"""Rows of a drain are at least two cycles apart."""

DEPTH = 8
"""Twice the pipeline: every overlap of operations occurs, with one before and one after."""


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
    for step in range(2):
        later, later_total = Signal(name=f"drained_{step}"), Signal(signed(24), name=f"total_{step}")
        m.d.sync += [later.eq(drained[-1]), later_total.eq(total[-1])]
        drained.append(later)
        total.append(later_total)
    with m.If(drained[-1]):
        m.d.comb += [Assert(dut.total_valid), Assert(dut.total == total[-1])]

    # No drain, no total.
    any_drain = [dut.valid & dut.drain]
    for step in range(3):
        later = Signal(name=f"any_drain_{step}")
        m.d.sync += later.eq(any_drain[-1])
        any_drain.append(later)
    if config.row_cycles > 1:
        m.d.comb += Assume(~(dut.valid & any_drain[1]))
    m.d.comb += [
        Assert(dut.total_valid == any_drain[-1]),
        Assume(dut.term != 0),
        Cover(drained[-1] & (total[-1] == 1234)),
    ]
    return m, clock


@pytest.mark.parametrize("config", [CONFIG, APART], ids=["in turn", "apart"])
def test_forwarding_equals_read_modify_write(tmp_path, config):
    assert prove(specification(Accumulator, config), tmp_path, depth=DEPTH) == "pass"


@pytest.mark.parametrize("config", [CONFIG, APART], ids=["in turn", "apart"])
def test_a_drained_total_can_be_seen(tmp_path, config):
    assert prove(specification(Accumulator, config), tmp_path, depth=DEPTH, mode="cover") == "pass"


@pytest.mark.parametrize("config, right, wrong", [
    (CONFIG, 'from_store.eq(valids["add"] & (rows["add"] == self.row))', "from_store.eq(0)"),
    (CONFIG, "kept.eq(stored)", "kept.eq(total)"),
    (CONFIG, "write.data.eq(stored)", "write.data.eq(total)"),
    (APART, 'rows["answer"].eq(rows["answer"])', 'rows["answer"].eq(self.row)'),
    (APART, "[old.eq(0), term.eq(0)]", "term.eq(0)"),
    (APART, "[old.eq(0), term.eq(0)]", "old.eq(0)"),
    (APART, "zero.eq(drains_now & ~self.keep)", "zero.eq(0)"),
])
def test_planted_bugs_are_found(tmp_path, config, right, wrong):
    assert prove(specification(with_bug(Accumulator, right, wrong), config), tmp_path, depth=DEPTH) == "fail"
