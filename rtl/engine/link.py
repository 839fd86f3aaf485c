# SPDX-License-Identifier: Apache-2.0
"""The link: packets in and out of a byte stream, see `rtl.protocol`."""

from contextlib import contextmanager

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rtl.protocol import SYNC, Status

from .interfaces import request_port

__all__ = ["Link"]


class Link(wiring.Component):
    """Receives a packet whole, hands it on if it is sound, and sends the response.

    A request is handed on once its CRC is found right, so that a damaged packet has no effect. The link answers
    BAD_CRC, TOO_LONG and OVERRUN itself. From then on it takes no byte until the last byte of the response has left.

    Parameters
    ----------
    packet_bytes : int
        The longest payload of a request or a response; a power of two.
    observed : bool
        Has ``last`` and ``last_status``.
    gap_bits : int
        For a line without flow control: a packet whose next byte does not come within ``2**gap_bits`` cycles is
        discarded, and a request that was ``lost`` is refused. 0 for a stream with flow control.

    Members
    -------
    rx : In(stream.Signature(8)), tx : Out(stream.Signature(8))
    last : Out(1)
        The byte on ``tx`` is the last of its response.
    last_status : Out(8)
        Status of the newest response; 0 after a reset.
    lost : In(1)
        Only with ``gap_bits``: a byte that may have begun a packet is lost, since the link did not take it in time. It
        answers OVERRUN, with opcode 0, once nothing else is under way.
    busy : Out(1)
        1 from the first byte of a packet to the last of its response.
    requests : Out(request_port)
    """

    def __init__(self, packet_bytes, *, observed=False, gap_bits=0):
        self.packet_bytes, self.observed, self.gap_bits = packet_bytes, observed, gap_bits
        super().__init__({
            "rx": In(stream.Signature(8)),
            "tx": Out(stream.Signature(8)),
            **({"last": Out(1), "last_status": Out(8)} if observed else {}),
            **({"lost": In(1)} if gap_bits else {}),
            "busy": Out(1),
            "requests": Out(request_port(packet_bytes)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = catalog.CRC32_ETHERNET(data_width=8).create()
        m.submodules.buffer = buffer = memory.Memory(shape=8, depth=self.packet_bytes, init=[])
        write = buffer.write_port()
        read = buffer.read_port()

        # Length of a payload, and the number of its bytes that have passed; first of the request, then of the response.
        requests, opcode, payload, body = self.requests, self.requests.opcode, self.requests.payload, self.requests.body
        length, count = Signal(16), Signal(range(self.packet_bytes + 1), name="count")
        # The bits of `count` suffice: a longer request is refused.
        through = count == length[:len(count)]
        size_bits = exact_log2(self.packet_bytes)
        too_long, sound = Signal(), Signal(name="sound")
        m.d.sync += [too_long.eq(length[size_bits:].any() & (length != self.packet_bytes)),
                     sound.eq(crc.match_detected)]
        status = Signal(8)
        if self.observed:
            m.d.comb += self.last_status.eq(status)
        # Flags for actions of several states, so that nothing decodes the state on a critical path: take a byte, take
        # one of the payload, send a byte, send one of a body; count sent bytes; clear the count. Bytes of a CRC have a
        # counter of their own.
        takes, takes_payload, sends, sends_body = Signal(init=1), Signal(), Signal(), Signal()
        executes, counts_sent, clears, crc_count = Signal(), Signal(), Signal(), Signal(2)
        received = self.rx.valid & takes
        # The byte that is sent lies in a register; the next byte replaces it only when it is gone.
        byte, sent = Signal(8), Signal()
        m.d.comb += [
            self.rx.ready.eq(takes),
            sent.eq(sends & ~self.tx.valid & (~sends_body | body.valid)),
            body.ready.eq(sends & ~self.tx.valid & sends_body),
        ]
        with m.If(self.tx.ready):
            m.d.sync += self.tx.valid.eq(0)
        with m.If(sent):
            m.d.sync += [self.tx.valid.eq(1), self.tx.payload.eq(byte)]
        # Bytes behind the payload are written as well, unless the buffer is full; nothing reads them.
        m.d.comb += [
            write.addr.eq(count), write.data.eq(self.rx.payload), read.addr.eq(count),
            write.en.eq(takes_payload & self.rx.valid & ~count[-1]),
        ]
        # A byte that is `summed` goes into the CRC a cycle later: the path to it is long, and so is its own logic.
        summed = Signal()
        m.d.sync += [crc.valid.eq(summed), crc.data.eq(Mux(sends, byte, self.rx.payload))]

        # The payload leaves the buffer through the memory's output and a register, one byte a cycle.
        fetched, held = Signal(), Signal(name="held")
        fetch, advance = Signal(), Signal(name="advance")
        m.d.comb += [
            advance.eq(~held | payload.ready), fetch.eq(~fetched | advance), read.en.eq(fetch),
            payload.valid.eq(held),
        ]
        with m.If(advance):
            m.d.sync += [held.eq(fetched), payload.payload.eq(read.data)]
        with m.If(executes & fetch):
            m.d.sync += fetched.eq(~through)
        with m.If(~executes | requests.respond):
            m.d.sync += [fetched.eq(0), held.eq(0)]
        m.d.comb += [requests.pending.eq(executes), requests.length.eq(length)]
        m.d.sync += clears.eq(0)
        with m.If(clears):
            m.d.sync += count.eq(0)
        with m.Elif((takes_payload & self.rx.valid) | (executes & fetch & ~through) | (counts_sent & sent)):
            m.d.sync += count.eq(count + 1)

        # `silent`: the counter of cycles since the last byte of a packet has reached its top bit.
        silent, overrun = Signal(), Signal()
        if self.gap_bits:
            waited = Signal(self.gap_bits + 1)
            m.d.comb += silent.eq(waited[-1])
            m.d.sync += waited.eq(waited + 1)
            with m.If(received | ~takes):
                m.d.sync += waited.eq(0)

        @contextmanager
        def receive(state):
            """A state that takes bytes of a packet."""
            with m.State(state):
                m.d.comb += summed.eq(received)
                with m.If(received):
                    yield
                with m.Elif(silent):
                    m.d.sync += takes_payload.eq(0)
                    m.next = "WAIT"

        def send(state, value, next_state, *, checked=True, then=()):
            with m.State(state):
                m.d.comb += [byte.eq(value), summed.eq(sent if checked else 0)]
                with m.If(sent):
                    m.d.sync += then
                    m.next = next_state

        def respond(payload_bytes):
            m.d.sync += [length.eq(payload_bytes), clears.eq(1)]
            m.next = "START RESPONSE"

        with m.FSM() as fsm:
            with m.State("WAIT"):
                m.d.comb += crc.start.eq(1)
                m.d.sync += [clears.eq(1), crc_count.eq(0)]
                with m.If(received & (self.rx.payload == SYNC)):
                    m.next = "RECEIVE OPCODE"
                if self.gap_bits:
                    with m.Elif(overrun):
                        m.d.sync += [overrun.eq(0), takes.eq(0), opcode.eq(0), status.eq(Status.OVERRUN.value)]
                        respond(1)
            for state, field, next_state in (("RECEIVE OPCODE", opcode, "RECEIVE LENGTH LOW"),
                                             ("RECEIVE LENGTH LOW", length[:8], "RECEIVE LENGTH HIGH"),
                                             ("RECEIVE LENGTH HIGH", length[8:], "MEASURE LENGTH")):
                with receive(state):
                    m.d.sync += field.eq(self.rx.payload)
                    if next_state == "MEASURE LENGTH":
                        m.d.sync += takes.eq(0)
                    m.next = next_state
            with m.State("MEASURE LENGTH"):
                m.next = "CHECK LENGTH"
            with m.State("CHECK LENGTH"):
                m.d.sync += [takes.eq(~too_long), takes_payload.eq(~too_long)]
                m.next = "RECEIVE PAYLOAD"
                with m.If(too_long):
                    m.d.sync += status.eq(Status.TOO_LONG.value)
                    respond(1)
            with receive("RECEIVE PAYLOAD"):
                with m.If(through):
                    # This byte is the first of the CRC.
                    m.d.sync += [takes_payload.eq(0), crc_count.eq(1)]
                    m.next = "RECEIVE CRC"
            with receive("RECEIVE CRC"):
                m.d.sync += crc_count.eq(crc_count + 1)
                with m.If(crc_count == 3):
                    m.d.sync += takes.eq(0)
                    m.next = "AWAIT CRC"
            with m.State("AWAIT CRC"):
                m.d.sync += clears.eq(1)
                m.next = "COMPARE CRC"
            with m.State("COMPARE CRC"):
                m.next = "CHECK CRC"
            with m.State("CHECK CRC"):
                m.d.sync += executes.eq(sound)
                m.next = "EXECUTE"
                with m.If(~sound):
                    m.d.sync += status.eq(Status.BAD_CRC.value)
                    respond(1)
            with m.State("EXECUTE"):
                with m.If(requests.respond):
                    m.d.sync += [executes.eq(0), status.eq(requests.status)]
                    respond(requests.response_bytes)
            with m.State("START RESPONSE"):
                m.d.sync += sends.eq(1)
                m.d.comb += crc.start.eq(1)
                m.next = "SEND SYNC"
            send("SEND SYNC", SYNC, "SEND OPCODE", checked=False)
            send("SEND OPCODE", opcode, "SEND LENGTH LOW")
            send("SEND LENGTH LOW", length[:8], "SEND LENGTH HIGH", then=counts_sent.eq(1))
            send("SEND LENGTH HIGH", length[8:], "SEND STATUS")
            for state in ("SEND STATUS", "SEND BODY"):
                with m.State(state):
                    m.d.comb += [byte.eq(status if state == "SEND STATUS" else body.payload), summed.eq(sent)]
                    with m.If(sent):
                        # `count` includes the length's last byte, and thus equals `length` at the payload's last byte.
                        m.d.sync += sends_body.eq(1)
                        m.next = "SEND BODY"
                        with m.If(through):
                            m.d.sync += [sends.eq(0), sends_body.eq(0), counts_sent.eq(0)]
                            m.next = "FINISH CRC"
            with m.State("FINISH CRC"):
                m.d.sync += sends.eq(1)
                m.next = "SEND CRC"
            with m.State("SEND CRC"):
                m.d.comb += byte.eq(crc.crc.word_select(crc_count, 8))
                with m.If(sent):
                    m.d.sync += crc_count.eq(crc_count + 1)
                    with m.If(crc_count == 3):
                        m.d.sync += sends.eq(0)
                        m.next = "FINISH"
            with m.State("FINISH"):
                if self.observed:
                    m.d.comb += self.last.eq(1)
                with m.If(self.tx.ready):
                    m.d.sync += takes.eq(1)
                    m.next = "WAIT"
        if self.gap_bits:
            with m.If(self.lost):
                m.d.sync += overrun.eq(1)
        m.d.comb += self.busy.eq(~fsm.ongoing("WAIT"))
        return m
