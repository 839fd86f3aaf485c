# SPDX-License-Identifier: Apache-2.0
"""A client of the link, made from docs/formats.md alone: nothing of this project is imported."""

import zlib

IDENTIFY, LOAD, WRITE, RUN, WAIT, READ = range(1, 7)
COUNTERS = ("cycles", "beats", "broadcasts", "useful_macs", "dropped_slices", "stall_cycles", "drain_cycles")


def request(opcode, payload=b""):
    """A packet."""
    body = bytes([opcode]) + len(payload).to_bytes(2, "little") + payload
    return b"\x4e" + body + zlib.crc32(body).to_bytes(4, "little")


def answer(opcode, packet):
    """Status and body of an answer."""
    assert packet[0] == 0x4E and packet[1] == opcode
    length = int.from_bytes(packet[2:4], "little")
    assert len(packet) == 4 + length + 4
    assert zlib.crc32(packet[1:-4]) == int.from_bytes(packet[-4:], "little")
    body = packet[5:-4]
    assert packet[4] == 0 or not body
    return packet[4], body


class Client:
    """Talks to an engine with the fields ``config``; ``exchange`` takes a packet and returns its answer."""

    def __init__(self, exchange, config):
        self.exchange, self.packet_bytes = exchange, config["packet_bytes"]
        self.word_bytes = config["pes"] * config["act_bits"] // 8

    def ask(self, opcode, payload=b""):
        """Status and body."""
        return answer(opcode, self.exchange(request(opcode, payload)))

    def done(self, opcode, payload=b""):
        """The body of the answer to what must be OK."""
        status, body = self.ask(opcode, payload)
        assert status == 0
        return body

    def load(self, engine_part):
        step = self.packet_bytes - 4
        for offset in range(0, len(engine_part), step):
            self.done(LOAD, offset.to_bytes(4, "little") + engine_part[offset:offset + step])

    def infer(self, content, base, words):
        """Counters of an inference of an input's bytes, and the bytes of ``words`` words from ``base`` on."""
        step = (self.packet_bytes - 2) // self.word_bytes * self.word_bytes
        for first in range(0, len(content), step):
            self.done(WRITE, (first // self.word_bytes).to_bytes(2, "little") + content[first:first + step])
        assert self.done(RUN) == b""
        counters = self.done(WAIT)
        assert len(counters) == 4 * len(COUNTERS)
        values = (int.from_bytes(counters[at:at + 4], "little") for at in range(0, len(counters), 4))
        step, found = self.packet_bytes // self.word_bytes - 1, b""
        for first in range(0, words, step):
            count = min(step, words - first)
            part = self.done(READ, (base + first).to_bytes(2, "little") + count.to_bytes(2, "little"))
            assert len(part) == count * self.word_bytes
            found += part
        return dict(zip(COUNTERS, values, strict=True)), found
