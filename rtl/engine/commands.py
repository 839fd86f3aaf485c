# SPDX-License-Identifier: Apache-2.0
"""The commands: carries out the link's requests, see `rtl.protocol`."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2, exact_log2

from rtl.image_format import image_offset_bits
from rtl.layouts import counters_layout
from rtl.protocol import COUNTERS, PROTOCOL_VERSION, Opcode, Status

__all__ = ["Commands"]


class Commands(wiring.Component):
    """One request at a time; a request that is refused has no effect.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    request, opcode, length, payload, respond, status, response_bytes, body
        The `Link`'s, in the other direction.
    image : Out(stream.Signature(8)), image_begin : Out(1), image_offset : In(image_offset_bits),
    image_status : In(Status), loaded : In(1)
        To and from the `Loader`.
    run : Out(1), running : In(1), ready : In(1), settled : In(1)
        To and from the `Sequencer`.
    timed_out : In(1)
        The `Watchdog` has stopped the newest inference.
    counters : In(counters_layout)
    act_byte : Out(8), shift : Out(1)
        The next byte of a word for the activation memory; bytes move down, so that the first ends up lowest.
    write : Out(1)
        With this byte the word is whole.
    address : Out, word : In
        To and from the activation memory: its word at the address, three cycles later; writes go to the same one.
    """

    def __init__(self, config):
        self.config = config
        lengths = range(config.packet_bytes + 1)
        super().__init__({
            "request": In(1), "opcode": In(8), "length": In(lengths), "payload": In(stream.Signature(8)),
            "respond": Out(1), "status": Out(Status), "response_bytes": Out(lengths),
            "body": Out(stream.Signature(8)),
            "image": Out(stream.Signature(8)), "image_begin": Out(1),
            "image_offset": In(image_offset_bits(config)), "image_status": In(Status), "loaded": In(1),
            "run": Out(1), "running": In(1), "ready": In(1), "settled": In(1), "timed_out": In(1),
            "counters": In(counters_layout()),
            "act_byte": Out(8), "shift": Out(1), "write": Out(1),
            "address": Out(ceil_log2(config.act_depth)), "word": In(config.pes * config.act_bits),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        word_bytes = config.pes * config.act_bytes
        place_bits = exact_log2(word_bytes)
        identity = Cat(C(PROTOCOL_VERSION, 8), self.loaded, C(0, 7), C(config.packet_bytes, 16), C(config.pes, 16),
                       C(int.from_bytes(config.hash, "little"), 64))
        identity_bytes, counter_bytes = len(identity) // 8, 4 * len(COUNTERS)
        # Of LOAD the offset; of READ the address and the words; of WRITE the address, and the words from the length.
        # No offset and no number of words that is right has more bits; `excess` are those of any others.
        most_words = config.packet_bytes // word_bytes - 1
        argument, excess = Signal(max(len(self.image_offset), 16 + bits_for(most_words))), Signal(name="excess")
        address, far, words = argument[:len(self.address)], argument[len(self.address):16], argument[16:]
        taken = Signal(range(5))
        has_input = Signal()
        # Of a byte in its word, or in a response without activations.
        place = Signal(max(place_bits, ceil_log2(counter_bytes)))
        settle = Signal(range(8))
        answer = Signal(Status)

        def reply(status):
            m.d.sync += answer.eq(status)
            m.next = "ANSWER"

        m.d.comb += [
            self.status.eq(answer), self.image.payload.eq(self.payload.payload), self.address.eq(address),
        ]
        m.d.sync += [self.image_begin.eq(0), self.run.eq(0), self.shift.eq(0), self.write.eq(0),
                     self.act_byte.eq(self.payload.payload)]

        # What the checks want to know, a register for each step: sums and comparisons in one cycle would be too long.
        # The argument holds while `settle` counts.
        starts, continues, readable, fits = Signal(), Signal(), Signal(), Signal()
        end = Signal.like(address + words)
        m.d.sync += [
            starts.eq(~excess & (argument == 0)), continues.eq(~excess & (argument == self.image_offset)),
            readable.eq(~excess & (words != 0) & (words <= most_words)),
            end.eq(address + words), fits.eq(~far.any() & (end <= config.act_depth)),
        ]

        # Opcode and length are there long before the request.
        asked = {opcode: Signal(name=f"asked_{opcode.name.lower()}") for opcode in Opcode}
        m.d.sync += [one.eq(self.opcode == opcode.value) for opcode, one in asked.items()]
        known, right_length = Signal(), Signal(name="right_length")
        m.d.sync += known.eq(1)
        with m.Switch(self.opcode):
            with m.Case(Opcode.IDENTIFY.value, Opcode.WAIT.value, Opcode.RUN.value):
                m.d.sync += right_length.eq(self.length == 0)
            with m.Case(Opcode.LOAD.value):
                m.d.sync += right_length.eq(self.length >= 5)
            with m.Case(Opcode.WRITE.value):
                m.d.sync += right_length.eq((self.length > 2) & ~(self.length - 2)[:place_bits].any())
            with m.Case(Opcode.READ.value):
                m.d.sync += right_length.eq(self.length == 4)
            with m.Default():
                m.d.sync += known.eq(0)

        with m.FSM():
            with m.State("WAIT"):
                m.d.sync += [taken.eq(0), excess.eq(0), place.eq(0), settle.eq(0)]
                # Nothing is carried out while accumulators are cleared or a program is read ahead: that ends soon.
                with m.If(self.request & self.settled):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += words.eq((self.length - 2) >> place_bits)
                with m.If(~known):
                    reply(Status.UNKNOWN_OPCODE)
                with m.Elif(~right_length):
                    reply(Status.BAD_LENGTH)
                with m.Elif(asked[Opcode.IDENTIFY]):
                    reply(Status.OK)
                with m.Elif(asked[Opcode.WAIT]):
                    with m.If(self.timed_out):
                        reply(Status.TIMED_OUT)
                    with m.Elif(~self.running):
                        reply(Status.OK)
                with m.Elif(self.running):
                    reply(Status.BUSY)
                with m.Elif(asked[Opcode.RUN]):
                    with m.If(~self.loaded):
                        reply(Status.NOT_LOADED)
                    with m.Elif(~has_input):
                        reply(Status.NO_INPUT)
                    with m.Elif(self.ready):
                        m.d.sync += [self.run.eq(1), has_input.eq(0)]
                        reply(Status.OK)
                with m.Else():
                    m.next = "TAKE ARGUMENT"
            with m.State("TAKE ARGUMENT"):
                whole = taken == Mux(asked[Opcode.WRITE], 2, 4)
                m.d.comb += self.payload.ready.eq(~whole)
                with m.If(whole):
                    m.d.sync += settle.eq(settle + 1)
                with m.Elif(self.payload.valid):
                    m.d.sync += taken.eq(taken + 1)
                    with m.Switch(taken[:2]):
                        for number in range(4):
                            with m.Case(number):
                                bits = argument[8 * number:8 * (number + 1)]
                                m.d.sync += [bits.eq(self.payload.payload),
                                             excess.eq(excess | self.payload.payload[len(bits):].any())]
                with m.If(settle == 2):
                    m.d.sync += settle.eq(0)
                    with m.If(asked[Opcode.LOAD]):
                        m.d.sync += self.image_begin.eq(starts)
                        m.next = "FEED LOADER"
                        with m.If(~starts & ~continues):
                            reply(Status.BAD_OFFSET)
                    with m.Elif(asked[Opcode.READ] & ~readable):
                        reply(Status.BAD_LENGTH)
                    with m.Elif(~fits):
                        reply(Status.BAD_ADDRESS)
                    with m.Elif(asked[Opcode.READ]):
                        reply(Status.OK)
                    with m.Else():
                        m.next = "WRITE"
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
                    reply(self.image_status)
            with m.State("WRITE"):
                m.d.comb += self.payload.ready.eq(1)
                m.d.sync += settle.eq(0)
                with m.If(self.payload.valid):
                    m.d.sync += [self.shift.eq(1), self.write.eq(place[:place_bits].all()), place.eq(place + 1)]
                with m.Else():
                    m.d.sync += settle.eq(settle + 1)
                with m.If(self.write):
                    m.d.sync += address.eq(address + 1)
                with m.If(settle == 7):
                    # Without an image there is nothing that it is the input of.
                    m.d.sync += has_input.eq(self.loaded)
                    reply(Status.OK)
            with m.State("ANSWER"):
                m.d.comb += self.respond.eq(1)
                m.d.sync += place.eq(0)
                m.next = "ANSWER BODY"
            with m.State("ANSWER BODY"):
                # The link has what it needs once the request has fallen; its next request ends this one.
                with m.If(self.request):
                    m.next = "WAIT"
        # A header that is right takes the place of the image that the input was for.
        with m.If(~self.loaded):
            m.d.sync += has_input.eq(0)
        # The status, and bodies of even lengths.
        m.d.comb += self.response_bytes.eq(1)
        for opcode, body_bytes in ((Opcode.IDENTIFY, identity_bytes), (Opcode.WAIT, counter_bytes),
                                   (Opcode.READ, words << place_bits)):
            with m.If(asked[opcode] & (answer == Status.OK)):
                m.d.comb += self.response_bytes.eq(body_bytes | 1)
        self._send_body(m, identity, place, address, asked[Opcode.IDENTIFY], asked[Opcode.READ])
        return m

    def _send_body(self, m, identity, place, address, identifies, reads):
        """The bytes of a response: from the identity, the counters or the activation memory."""
        place_bits = exact_log2(len(self.word) // 8)
        # It goes on a cycle after its byte was sent, since the link's answer comes from far away.
        sent, goes_on = self.body.valid & self.body.ready, Signal(name="goes_on")
        m.d.sync += goes_on.eq(sent)
        with m.If(goes_on):
            m.d.sync += place.eq(place + 1)
            with m.If(reads & place[:place_bits].all()):
                m.d.sync += address.eq(address + 1)
        # The word of a byte is read anew. Of a wide one, one of four bytes goes on through a register, and one of four
        # of these: the lanes lie far apart, and the way on through the link's CRC is long.
        far_place = Signal.like(place, reset_less=True)
        m.d.sync += far_place.eq(place)
        near, chosen, cycles = [self.word.word_select(number, 8) for number in range(1 << place_bits)], 0, 6
        while len(near) > 4:
            near = self._one_of_four(m, f"near_{chosen}", near, far_place[chosen:chosen + 2])
            chosen, cycles = chosen + 2, cycles + 1
        counters = self._one_of_four(m, "counters", [self.counters.as_value().word_select(number, 8)
                                                     for number in range(4 * len(COUNTERS))], far_place[:2])
        byte, settled = Signal(8, reset_less=True), Signal(cycles, name="settled")
        m.d.sync += settled.eq(Cat(1, settled))
        with m.If(self.request | sent):
            m.d.sync += settled.eq(0)
        m.d.comb += [self.body.payload.eq(byte), self.body.valid.eq(settled.all())]
        identity_byte, act_byte, counter_byte = (Signal(8, name=name, reset_less=True)
                                                 for name in ("identity_byte", "act_byte", "counter_byte"))
        m.d.sync += [
            identity_byte.eq(identity.word_select(far_place[:4], 8)),
            act_byte.eq(Cat(near).word_select(far_place[chosen:place_bits], 8)),
            counter_byte.eq(Cat(counters).word_select(far_place[2:5], 8)),
            byte.eq(Mux(identifies, identity_byte, Mux(reads, act_byte, counter_byte))),
        ]

    @staticmethod
    def _one_of_four(m, name, parts, place):
        """One of each four bytes, in a register."""
        registers = [Signal(8, name=f"{name}_{number}", reset_less=True) for number in range(len(parts) // 4)]
        m.d.sync += [register.eq(Cat(parts[4 * number:4 * number + 4]).word_select(place, 8))
                     for number, register in enumerate(registers)]
        return registers
