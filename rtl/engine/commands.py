# SPDX-License-Identifier: Apache-2.0
"""The commands: carries out the link's requests, see `rtl.protocol`."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2, exact_log2

from rtl.layouts import counters_layout
from rtl.protocol import COUNTERS, PROTOCOL_VERSION, Opcode, Status

from .interfaces import host_read_port, host_write_port, image_port, inference_port, request_port

__all__ = ["Commands"]


class Commands(wiring.Component):
    """One request at a time; a request that is refused has no effect.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    requests : In(request_port)
    image : Out(image_port), loaded : In(1)
        To the `Loader`; there is an image.
    inferences : Out(inference_port)
    timed_out : In(1)
        The `Watchdog` has stopped the newest inference.
    counters : In(counters_layout)
    writes : Out(host_write_port), reads : Out(host_read_port)
        To the activation memory; both have the same address.
    """

    check_cycles = 2
    """Cycles from the last byte of an argument to the results of its checks: one for a sum, one for a comparison."""

    settle_cycles = 7
    """Cycles from the last byte of a payload until it has taken effect: more than the loader needs for its status, and
    the activation writer for its word."""

    byte_cycles = 6
    """Cycles between two bytes of a body if a word has at most four bytes."""

    def __init__(self, config):
        self.config = config
        super().__init__({
            "requests": In(request_port(config.packet_bytes)),
            "image": Out(image_port(config)),
            "loaded": In(1),
            "inferences": Out(inference_port()),
            "timed_out": In(1),
            "counters": In(counters_layout()),
            "writes": Out(host_write_port(config)),
            "reads": Out(host_read_port(config)),
        })

    def elaborate(self, platform):
        m = Module()
        config, requests, writes, inferences = self.config, self.requests, self.writes, self.inferences
        word_bytes = config.pes * config.act_bytes
        place_bits = exact_log2(word_bytes)
        identity = Cat(C(PROTOCOL_VERSION, 8), self.loaded, C(0, 7), C(config.packet_bytes, 16), C(config.pes, 16),
                       C(int.from_bytes(config.hash, "little"), 64))
        identity_bytes, counter_bytes = len(identity) // 8, 4 * len(COUNTERS)
        # The argument is the offset of a LOAD, the address and number of words of a READ, or the address of a WRITE,
        # whose number of words follows from the length. A valid argument fits into these bits; `excess`: a higher bit
        # was set.
        most_words = config.packet_bytes // word_bytes - 1
        argument, excess = Signal(max(len(self.image.offset), 16 + bits_for(most_words))), Signal(name="excess")
        address, far, words = argument[:len(writes.address)], argument[len(writes.address):16], argument[16:]
        taken = Signal(range(5))
        has_input = Signal()
        # The place of a byte in its word, or in a response without activations.
        place = Signal(max(place_bits, ceil_log2(counter_bytes)))
        settle = Signal(range(self.settle_cycles + 1))
        answer = Signal(Status)

        def reply(status):
            m.d.sync += answer.eq(status)
            m.next = "ANSWER"

        m.d.comb += [
            requests.status.eq(answer), self.image.bytes.payload.eq(requests.payload.payload),
            writes.address.eq(address), self.reads.address.eq(address),
        ]
        m.d.sync += [self.image.begin.eq(0), inferences.run.eq(0), writes.shift.eq(0), writes.write.eq(0),
                     writes.byte.eq(requests.payload.payload)]

        # The results of checks, each in a register: a sum and a comparison in one cycle would be too slow. The argument
        # holds while `settle` counts.
        starts, continues, readable, fits = Signal(), Signal(), Signal(), Signal()
        end = Signal.like(address + words)
        m.d.sync += [
            starts.eq(~excess & (argument == 0)), continues.eq(~excess & (argument == self.image.offset)),
            readable.eq(~excess & (words != 0) & (words <= most_words)),
            end.eq(address + words), fits.eq(~far.any() & (end <= config.act_depth)),
        ]

        # Opcode and length arrive long before the request is pending, so that their checks can be registered.
        asked = {opcode: Signal(name=f"asked_{opcode.name.lower()}") for opcode in Opcode}
        m.d.sync += [one.eq(requests.opcode == opcode.value) for opcode, one in asked.items()]
        known, right_length = Signal(), Signal(name="right_length")
        m.d.sync += known.eq(1)
        with m.Switch(requests.opcode):
            with m.Case(Opcode.IDENTIFY.value, Opcode.WAIT.value, Opcode.RUN.value):
                m.d.sync += right_length.eq(requests.length == 0)
            with m.Case(Opcode.LOAD.value):
                m.d.sync += right_length.eq(requests.length >= 5)
            with m.Case(Opcode.WRITE.value):
                m.d.sync += right_length.eq((requests.length > 2) & ~(requests.length - 2)[:place_bits].any())
            with m.Case(Opcode.READ.value):
                m.d.sync += right_length.eq(requests.length == 4)
            with m.Default():
                m.d.sync += known.eq(0)

        with m.FSM():
            with m.State("WAIT"):
                m.d.sync += [taken.eq(0), excess.eq(0), place.eq(0), settle.eq(0)]
                # No request is carried out while accumulators are cleared or a program is read ahead: that ends soon.
                with m.If(requests.pending & inferences.settled):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += words.eq((requests.length - 2) >> place_bits)
                with m.If(~known):
                    reply(Status.UNKNOWN_OPCODE)
                with m.Elif(~right_length):
                    reply(Status.BAD_LENGTH)
                with m.Elif(asked[Opcode.IDENTIFY]):
                    reply(Status.OK)
                with m.Elif(asked[Opcode.WAIT]):
                    with m.If(self.timed_out):
                        reply(Status.TIMED_OUT)
                    with m.Elif(~inferences.running):
                        reply(Status.OK)
                with m.Elif(inferences.running):
                    reply(Status.BUSY)
                with m.Elif(asked[Opcode.RUN]):
                    with m.If(~self.loaded):
                        reply(Status.NOT_LOADED)
                    with m.Elif(~has_input):
                        reply(Status.NO_INPUT)
                    with m.Elif(inferences.ready):
                        m.d.sync += [inferences.run.eq(1), has_input.eq(0)]
                        reply(Status.OK)
                with m.Else():
                    m.next = "TAKE ARGUMENT"
            with m.State("TAKE ARGUMENT"):
                whole = taken == Mux(asked[Opcode.WRITE], 2, 4)
                m.d.comb += requests.payload.ready.eq(~whole)
                with m.If(whole):
                    m.d.sync += settle.eq(settle + 1)
                with m.Elif(requests.payload.valid):
                    m.d.sync += taken.eq(taken + 1)
                    with m.Switch(taken[:2]):
                        for number in range(4):
                            with m.Case(number):
                                bits = argument[8 * number:8 * (number + 1)]
                                m.d.sync += [bits.eq(requests.payload.payload),
                                             excess.eq(excess | requests.payload.payload[len(bits):].any())]
                with m.If(settle == self.check_cycles):
                    m.d.sync += settle.eq(0)
                    with m.If(asked[Opcode.LOAD]):
                        m.d.sync += self.image.begin.eq(starts)
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
                # The loader starts over in the first cycle, and its status is final some cycles after the last byte.
                m.d.comb += [
                    self.image.bytes.valid.eq(requests.payload.valid & ~self.image.begin),
                    requests.payload.ready.eq(self.image.bytes.ready & ~self.image.begin),
                ]
                m.d.sync += settle.eq(0)
                with m.If(~requests.payload.valid):
                    m.d.sync += settle.eq(settle + 1)
                with m.If(settle == self.settle_cycles):
                    reply(self.image.status)
            with m.State("WRITE"):
                m.d.comb += requests.payload.ready.eq(1)
                m.d.sync += settle.eq(0)
                with m.If(requests.payload.valid):
                    m.d.sync += [writes.shift.eq(1), writes.write.eq(place[:place_bits].all()), place.eq(place + 1)]
                with m.Else():
                    m.d.sync += settle.eq(settle + 1)
                with m.If(writes.write):
                    m.d.sync += address.eq(address + 1)
                with m.If(settle == self.settle_cycles):
                    # Without an image these words are no network's input.
                    m.d.sync += has_input.eq(self.loaded)
                    reply(Status.OK)
            with m.State("ANSWER"):
                m.d.comb += requests.respond.eq(1)
                m.d.sync += place.eq(0)
                m.next = "ANSWER BODY"
            with m.State("ANSWER BODY"):
                # The link needs nothing more once the request is no longer pending; its next request ends this one.
                with m.If(requests.pending):
                    m.next = "WAIT"
        # A valid header invalidates the loaded image, and with it the input that was written for it.
        with m.If(~self.loaded):
            m.d.sync += has_input.eq(0)
        # A response has the status, and a body of an even number of bytes.
        m.d.comb += requests.response_bytes.eq(1)
        for opcode, body_bytes in ((Opcode.IDENTIFY, identity_bytes), (Opcode.WAIT, counter_bytes),
                                   (Opcode.READ, words << place_bits)):
            with m.If(asked[opcode] & (answer == Status.OK)):
                m.d.comb += requests.response_bytes.eq(body_bytes | 1)
        self._send_body(m, identity, place, address, asked[Opcode.IDENTIFY], asked[Opcode.READ])
        return m

    def _send_body(self, m, identity, place, address, identifies, reads):
        """The bytes of a response: from the identity, the counters or the activation memory."""
        place_bits = exact_log2(len(self.reads.word) // 8)
        # The next byte is selected a cycle after its predecessor was sent, since the link's `ready` arrives late.
        sent, goes_on = self.requests.body.valid & self.requests.body.ready, Signal(name="goes_on")
        m.d.sync += goes_on.eq(sent)
        with m.If(goes_on):
            m.d.sync += place.eq(place + 1)
            with m.If(reads & place[:place_bits].all()):
                m.d.sync += address.eq(address + 1)
        # The word is read again for each of its bytes. A byte of a wide word is selected by several registered 4:1
        # multiplexers in a row: the lanes lie far apart, and the path through the link's CRC is long.
        far_place = Signal.like(place, reset_less=True)
        m.d.sync += far_place.eq(place)
        near, chosen, cycles = [self.reads.word.word_select(number, 8) for number in range(1 << place_bits)], 0, \
            self.byte_cycles
        while len(near) > 4:
            near = self._one_of_four(m, f"near_{chosen}", near, far_place[chosen:chosen + 2])
            chosen, cycles = chosen + 2, cycles + 1
        counters = self._one_of_four(m, "counters", [self.counters.as_value().word_select(number, 8)
                                                     for number in range(4 * len(COUNTERS))], far_place[:2])
        byte, settled = Signal(8, reset_less=True), Signal(cycles, name="settled")
        m.d.sync += settled.eq(Cat(1, settled))
        with m.If(self.requests.pending | sent):
            m.d.sync += settled.eq(0)
        m.d.comb += [self.requests.body.payload.eq(byte), self.requests.body.valid.eq(settled.all())]
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
        """Selects one of each four bytes, in a register."""
        registers = [Signal(8, name=f"{name}_{number}", reset_less=True) for number in range(len(parts) // 4)]
        m.d.sync += [register.eq(Cat(parts[4 * number:4 * number + 4]).word_select(place, 8))
                     for number, register in enumerate(registers)]
        return registers
