# SPDX-License-Identifier: Apache-2.0
"""Random requests to an engine without an image, and what it answers."""

import random

from rtl.config import EngineConfig
from rtl.protocol import COUNTERS, PROTOCOL_VERSION, Opcode, Status, pack

__all__ = ["RandomRequests"]


class RandomRequests:
    """Makes requests and knows the responses, since it keeps what was written.

    Parameters
    ----------
    config : EngineConfig
        Configuration of an engine that was just reset.
    choices : random.Random
    """

    def __init__(self, config: EngineConfig, choices: random.Random) -> None:
        self.config = config
        self.choices = choices
        self.word_bytes = config.pes * config.act_bytes
        self.words = [choices.randbytes(self.word_bytes) for _ in range(config.act_depth)]

    def first_writes(self) -> list[tuple[bytes, bytes]]:
        """Requests that fill the activation memory, and their responses: before them it holds anything."""
        return [(pack(Opcode.WRITE.value, first.to_bytes(2, "little") + word), self._answer(Opcode.WRITE, Status.OK))
                for first, word in enumerate(self.words)]

    def next(self) -> tuple[bytes, bytes]:
        """A request and its response."""
        make = self.choices.choice([self._identify, self._write, self._write, self._read, self._read, self._wait,
                                    self._run, self._unknown, self._damaged, self._too_long])
        return make()

    @staticmethod
    def _answer(opcode: Opcode | int, status: Status, body: bytes = b"") -> bytes:
        return pack(opcode.value if isinstance(opcode, Opcode) else opcode, bytes([status.value]) + body)

    def _identify(self) -> tuple[bytes, bytes]:
        body = (bytes([PROTOCOL_VERSION, 0]) + self.config.packet_bytes.to_bytes(2, "little")
                + self.config.pes.to_bytes(2, "little") + self.config.hash)
        return pack(Opcode.IDENTIFY.value), self._answer(Opcode.IDENTIFY, Status.OK, body)

    def _write(self) -> tuple[bytes, bytes]:
        count = self.choices.randint(1, (self.config.packet_bytes - 2) // self.word_bytes)
        first = self.choices.randrange(self.config.act_depth)
        words = [self.choices.randbytes(self.word_bytes) for _ in range(count)]
        request = pack(Opcode.WRITE.value, first.to_bytes(2, "little") + b"".join(words))
        if first + count > self.config.act_depth:
            return request, self._answer(Opcode.WRITE, Status.BAD_ADDRESS)
        self.words[first:first + count] = words
        return request, self._answer(Opcode.WRITE, Status.OK)

    def _read(self) -> tuple[bytes, bytes]:
        count = self.choices.randint(1, (self.config.packet_bytes - 1) // self.word_bytes)
        first = self.choices.randrange(self.config.act_depth)
        request = pack(Opcode.READ.value, first.to_bytes(2, "little") + count.to_bytes(2, "little"))
        if first + count > self.config.act_depth:
            return request, self._answer(Opcode.READ, Status.BAD_ADDRESS)
        return request, self._answer(Opcode.READ, Status.OK, b"".join(self.words[first:first + count]))

    def _wait(self) -> tuple[bytes, bytes]:
        return pack(Opcode.WAIT.value), self._answer(Opcode.WAIT, Status.OK, bytes(4 * len(COUNTERS)))

    def _run(self) -> tuple[bytes, bytes]:
        return pack(Opcode.RUN.value), self._answer(Opcode.RUN, Status.NOT_LOADED)

    def _unknown(self) -> tuple[bytes, bytes]:
        opcode = self.choices.choice([0, self.choices.randint(7, 255)])
        return pack(opcode, self.choices.randbytes(self.choices.randint(0, 9))), \
            self._answer(opcode, Status.UNKNOWN_OPCODE)

    def _damaged(self) -> tuple[bytes, bytes]:
        request = bytearray(self._identify()[0])
        request[self.choices.randint(4, 7)] ^= self.choices.randint(1, 255)
        return bytes(request), self._answer(Opcode.IDENTIFY, Status.BAD_CRC)

    def _too_long(self) -> tuple[bytes, bytes]:
        # The rest of such a packet would be garbage before the next; here there is none.
        length = self.config.packet_bytes + self.choices.randint(1, 1000)
        return pack(Opcode.LOAD.value)[:2] + length.to_bytes(2, "little"), self._answer(Opcode.LOAD, Status.TOO_LONG)
