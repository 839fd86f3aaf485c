# SPDX-License-Identifier: Apache-2.0
"""The queue loses, duplicates and reorders nothing, and keeps its payload while it is stalled."""

import pytest
from amaranth.asserts import AnySeq
from amaranth.hdl import Array, Assert, Assume, Cover, Mux, Signal

from rtl.engine.queue import Queue
from tests.support.formal import prove, specify, with_bug

ITEMS, LIMIT = 4, 3
DEPTH = 10
"""Long enough to fill the queue, empty it and wrap around several times."""


KINDS = [{}, {"block_ram": True}, {"bypass": True}, {"most": LIMIT}]


def specification(component, kind):
    m, clock = specify()
    m.submodules.dut = dut = component(8, ITEMS, limit=LIMIT, **kind)
    m.d.comb += [dut.i.valid.eq(AnySeq(1)), dut.i.payload.eq(AnySeq(8)), dut.o.ready.eq(AnySeq(1))]

    # The naive model: every item that went in, in order, in more places than the proof has cycles.
    items = Array(Signal(8, name=f"item_{place}") for place in range(2 * DEPTH))
    put, taken = Signal(range(2 * DEPTH)), Signal(range(2 * DEPTH))
    with m.If(dut.i.valid):
        m.d.sync += [items[put].eq(dut.i.payload), put.eq(put + 1)]
    with m.If(dut.o.valid & dut.o.ready):
        m.d.sync += taken.eq(taken + 1)
    m.d.comb += [Assert(dut.level == put - taken), Assert(dut.empty == (put == taken)),
                 Assert(dut.full == (put - taken >= LIMIT)),
                 Assume(~dut.i.valid | (put - taken != dut.most))]
    with m.If(dut.o.valid):
        if dut.bypass:
            m.d.comb += [Assert((put != taken) | dut.i.valid),
                         Assert(dut.o.payload == Mux(put != taken, items[taken], dut.i.payload))]
        else:
            m.d.comb += [Assert(put != taken), Assert(dut.o.payload == items[taken])]

    # Nothing stays behind: what was there in the cycle before the last take is on offer.
    waited = Signal()
    m.d.sync += waited.eq((dut.level != 0) & ~(dut.o.valid & dut.o.ready))
    with m.If(waited):
        m.d.comb += Assert(dut.o.valid)

    stalled, before = Signal(), Signal(8)
    m.d.sync += [stalled.eq(dut.o.valid & ~dut.o.ready), before.eq(dut.o.payload)]
    with m.If(stalled):
        m.d.comb += [Assert(dut.o.valid), Assert(dut.o.payload == before)]
    m.d.comb += Cover((taken == 3) & (dut.level == dut.most))
    return m, clock


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_duplicated_or_reordered(tmp_path, kind):
    assert prove(specification(Queue, kind), tmp_path, depth=DEPTH) == "pass"


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_queue_can_be_seen_after_it_wrapped(tmp_path, kind):
    assert prove(specification(Queue, kind), tmp_path, depth=DEPTH, mode="cover") == "pass"


@pytest.mark.parametrize("right, wrong, kind", [
    ("parity ^ ~Cat(lower).any()", "parity", {}),
    ("more.eq(count != 0)", "more.eq(count[:-1] != 0)", {}),
    ("self.level >= self.limit", "self.level > self.limit", {}),
    ("with m.If(advance & some):", "with m.If(advance):", {}),
    ("Mux(more, read.data, new)", "read.data", {"bypass": True}),
    ("put ^ (advance & some)", "put ^ (advance & more)", {"bypass": True}),
    ("read.en.eq(advance)", "read.en.eq(1)", {"block_ram": True}),
    ("count + self.o.valid", "count", {"block_ram": True}),
])
def test_planted_bugs_are_found(tmp_path, right, wrong, kind):
    assert prove(specification(with_bug(Queue, right, wrong), kind), tmp_path, depth=DEPTH) == "fail"
