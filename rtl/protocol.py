# SPDX-License-Identifier: Apache-2.0
"""Link packets, shared by the engine, the host and the simulation.

Request and response have the same form; multi-byte fields are little-endian::

    SYNC (1 byte)  opcode (1)  length (2)  payload (length bytes)  CRC-32 (4)

The CRC-32 is that of zlib, over opcode, length and payload. A response repeats the opcode; its payload starts with
a `Status` byte. Bytes before a SYNC are ignored. To resynchronise
after an error in the framing, a host sends zero bytes: the longest packet's length plus two answers (docs/formats.md).
"""

import zlib

from amaranth.lib import enum

__all__ = [
    "COUNTERS", "CRC_BYTES", "HEADER_BYTES", "PROTOCOL_VERSION", "STATUS_HELP", "SYNC", "Opcode", "Status",
    "load_packets", "pack", "packet_length",
]

SYNC = 0x4E
PROTOCOL_VERSION = 1
HEADER_BYTES = 4
CRC_BYTES = 4


class Opcode(enum.Enum, shape=8):
    """Kinds of request, each with the payloads of its request and (after the status) of its response."""

    IDENTIFY = 1
    """-> protocol version (1), loaded (1), packet_bytes (2), pes (2), config hash (8)."""
    LOAD = 2
    """offset (4), bytes of the image from there on. Offset 0 begins a load; offsets must follow each other."""
    WRITE = 3
    """first activation word (2), activations of whole words."""
    RUN = 4
    """Starts an inference and answers at once."""
    WAIT = 5
    """Answers when the inference has ended -> the `COUNTERS`, 4 bytes each; or TIMED_OUT, see `rtl.engine.watchdog`."""
    READ = 6
    """first activation word (2), count of words (2) -> activations."""


class Status(enum.Enum, shape=8):
    """First byte of every response's payload. `STATUS_HELP` explains each.

    Nothing is applied unless it is OK; but a LOAD whose header was right has replaced the image before.
    """

    OK = 0
    BAD_CRC = 1
    UNKNOWN_OPCODE = 2
    TOO_LONG = 3
    BAD_LENGTH = 4
    BUSY = 5
    NOT_LOADED = 6
    BAD_MAGIC = 7
    BAD_VERSION = 8
    WRONG_CONFIG = 9
    BAD_SECTION = 10
    BAD_OFFSET = 11
    IMAGE_CRC = 12
    BAD_ADDRESS = 13
    NO_INPUT = 14
    TIMED_OUT = 15
    OVERRUN = 16
    # From 240: set by the host driver, never by the engine.
    NO_ANSWER = 240
    DAMAGED = 241
    DISCONNECTED = 242
    WRONG_ENGINE = 243


STATUS_HELP = {
    Status.OK: ("done", "-"),
    Status.BAD_CRC: ("the request was damaged on the way; nothing happened", "send it again"),
    Status.UNKNOWN_OPCODE: ("no engine of this version knows the opcode", "use host and engine of one version"),
    Status.TOO_LONG: ("the length exceeds packet_bytes; the rest is searched for a packet", "send shorter packets"),
    Status.BAD_LENGTH: ("not a length, or a number of words, that this opcode has",
                        "see the link packets in docs/formats.md; use host and engine of one version"),
    Status.BUSY: ("an inference runs", "WAIT first"),
    Status.NOT_LOADED: ("there is no valid image", "load one"),
    Status.BAD_MAGIC: ("the image is none; the one before it stays", "make one with python -m host.compile"),
    Status.BAD_VERSION: ("the image has another version; the one before it stays", "compile the model again"),
    Status.WRONG_CONFIG: ("the image was made for another configuration; the one before it stays",
                          "compile the model with the engine's --preset or --config"),
    Status.BAD_SECTION: ("a section outside the memories or of a wrong length, none, or too much; the image is dropped",
                         "compile the model again"),
    Status.BAD_OFFSET: ("LOAD does not continue where the last one ended", "go on there, or load from offset 0"),
    Status.IMAGE_CRC: ("the image as a whole is damaged; it is dropped", "load it again, or compile the model again"),
    Status.BAD_ADDRESS: ("activation words outside the memory", "compile the model again"),
    Status.NO_INPUT: ("RUN without a WRITE to this image since its last RUN", "write an input first"),
    Status.TIMED_OUT: ("the inference took longer than its program can; it was stopped, and the image is dropped",
                       "load the image again; if that does not help, the engine is broken"),
    Status.OVERRUN: ("a request began before the answer to the one before had ended; it is lost (opcode 0)",
                     "await each answer; resynchronise, and send it again"),
    Status.NO_ANSWER: ("nothing came back in time, however often it was sent",
                       "check cable, port, baud rate, and that the board holds the bitstream"),
    Status.DAMAGED: ("every answer was damaged on the way", "take a shorter cable or a lower baud rate"),
    Status.DISCONNECTED: ("the port cannot be opened or has gone",
                          "plug the board in, close other programs; --list-devices shows the ports"),
    Status.WRONG_ENGINE: ("the engine has another protocol version or a configuration that is not known here",
                          "name the configuration that it was built with"),
}
"""Cause and remedy of each status, as in docs/formats.md."""


COUNTERS = ("cycles", "beats", "broadcasts", "useful_macs", "dropped_slices", "stall_cycles", "drain_cycles")
"""Performance counters of the last inference, 32 bits each, in the order of WAIT's response.

The engine counts with as many bits as an inference can need (`rtl.structure.counter_bits`).

cycles: from the acceptance of RUN to the last write of the drain. beats: steps of the scan (broadcasts and empty
blocks). broadcasts: non-zero activations broadcast. useful_macs: non-zero weight times non-zero activation, over
all PEs. dropped_slices: slices without an entry, over all PEs and broadcasts. stall_cycles: the scanner had a beat and
a queue was full. drain_cycles: cycles in which the drain reads.
"""


def pack(opcode: int, payload: bytes = b"") -> bytes:
    """A whole packet: the number ``opcode``, the length and the bytes of ``payload``, between SYNC and the CRC-32."""
    body = bytes([opcode]) + len(payload).to_bytes(2, "little") + payload
    return bytes([SYNC]) + body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")


def load_packets(content: bytes, packet_bytes: int) -> list[bytes]:
    """The LOAD packets of the engine image ``content``, each with a payload of at most ``packet_bytes``."""
    step = packet_bytes - 4
    return [pack(Opcode.LOAD.value, first.to_bytes(4, "little") + content[first:first + step])
            for first in range(0, len(content), step)]


def packet_length(payload_bytes: int) -> int:
    """Bytes of a packet with a payload of ``payload_bytes``."""
    return HEADER_BYTES + payload_bytes + CRC_BYTES
