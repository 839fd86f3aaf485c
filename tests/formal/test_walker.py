# SPDX-License-Identifier: Apache-2.0
"""The walker visits exactly the useful entries of its slices, each once, in order, at the right rows."""

from dataclasses import replace

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Array, Assert, Assume, Cat, Cover, Mux, Signal

from rtl.config import EngineConfig
from rtl.engine.walker import Walker
from tests.support.formal import prove, specify, with_bug

CONFIG = EngineConfig(pes=4, index_bits=(2, 3), entries_per_word=2, entry_depth=16, acc_depth=32, queue_depth=16,
                      slice_word_bits=16)
ENTRIES = 4
"""Entries of memory that the slices may lie in."""
LONGEST = 2
JOBS = 2
DEPTH = 13


def expected_visits(m, dut, memory, job, name):
    """Expected entries of a job: whether each is useful, and its row and code if so."""
    visits, row = [], 0
    for number in range(LONGEST):
        entry = Signal.like(memory[0], name=f"{name}_entry_{number}")
        m.d.comb += entry.eq(Array(memory)[(job.start + number)[:2]])
        inside = number <= job.last - job.start[0]
        skip = Mux(dut.layer.index_mode == 0, (entry.index + 1) << 2, (entry.index + 1) << 3)
        at = Signal(5, name=f"{name}_row_{number}")
        m.d.comb += at.eq(row + entry.index)
        visits.append((inside & (entry.code != 0), at, entry.code))
        following = Signal(5, name=f"{name}_next_{number}")
        m.d.comb += following.eq(Mux(entry.code == 0, row + skip, at + 1))
        row = following
    return visits


def specification(component, config=CONFIG):
    m, clock = specify()
    m.submodules.dut = dut = component(config)
    memory = [Signal(dut.word[0].shape(), name=f"memory_{place}") for place in range(ENTRIES)]
    for entry in memory:
        m.d.comb += entry.as_value().eq(AnyConst(len(entry.as_value())))
    m.d.comb += [dut.hold.eq(AnySeq(1)), dut.layer.index_mode.eq(AnyConst(1))]
    # With the narrow index the widest bit is zero, as the entry memory has it.
    for entry in memory:
        m.d.comb += Assume((dut.layer.index_mode == 1) | (entry.index < 4))

    # The memory answers a cycle later, and holds its answer as long as it must; behind it is a register, if the
    # pipeline is deep.
    answers = [Signal.like(entry, name=f"answer_{place}") for place, entry in enumerate(memory[:2])]
    for place, answer in enumerate(answers):
        with m.If(dut.ready):
            m.d.sync += answer.eq(Array(memory)[(dut.address * 2 + place)[:2]])
        if config.deep_pipeline:
            with m.If(dut.take):
                m.d.sync += dut.word[place].eq(answer)
        else:
            m.d.comb += dut.word[place].eq(answer)

    # Two slices, taken whenever the environment likes.
    jobs = [Signal(dut.jobs.payload.shape(), name=f"job_{number}") for number in range(JOBS)]
    taken = Signal(range(JOBS + 1))
    m.d.comb += [dut.jobs.payload.eq(Array(jobs)[taken[0]]), dut.jobs.valid.eq(AnySeq(1) & (taken != JOBS))]
    with m.If(dut.jobs.valid & dut.jobs.ready):
        m.d.sync += taken.eq(taken + 1)
    visits, acts = [], []
    for number, job in enumerate(jobs):
        m.d.comb += [
            job.as_value().eq(AnyConst(len(job.as_value()))),
            Assume((job.last >= job.start[0]) & (job.last - job.start[0] < LONGEST)),
            Assume(job.start[1:] * 2 + job.last < ENTRIES),
        ]
        found = expected_visits(m, dut, memory, job, f"job_{number}")
        visits += found
        acts += [job.act] * len(found)

    # Compare each visit with the next useful entry.
    seen = Signal(range(len(visits) + 2))
    rank = 0
    for (useful, row, code), act in zip(visits, acts, strict=True):
        with m.If(dut.visits.valid & useful & (seen == rank)):
            visit = dut.visits.payload
            m.d.comb += [Assert(visit.row == row), Assert(visit.code == code), Assert(visit.act == act)]
        rank = rank + useful
    with m.If(dut.visits.valid):
        m.d.comb += Assert(seen < rank)
        m.d.sync += seen.eq(seen + 1)
    # Some more cycles bring out what the walker had begun.
    ended = Signal(dut.late_visits(config))
    m.d.sync += ended.eq(Cat((taken == JOBS) & dut.empty, ended))
    with m.If(ended.all() & ~dut.visits.valid):
        m.d.comb += Assert(seen == rank)
    m.d.comb += Cover(ended.all() & (seen == 4))
    return m, clock


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, single_port=True)], ids=["deep", "few registers"])
def test_visits_exactly_its_slices(tmp_path, config):
    assert prove(specification(Walker, config), tmp_path, depth=DEPTH) == "pass"


def test_two_whole_slices_can_be_seen(tmp_path):
    assert prove(specification(Walker), tmp_path, depth=DEPTH, mode="cover") == "pass"


@pytest.mark.parametrize("right, wrong", [
    ("last_skip.eq(picked.is_skip)", "last_skip.eq(0)"),
    ("(skip + 1)[:len(skip)]", "skip"),
    ("Mux(is_skip, 0, own.index)", "own.index"),
    ("Cat(picked.skip[:bits], picked.skip[-1])", "picked.skip[:bits]"),
    ("raw_steps = raw.inside & ~(", "raw_steps = raw.inside | ~("),
    ("Mux(picked.begins, 0, last_row)", "last_row"),
    ("carry.eq(~last_skip & ~picked.begins)", "carry.eq(~last_skip)"),
    ("new.last[place_bits:] == 0", "new.last[place_bits:] == 1"),
    ("Mux(is_skip | paired.bit_select(at, 1), Mux", "Mux(is_skip, Mux"),
])
def test_planted_bugs_are_found(tmp_path, right, wrong):
    assert prove(specification(with_bug(Walker, right, wrong)), tmp_path, depth=DEPTH) == "fail"
