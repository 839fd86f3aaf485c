# SPDX-License-Identifier: Apache-2.0
"""The drivers, monitors and the scoreboard: right devices pass, and each kind of wrong one fails."""

import json
import re

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import enum, fifo, stream, wiring
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out

from sim.cocotb_kit.payloads import pack, unpack
from sim.simulator.running import run
from sim.simulator.verilate import SimulationError, build
from sim.testbenches.stand_in import PAIR

FAULTS = {
    1: r"o: 0 of 50 expected items came; nothing in the last 100 cycles, next would be \d+",
    2: r"o: item 3 is \d+, expected \d+",
    3: r"o: item \d+ is \d+, expected \d+",
    4: r"o: \d+ came after all 50 expected items",
    5: r"o: valid fell before the item 0x[0-9a-f]+ was accepted",
    6: r"o: the payload changed from 0x[0-9a-f]+ to 0x[0-9a-f]+ before it was accepted",
    7: r".*SimTimeoutError",
}


class Buffer(wiring.Component):
    """A buffer that can be told to misbehave."""

    def __init__(self):
        super().__init__({"i": In(stream.Signature(PAIR)), "o": Out(stream.Signature(PAIR)), "fault": In(3)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.items = items = fifo.SyncFIFOBuffered(width=PAIR.size, depth=4)
        count, taken = Signal(8), Signal(8)
        again, swallow, hide, tick = Signal(), Signal(), Signal(), Signal()
        accepted = self.o.valid & self.o.ready
        m.d.sync += [tick.eq(~tick), count.eq(count + (self.i.valid & self.i.ready)),
                     taken.eq(taken + accepted), again.eq((again & ~self.o.ready)
                                | ((self.fault == 4) & (taken == 49) & accepted))]
        m.d.comb += [
            # 1: emits nothing; 2: loses item 3; 7: accepts nothing
            swallow.eq((self.fault == 1) | ((self.fault == 2) & (count == 3))),
            self.i.ready.eq((items.w_rdy | swallow) & (self.fault != 7)),
            items.w_en.eq(self.i.valid & self.i.ready & ~swallow),
            # 3: damages item 20
            items.w_data.eq(self.i.p.as_value() ^ ((self.fault == 3) & (count == 20))),
            # 5: takes an offer back; 6: changes its mind; 4: the last item comes twice
            hide.eq((self.fault == 5) & tick),
            self.o.valid.eq((items.r_rdy & ~hide) | again),
            self.o.p.as_value().eq(items.r_data ^ ((self.fault == 6) & ~self.o.ready)),
            items.r_en.eq(self.o.ready & self.o.valid & ~again),
        ]
        return m


@pytest.fixture(scope="module")
def buffer():
    return build(Buffer(), name="buffer")


@pytest.mark.parametrize("idle", [0.0, 0.3])
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_everything_arrives(buffer, tmp_path, idle, stall):
    report = tmp_path / "report"
    run(buffer, "sim.testbenches.stand_in", tests=["everything_arrives"],
        parameters={"idle": idle, "stall": stall, "count": 400, "report": str(report)})
    cycles = json.loads(report.read_text())
    assert len(cycles) == 400
    # Without pauses there is an item in every cycle; with them the throughput falls about as far as they say.
    per_item = (cycles[-1] - cycles[0]) / 399
    if idle == stall == 0.0:
        assert per_item == 1.0
    else:
        assert 1.25 < per_item < 2.5


def test_wrong_devices_fail(buffer):
    with pytest.raises(SimulationError) as raised:
        run(buffer, "sim.testbenches.stand_in", tests=["faulty_device_is_found"])
    causes = dict(re.findall(r"^faulty_device_is_found/fault=(\d): (.*)$", str(raised.value), re.MULTILINE))
    assert sorted(causes) == [str(fault) for fault in FAULTS]
    for fault, cause in FAULTS.items():
        assert re.fullmatch(cause, causes[str(fault)])


def test_words_that_are_not_held_are_found_by_take(buffer):
    with pytest.raises(SimulationError) as raised:
        run(buffer, "sim.testbenches.stand_in", tests=["some_are_taken"])
    causes = re.findall(r"^some_are_taken/fault=(\d): (.*)$", str(raised.value), re.MULTILINE)
    assert [fault for fault, _ in causes] == ["5", "6"]
    assert all(re.fullmatch(r"o: 0x[0-9a-f]+ was not held until it was accepted", cause) for _, cause in causes)


class Kind(enum.Enum, shape=2):
    NONE = 0
    SOME = 2


LAYOUT = StructLayout({"kind": Kind, "sum": StructLayout({"low": 4}), "taps": ArrayLayout(4, 3)})


def test_payloads_are_packed_as_amaranth_does():
    value = {"kind": Kind.SOME, "sum": {"low": 9}, "taps": [1, 2, 15]}
    bits = pack(LAYOUT, value)
    assert bits == LAYOUT.const(value).as_value().value
    assert unpack(LAYOUT, bits) == {"kind": 2, "sum": {"low": 9}, "taps": [1, 2, 15]}


def test_signed_payloads():
    assert pack(signed(4), -3) == 13
    assert unpack(signed(4), 13) == -3


@pytest.mark.parametrize("value, message", [
    ({"taps": [16, 0, 0]}, r"16 does not fit unsigned\(4\)"),
    ({"taps": [0]}, "an array of 3 items cannot be 1 items"),
    ({"tap": 0}, "the layout has no field 'tap'; it has 'kind', 'sum', 'taps'"),
])
def test_payloads_that_do_not_fit(value, message):
    with pytest.raises(ValueError, match=message):
        pack(LAYOUT, value)
