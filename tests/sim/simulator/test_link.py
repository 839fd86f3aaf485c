# SPDX-License-Identifier: Apache-2.0
"""The bulk link to a simulated engine, with an echo in the engine's place."""

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from sim.simulator.link import SimulationLink, build_link
from sim.simulator.verilate import SimulationError


class Echo(wiring.Component):
    """Answers a length (2 bytes, little-endian) and that number of bytes with those bytes in reverse.

    Ignores 0xff where a length should begin; hangs after length 0.
    """

    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))
    busy: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = memory.Memory(shape=8, depth=4096, init=[])
        write, read = store.write_port(), store.read_port()
        length, place = Signal(16), Signal(16)
        m.d.comb += [write.addr.eq(place), write.data.eq(self.rx.payload), read.addr.eq(place)]
        with m.FSM() as fsm:
            with m.State("WAIT"):
                m.d.comb += self.rx.ready.eq(1)
                m.d.sync += [place.eq(0), length.eq(self.rx.payload)]
                with m.If(self.rx.valid & (self.rx.payload != 0xff)):
                    m.next = "MEASURE"
            with m.State("MEASURE"):
                m.d.comb += self.rx.ready.eq(1)
                with m.If(self.rx.valid):
                    m.d.sync += length[8:].eq(self.rx.payload)
                    m.next = "RECEIVE"
            with m.State("RECEIVE"):
                m.d.comb += [self.rx.ready.eq(length != 0), write.en.eq(self.rx.valid)]
                with m.If(self.rx.valid & self.rx.ready):
                    m.d.sync += place.eq(place + 1)
                    with m.If(place == length - 1):
                        m.d.sync += place.eq(place)
                        m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [self.tx.valid.eq(1), self.tx.payload.eq(read.data)]
                with m.If(self.tx.ready):
                    m.d.sync += place.eq(place - 1)
                    m.next = "FETCH"
                    with m.If(place == 0):
                        m.next = "WAIT"
        m.d.comb += self.busy.eq(~fsm.ongoing("WAIT"))
        return m


def packet(payload):
    return len(payload).to_bytes(2, "little") + payload


@pytest.fixture(scope="module")
def echo():
    return build_link(Echo(), capacity_bytes=1000)


@pytest.fixture(scope="module")
def link(echo):
    with SimulationLink(echo, patience_cycles=3000) as link:
        yield link


def test_packets_are_answered_in_order(link):
    assert link.exchange(packet(b"sparse")) == b"esraps"
    assert link.exchange(packet(b"x")) == b"x"
    choices = random.Random(1)
    payloads = [choices.randbytes(choices.choice([1, 2, 253, 254, 256, 257, 1022])) for _ in range(20)]
    assert link.exchange([packet(payload) for payload in payloads]) == [payload[::-1] for payload in payloads]
    assert link.exchange([]) == []


def test_several_packets_in_a_request(link):
    assert link.exchange(packet(b"ab") + b"\xff" + packet(b"cd") + packet(b"e")) == b"badce"


def test_garbage_has_no_response(link):
    before = link.cycles
    assert link.exchange([b"\xff\xff\xff", b"", packet(b"ab")]) == [b"", b"", b"ba"]
    assert link.cycles - before < 100


def test_a_packet_that_is_cut_off_is_answered_at_its_end(link):
    before = link.cycles
    assert link.exchange(packet(b"abcdef")[:5]) == b""
    assert 3000 < link.cycles - before < 3100
    # The engine still waits for the rest.
    assert link.exchange(b"def") == b"fedcba"


def test_an_engine_that_hangs_works_after_a_reset(link):
    assert link.exchange([b"\xff\0\0more", packet(b"ab")]) == [b"", b""]
    link.reset()
    assert link.exchange(packet(b"ab")) == b"ba"


@pytest.mark.parametrize("cycles", [1, 2, 5, 20, 26])
def test_an_interrupted_packet_leaves_nothing_behind(link, cycles):
    link.interrupt(packet(b"abcdefghij"), cycles)
    assert link.exchange(packet(b"xyz")) == b"zyx"


def test_time_stands_still_between_calls(link):
    assert link.cycles == link.cycles


def test_requests_that_are_too_long_are_refused(link):
    # The capacity is rounded up to whole blocks.
    with pytest.raises(ValueError, match=r"^a request may have 1024 bytes, not 1025$"):
        link.exchange([b"", bytes(1025)])
    assert link.exchange(packet(b"ab")) == b"ba"


def test_bytes_are_held_back(echo):
    payloads = [random.Random(1).randbytes(200) for _ in range(5)]
    cycles = {}
    for idle, stall in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.8), (0.5, 0.8)):
        with SimulationLink(echo, idle=idle, stall=stall) as link:
            before = link.cycles
            assert link.exchange([packet(payload) for payload in payloads]) == [x[::-1] for x in payloads]
            cycles[idle, stall] = (link.cycles - before) / 1000
    # A byte takes a cycle in and two out; being held back with probability p takes p / (1 - p) more.
    assert cycles[0.0, 0.0] == pytest.approx(3, abs=0.2)
    assert cycles[0.5, 0.0] == pytest.approx(4, abs=0.4)
    assert cycles[0.0, 0.8] == pytest.approx(7, abs=0.8)
    assert cycles[0.5, 0.8] == pytest.approx(8, abs=0.8)


def test_a_response_that_is_too_long_is_told(echo):
    with SimulationLink(echo, patience_cycles=1000) as link:
        assert link.exchange(packet(bytes(1100))[:1000]) == b""
        with pytest.raises(SimulationError, match=r"a response of 1100 bytes; the link port holds 1024"):
            link.exchange(bytes(102))


def test_a_simulation_that_dies_is_told(echo):
    with SimulationLink(echo) as link:
        link.abort()
        with pytest.raises(SimulationError, match=r"^the simulation has ended\nThe log ends with:\n.* gpi "):
            link.exchange(packet(b"ab"))
        with pytest.raises(SimulationError, match=r"^the simulation has ended$"):
            link.reset()


def test_a_simulation_that_takes_too_long_is_ended(echo):
    with SimulationLink(echo, patience_cycles=1 << 31) as link:
        link.timeout_s = 1
        began = time.monotonic()
        with pytest.raises(SimulationError, match=r"^the simulation did not answer within 1 s\n"):
            link.exchange(b"\0\0more")
        assert time.monotonic() - began < 5
        assert link.process.returncode is not None


def test_the_simulation_ends_with_the_context(echo):
    with SimulationLink(echo) as link:
        assert link.exchange(packet(b"ab")) == b"ba"
    assert link.process.returncode == 0


def test_wrong_probabilities_are_refused(echo):
    with pytest.raises(ValueError, match=r"^idle must be from 0 to 0\.9, not 1$"):
        SimulationLink(echo, idle=1)
    with pytest.raises(ValueError, match=r"^stall must be from 0 to 0\.9, not -0\.5$"):
        SimulationLink(echo, stall=-0.5)


def test_waves_are_written(tmp_path):
    built = build_link(Echo(), waves=".vcd")
    with SimulationLink(built, waves=tmp_path / "waves.vcd") as link:
        assert link.exchange(packet(b"ab")) == b"ba"
    assert "rx__payload [7:0]" in (tmp_path / "waves.vcd").read_text()


def test_an_interrupted_link_ends_its_simulation_at_once(echo, monkeypatch):
    with pytest.raises(KeyboardInterrupt), SimulationLink(echo) as link:
        raise KeyboardInterrupt
    assert link.process.returncode == -signal.SIGKILL
    aborted, abort = [], SimulationLink.abort

    def interrupted(*_):
        raise KeyboardInterrupt

    def noted(link):
        aborted.append(link)
        abort(link)
    # While the link waits for the simulation's first answer.
    monkeypatch.setattr("multiprocessing.connection.Connection.poll", interrupted)
    monkeypatch.setattr(SimulationLink, "abort", noted)
    with pytest.raises(KeyboardInterrupt):
        SimulationLink(echo)
    assert [link.process.returncode for link in aborted] == [-signal.SIGKILL]


def test_abort_ends_a_call_of_another_thread(echo):
    """The engine hangs after length 0, and the call would wait for it without end."""
    with SimulationLink(echo, patience_cycles=0xFFFF_FFFF, timeout_s=20) as link, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(link.exchange, packet(b""))
        link.abort()
        with pytest.raises(SimulationError, match="the simulation has ended"):
            waiting.result()
