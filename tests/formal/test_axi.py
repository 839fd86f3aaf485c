# SPDX-License-Identifier: Apache-2.0
"""The rules of AXI: what is offered stays until it is taken, each request has one answer, each response one end."""

import pytest
from amaranth.asserts import AnySeq
from amaranth.hdl import Array, Assert, Assume, Cat, Cover, Mux, Signal

from rtl.engine.link import Link
from rtl.integration.axi_top import AXI_LITE, IDENTIFICATION, Register, Registers, Response
from rtl.protocol import COUNTERS
from tests.support.formal import prove, specify, with_bug
from tests.support.networks import SMALL

DEPTH = 8
KNOWN = [*(int(register) for register in Register if register != Register.COUNTERS),
         *(Register.COUNTERS + 4 * place for place in range(len(COUNTERS)))]

LINK_DEPTH = 29
"""Long enough for a whole response to a packet that is too long, the bytes that cause it included."""


def hold(m, valid, ready, payload):
    """Asserts that an offer stays as it is until it is taken."""
    stalled, before = Signal(), Signal.like(payload)
    m.d.sync += [stalled.eq(valid & ~ready), before.eq(payload)]
    with m.If(stalled):
        m.d.comb += [Assert(valid), Assert(payload == before)]


def is_known(address):
    return Cat(address == known for known in KNOWN).any()


def registers_specification(component):
    m, clock = specify()
    m.submodules.dut = dut = component(SMALL)
    inputs = [name for name, member in AXI_LITE.items() if member.flow.name == "In"]
    for name in (*inputs, "loaded", "busy", "running", "last_status"):
        port = getattr(dut, name)
        m.d.comb += port.eq(AnySeq(len(port)))
    m.d.comb += dut.counters.as_value().eq(AnySeq(32 * len(COUNTERS)))
    hold(m, dut.rvalid, dut.rready, Cat(dut.rdata, dut.rresp))
    hold(m, dut.bvalid, dut.bready, dut.bresp)

    # Reads: what was asked, and what there was then.
    asked, address, counter, status = Signal(), Signal(12), Signal(32), Signal(8)
    with m.If(dut.arvalid & dut.arready):
        m.d.sync += [asked.eq(1), address.eq(dut.araddr), counter.eq(dut.counters.broadcasts),
                     status.eq(dut.last_status)]
    with m.Elif(dut.rvalid & dut.rready):
        m.d.sync += asked.eq(0)
    m.d.comb += [Assert(dut.rvalid == asked), Assert(~(asked & dut.arready))]
    with m.If(dut.rvalid):
        m.d.comb += Assert(dut.rresp == Mux(is_known(address), Response.OKAY, Response.SLVERR))
        with m.If(address == Register.IDENTIFICATION):
            m.d.comb += Assert(dut.rdata == IDENTIFICATION)
        with m.If(address == Register.STATUS):
            m.d.comb += [Assert(dut.rdata[8:] == status), Assert(dut.rdata[3] == status.any())]
        with m.If(address == Register.COUNTERS + 8):
            m.d.comb += Assert(dut.rdata == counter)
        with m.If(~is_known(address)):
            m.d.comb += Assert(dut.rdata == 0)

    # Writes: addresses and data counted, and the addresses remembered.
    addresses = Array(Signal(12, name=f"address_{place}") for place in range(DEPTH + 1))
    taken, data, answered = (Signal(range(DEPTH + 1), name=name) for name in ("taken", "data", "answered"))
    with m.If(dut.awvalid & dut.awready):
        m.d.sync += [addresses[taken].eq(dut.awaddr), taken.eq(taken + 1)]
    with m.If(dut.wvalid & dut.wready):
        m.d.sync += data.eq(data + 1)
    with m.If(dut.bvalid & dut.bready):
        m.d.sync += answered.eq(answered + 1)
    complete = (taken > answered) & (data > answered)
    with m.If(dut.bvalid):
        m.d.comb += [Assert(complete),
                     Assert(dut.bresp == Mux(is_known(addresses[answered]), Response.OKAY, Response.SLVERR))]
    waited = Signal()
    m.d.sync += waited.eq(complete & ~dut.bvalid)
    with m.If(waited):
        m.d.comb += Assert(dut.bvalid)
    with m.If((taken == answered) & (data == answered)):
        m.d.comb += Assert(dut.awready & dut.wready)
    m.d.comb += Cover((answered == 2) & dut.rvalid & (dut.rresp == Response.SLVERR))
    return m, clock


def link_specification(component):
    m, clock = specify()
    m.submodules.dut = dut = component(4, observed=True)
    requests, body = dut.requests, dut.requests.body
    for port in (dut.rx.valid, dut.rx.payload, dut.tx.ready, requests.payload.ready, requests.respond,
                 requests.status.as_value(), requests.response_bytes, body.valid, body.payload):
        m.d.comb += port.eq(AnySeq(len(port)))
    stalled, before = Signal(), Signal(8)
    m.d.sync += [stalled.eq(body.valid & ~body.ready), before.eq(body.payload)]
    m.d.comb += [Assume(~stalled | (body.valid & (body.payload == before))),
                 Assume((requests.response_bytes > 0) & (requests.response_bytes <= dut.packet_bytes))]
    hold(m, dut.tx.valid, dut.tx.ready, Cat(dut.tx.payload, dut.last))

    # A response ends where its length says.
    place, length = Signal(18), Signal(16)
    with m.If(dut.tx.valid & dut.tx.ready):
        m.d.sync += place.eq(Mux(dut.last, 0, place + 1))
        with m.If(place == 2):
            m.d.sync += length[:8].eq(dut.tx.payload)
        with m.If(place == 3):
            m.d.sync += length[8:].eq(dut.tx.payload)
    ends = (place >= 4) & (place == length + 7)
    m.d.comb += [Assert(dut.last == (dut.tx.valid & ends)), Assert(~(dut.rx.ready & (dut.tx.valid | (place != 0))))]
    m.d.comb += Cover(dut.last & dut.tx.ready)
    return m, clock


def test_the_registers_keep_the_rules_of_axi(tmp_path):
    assert prove(registers_specification(Registers), tmp_path, depth=DEPTH) == "pass"


def test_two_writes_and_a_read_can_be_seen(tmp_path):
    assert prove(registers_specification(Registers), tmp_path, depth=DEPTH, mode="cover") == "pass"


@pytest.mark.parametrize("right, wrong", [
    ("self.arready.eq(~self.rvalid)", "self.arready.eq(1)"),
    ("address_held & data_held & ~self.bvalid", "address_held & data_held"),
    ("address_held & data_held & ~self.bvalid", "address_held & ~self.bvalid"),
    ("with m.If(self.bvalid & self.bready)", "with m.If(self.bvalid)"),
    ("known.eq(0)", "known.eq(1)"),
])
def test_planted_bugs_of_the_registers_are_found(tmp_path, right, wrong):
    assert prove(registers_specification(with_bug(Registers, right, wrong)), tmp_path, depth=DEPTH) == "fail"


def test_the_stream_keeps_the_rules_of_axi(tmp_path):
    assert prove(link_specification(Link), tmp_path, depth=LINK_DEPTH) == "pass"


def test_a_whole_response_can_be_seen(tmp_path):
    assert prove(link_specification(Link), tmp_path, depth=LINK_DEPTH, mode="cover") == "pass"


@pytest.mark.parametrize("right, wrong", [
    ("self.last.eq(1)", "self.last.eq(0)"),
    ("sent.eq(sends & ~self.tx.valid & (", "sent.eq(sends & ("),
])
def test_planted_bugs_of_the_stream_are_found(tmp_path, right, wrong):
    assert prove(link_specification(with_bug(Link, right, wrong)), tmp_path, depth=LINK_DEPTH) == "fail"
