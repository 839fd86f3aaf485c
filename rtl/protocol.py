# SPDX-License-Identifier: Apache-2.0
"""Link packets, shared by the engine, the host and the simulation.

Request and response have the same form; multi-byte fields are little-endian::

    SYNC (1 byte)  opcode (1)  length (2)  payload (length bytes)  CRC-32 (4)

The CRC-32 is that of zlib, over opcode, length and payload. A response repeats the opcode; its payload starts with
a `Status` byte. Bytes before a SYNC are ignored. After an error in the framing, a host resynchronises with as
many zero bytes as the longest packet has.
"""

import zlib

from amaranth.lib import enum

__all__ = [
    "COUNTERS", "CRC_BYTES", "HEADER_BYTES", "PROTOCOL_VERSION", "SYNC", "Opcode", "Status", "pack", "packet_length",
]

SYNC = 0x4E
PROTOCOL_VERSION = 1
HEADER_BYTES = 4
CRC_BYTES = 4


class Opcode(enum.Enum, shape=8):
    """What a packet asks for, with the payloads of request and (after the status) response."""

    IDENTIFY = 1
    """-> protocol version (1), loaded (1), packet_bytes (2), pes (2), config hash (8)."""
    LOAD = 2
    """offset (4), bytes of the image from there on. Offset 0 begins a load; offsets must follow each other."""
    WRITE = 3
    """first activation word (2), activations of whole words."""
    RUN = 4
    """Starts an inference and answers at once."""
    WAIT = 5
    """Answers when the inference has ended -> the `COUNTERS`, 4 bytes each."""
    READ = 6
    """first activation word (2), count of words (2) -> activations."""


class Status(enum.Enum, shape=8):
    """First byte of every response's payload. Nothing is applied unless it is OK."""

    OK = 0
    BAD_CRC = 1
    """The packet was damaged on the way: send it again."""
    UNKNOWN_OPCODE = 2
    TOO_LONG = 3
    """The length exceeds packet_bytes; the rest of the packet is ignored."""
    BAD_LENGTH = 4
    """The payload is too short or too long for this opcode."""
    BUSY = 5
    """An inference runs: WAIT first."""
    NOT_LOADED = 6
    """There is no valid image: LOAD first."""
    BAD_MAGIC = 7
    BAD_VERSION = 8
    WRONG_CONFIG = 9
    """The image was made for another EngineConfig."""
    BAD_SECTION = 10
    """A section names no memory, or an address outside it; the image is dropped."""
    BAD_OFFSET = 11
    """A LOAD does not continue the one before; the load goes on at the expected offset, or anew at 0."""
    IMAGE_CRC = 12
    """The image as a whole is damaged; it is dropped."""
    BAD_ADDRESS = 13
    """Activation words outside the memory."""
    NO_INPUT = 14
    """RUN without a WRITE since the last one."""


COUNTERS = ("cycles", "beats", "broadcasts", "useful_macs", "dropped_slices", "stall_cycles", "drain_cycles")
"""Performance counters of the last inference, 32 bits each, in the order of WAIT's response.

The engine counts with as many bits as an inference can need (`rtl.layouts.counter_bits`).

cycles: from the acceptance of RUN to the last write of the drain. beats: steps of the scan (broadcasts and empty
blocks). broadcasts: non-zero activations broadcast. useful_macs: non-zero weight times non-zero activation, over
all PEs. dropped_slices: slices without an entry, over all PEs and broadcasts. stall_cycles: the scanner had a beat and
a queue was full. drain_cycles: cycles in which the drain reads.
"""


def pack(opcode: int, payload: bytes = b"") -> bytes:
    """A whole packet."""
    body = bytes([opcode]) + len(payload).to_bytes(2, "little") + payload
    return bytes([SYNC]) + body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")


def packet_length(payload_bytes: int) -> int:
    """Bytes of a packet with a payload of that many."""
    return HEADER_BYTES + payload_bytes + CRC_BYTES
