# SPDX-License-Identifier: Apache-2.0
"""The commands: carries out the link's requests, see `rtl.protocol`."""

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from .layouts import counters_layout
from .protocol import COUNTERS, PROTOCOL_VERSION, Opcode, Status

__all__ = ["Commands"]


class Commands(wiring.Component):
    """One request at a time; a request that is refused has no effect.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    request, opcode, length, payload, respond, status, body_bytes, body
        The `Link`'s, in the other direction.
    image : Out(stream.Signature(8)), image_begin : Out(1), image_offset : In(32), image_status : In(Status),
    loaded : In(1)
        To and from the `Loader`.
    run : Out(1), running : In(1), ready : In(1), settled : In(1)
        To and from the `Sequencer`.
    timed_out : In(1)
        The `Watchdog` has stopped the newest inference.
    counters : In(counters_layout)
    write_address : Out, write_word : Out, write : Out(1), read_address : Out, read : Out(1), word : In
        To and from the activation memory, which answers two cycles later.
    """

    def __init__(self, config):
        self.config = config
        address, word = ceil_log2(config.act_depth), config.pes * config.act_bits
        super().__init__({
            "request": In(1), "opcode": In(8), "length": In(16), "payload": In(stream.Signature(8)),
            "respond": Out(1), "status": Out(Status), "body_bytes": Out(16), "body": Out(stream.Signature(8)),
            "image": Out(stream.Signature(8)), "image_begin": Out(1), "image_offset": In(32),
            "image_status": In(Status), "loaded": In(1),
            "run": Out(1), "running": In(1), "ready": In(1), "settled": In(1), "timed_out": In(1),
            "counters": In(counters_layout()),
            "write_address": Out(address), "write_word": Out(word), "write": Out(1),
            "read_address": Out(address), "read": Out(1), "word": In(word),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        word_bytes = config.pes * config.act_bytes
        place_bits = exact_log2(word_bytes)
        argument = Signal(32)
        argument_left = Signal(range(5))
        address, words = argument[:16], argument[16:]
        data_bytes = Signal(16)
        has_input = Signal()
        place = Signal(place_bits)
        word_address = Signal(17)
        assembled = Signal(word_bytes * 8, reset_less=True)
        settle = Signal(range(8))
        answer, answer_bytes = Signal(Status), Signal(16)

        identity = Cat(C(PROTOCOL_VERSION, 8), self.loaded, C(0, 7), C(config.packet_bytes, 16), C(config.pes, 16),
                       C(int.from_bytes(config.hash, "little"), 64))
        identity_bytes, counter_bytes = len(identity) // 8, 4 * len(COUNTERS)

        def reject(status):
            m.d.sync += [answer.eq(status), answer_bytes.eq(0)]
            m.next = "ANSWER"

        def accept(body_bytes=0):
            m.d.sync += [answer.eq(Status.OK), answer_bytes.eq(body_bytes)]
            m.next = "ANSWER"

        m.d.comb += [
            self.write_word.eq(assembled), self.body_bytes.eq(answer_bytes), self.status.eq(answer),
            self.image.payload.eq(self.payload.payload),
        ]
        m.d.sync += [self.write.eq(0), self.image_begin.eq(0), self.run.eq(0)]

        # What the checks want to know, a register for each step: sums and comparisons in one cycle would be too long.
        # The length holds from the request on, the argument while `settle` counts.
        starts, continues, readable, fits = Signal(), Signal(), Signal(), Signal()
        end = Signal(17)
        m.d.sync += [
            data_bytes.eq(self.length - 2),
            starts.eq(argument == 0), continues.eq(argument == self.image_offset),
            readable.eq((words != 0) & (words <= (config.packet_bytes - 1) // word_bytes)),
            end.eq(Mux(self.opcode == Opcode.WRITE.value, argument[16:] + (data_bytes >> place_bits), address + words)),
            fits.eq(end <= config.act_depth),
        ]

        with m.FSM():
            with m.State("WAIT"):
                m.d.sync += [argument_left.eq(0), place.eq(0), settle.eq(0)]
                # Nothing is carried out while accumulators are cleared or a program is read ahead: that ends soon.
                with m.If(self.request & self.settled):
                    m.next = "CHECK"
            with m.State("CHECK"):
                with m.Switch(self.opcode):
                    with m.Case(Opcode.IDENTIFY.value):
                        with m.If(self.length != 0):
                            reject(Status.BAD_LENGTH)
                        with m.Else():
                            accept(identity_bytes)
                    with m.Case(Opcode.WAIT.value):
                        with m.If(self.length != 0):
                            reject(Status.BAD_LENGTH)
                        with m.Elif(self.timed_out):
                            reject(Status.TIMED_OUT)
                        with m.Elif(~self.running):
                            accept(counter_bytes)
                    with m.Case(Opcode.RUN.value):
                        with m.If(self.length != 0):
                            reject(Status.BAD_LENGTH)
                        with m.Elif(self.running):
                            reject(Status.BUSY)
                        with m.Elif(~self.loaded):
                            reject(Status.NOT_LOADED)
                        with m.Elif(~has_input):
                            reject(Status.NO_INPUT)
                        with m.Elif(self.ready):
                            m.d.sync += [self.run.eq(1), has_input.eq(0)]
                            accept()
                    with m.Case(Opcode.LOAD.value):
                        m.d.sync += argument_left.eq(4)
                        with m.If(self.length < 5):
                            reject(Status.BAD_LENGTH)
                        with m.Elif(self.running):
                            reject(Status.BUSY)
                        with m.Else():
                            m.next = "TAKE ARGUMENT"
                    with m.Case(Opcode.WRITE.value):
                        m.d.sync += argument_left.eq(2)
                        with m.If((self.length <= 2) | (self.length - 2)[:place_bits].any()):
                            reject(Status.BAD_LENGTH)
                        with m.Elif(self.running):
                            reject(Status.BUSY)
                        with m.Else():
                            m.next = "TAKE ARGUMENT"
                    with m.Case(Opcode.READ.value):
                        m.d.sync += argument_left.eq(4)
                        with m.If(self.length != 4):
                            reject(Status.BAD_LENGTH)
                        with m.Elif(self.running):
                            reject(Status.BUSY)
                        with m.Else():
                            m.next = "TAKE ARGUMENT"
                    with m.Default():
                        reject(Status.UNKNOWN_OPCODE)
            with m.State("TAKE ARGUMENT"):
                m.d.comb += self.payload.ready.eq(argument_left != 0)
                with m.If(self.payload.valid & (argument_left != 0)):
                    m.d.sync += [argument.eq(Cat(argument[8:], self.payload.payload)),
                                 argument_left.eq(argument_left - 1)]
                with m.Elif(argument_left == 0):
                    m.d.sync += settle.eq(settle + 1)
                with m.If(settle == 2):
                    m.d.sync += settle.eq(0)
                    with m.Switch(self.opcode):
                        with m.Case(Opcode.LOAD.value):
                            m.d.sync += self.image_begin.eq(starts)
                            m.next = "FEED LOADER"
                            with m.If(~starts & ~continues):
                                reject(Status.BAD_OFFSET)
                        with m.Case(Opcode.WRITE.value):
                            m.d.sync += word_address.eq(argument[16:])
                            m.next = "WRITE"
                            with m.If(~fits):
                                reject(Status.BAD_ADDRESS)
                        with m.Case(Opcode.READ.value):
                            m.d.sync += word_address.eq(address)
                            with m.If(~fits):
                                reject(Status.BAD_ADDRESS)
                            with m.Elif(~readable):
                                reject(Status.BAD_LENGTH)
                            with m.Else():
                                accept(words << place_bits)
            with m.State("FEED LOADER"):
                # The loader starts over in the first cycle, and has its verdict some cycles after the last byte.
                m.d.comb += [
                    self.image.valid.eq(self.payload.valid & ~self.image_begin),
                    self.payload.ready.eq(self.image.ready & ~self.image_begin),
                ]
                m.d.sync += settle.eq(0)
                with m.If(~self.payload.valid):
                    m.d.sync += settle.eq(settle + 1)
                with m.If(settle == 7):
                    reject(self.image_status)
            with m.State("WRITE"):
                m.d.comb += self.payload.ready.eq(1)
                m.d.sync += settle.eq(0)
                with m.If(self.payload.valid):
                    m.d.sync += [
                        assembled.eq(Cat(assembled[8:], self.payload.payload)), place.eq(place + 1),
                        self.write.eq(place == word_bytes - 1),
                    ]
                with m.Else():
                    m.d.sync += settle.eq(settle + 1)
                with m.If(self.write):
                    m.d.sync += word_address.eq(word_address + 1)
                with m.If(settle == 7):
                    m.d.sync += has_input.eq(1)
                    accept()
            with m.State("ANSWER"):
                m.d.comb += self.respond.eq(1)
                m.d.sync += place.eq(0)
                m.next = "ANSWER BODY"
            with m.State("ANSWER BODY"):
                # The link has what it needs once the request has fallen; its next request ends this one.
                with m.If(self.request):
                    m.next = "WAIT"
        m.d.comb += [self.write_address.eq(word_address), self.read_address.eq(word_address)]
        self._send_body(m, Array(identity.word_select(number, 8) for number in range(identity_bytes)), place_bits,
                        word_address)
        return m

    def _send_body(self, m, identity, place_bits, word_address):
        """The bytes of a response: from the identity, the counters or the activation memory."""
        count = Signal(16)
        activations = self.opcode == Opcode.READ.value
        sent = self.body.valid & self.body.ready
        with m.If(self.request):
            m.d.sync += count.eq(0)
        with m.Elif(sent):
            m.d.sync += count.eq(count + 1)
            with m.If(activations & count[:place_bits].all()):
                m.d.sync += word_address.eq(word_address + 1)
        # The word of a byte is read anew. One of its neighbours' bytes goes through a register, one of those through
        # another: the lanes lie far apart, and the way on through the link's CRC is long.
        near_bits = min(place_bits // 2, 2)
        near = [Signal(8, name=f"near_{number}", reset_less=True) for number in range(1 << place_bits - near_bits)]
        byte, settled = Signal(8, reset_less=True), Signal(4)
        for number, one in enumerate(near):
            lanes = self.word.word_select(number, 8 << near_bits)
            m.d.sync += one.eq(lanes.word_select(count[:near_bits], 8))
        m.d.sync += settled.eq(Cat(1, settled))
        with m.If(self.request | sent):
            m.d.sync += settled.eq(0)
        m.d.comb += [self.read.eq(1), self.body.payload.eq(byte), self.body.valid.eq(settled.all())]
        with m.Switch(self.opcode):
            with m.Case(Opcode.IDENTIFY.value):
                m.d.sync += byte.eq(identity[count[:4]])
            with m.Case(Opcode.WAIT.value):
                m.d.sync += byte.eq(self.counters.as_value().word_select(count[:5], 8))
            with m.Default():
                m.d.sync += byte.eq(Array(near)[count[near_bits:place_bits]])
