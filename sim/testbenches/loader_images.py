# SPDX-License-Identifier: Apache-2.0
"""Images for the loader's bench, sound ones and others, and a reader of them made from docs/formats.md."""

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rtl.protocol import Status

__all__ = ["KINDS", "Outcome", "Section", "encode", "image_limit", "memory", "random_section", "read", "sound"]

HEADER = struct.Struct("<4sHH8sIHHI")
"""Magic, version, sections, configuration's hash, bytes of the image, passes, words of an input, limit of cycles."""

SECTION = struct.Struct("<BBHH")
"""Kind, PE, first address, words."""

@dataclass
class Outcome:
    """The expected answer of the loader to an image, and the words that it must write: kind, PE, address, word.

    It may write those of ``tail`` as well.
    """

    status: Status
    loaded: bool
    offset: int
    layers: int
    limit: int
    writes: list[tuple[int, int, int, int]]
    tail: list[tuple[int, int, int, int]] = field(default_factory=list)


def memory(config: Any, kind: int) -> tuple[int, int]:
    """Width in bits and depth of the memory that a kind of section fills; zeros if there is none."""
    sizes = [(32, config.program_depth), (config.slice_word_bits, config.slice_depth)]
    sizes += [(width, config.entry_depth) for width in config.plane_bits]
    return sizes[kind] if kind < len(sizes) else (0, 0)


def image_limit(config: Any) -> int:
    """The power of two that an image stays below: at least twice what all memories hold."""
    sizes = [memory(config, kind) for kind in range(2 + len(config.plane_bits))]
    return 1 << (2 * config.pes * sum(-(-width // 8) * depth for width, depth in sizes) - 1).bit_length()


def read(content: bytes, config: Any, before: Outcome) -> Outcome:
    """The expected outcome of an image, or of a part of one."""
    writes: list[tuple[int, int, int, int]] = []
    whole = Outcome(Status.OK, before.loaded, len(content), before.layers, before.limit, writes)
    for place, value, status in ((0, b"NZIM", Status.BAD_MAGIC), (4, b"\x04\x00", Status.BAD_VERSION),
                                 (8, config.hash, Status.WRONG_CONFIG)):
        if not value.startswith(content[place:place + len(value)]):
            return Outcome(status, before.loaded, 0, before.layers, before.limit, writes)
    wrong = Outcome(Status.BAD_SECTION, False, 0, 0, 0, writes)
    if int.from_bytes(content[16:20], "little") >= image_limit(config):
        return wrong
    if len(content) > 20:
        whole.loaded = False
    if int.from_bytes(content[20:22], "little") >= 1 << config.program_depth.bit_length():
        return wrong
    if len(content) < HEADER.size:
        return whole
    _, _, sections, _, image_bytes, whole.layers, _, whole.limit = HEADER.unpack_from(content)
    if sections == 0 or whole.layers == 0 or image_bytes <= HEADER.size:
        return wrong
    place = HEADER.size

    def ends_before(end: int) -> bool:
        """Whether the image's bytes, by its header, end before this place and have all come."""
        return image_bytes < end and image_bytes <= len(content)

    for _ in range(sections):
        if ends_before(place + SECTION.size + 1):
            return wrong
        if len(content) < place + SECTION.size:
            return whole
        kind, pe, first, count = SECTION.unpack_from(content, place)
        place += SECTION.size
        width, depth = memory(config, kind)
        if count == 0 or pe >= (config.pes if kind else 1) or first + count > depth:
            return wrong
        for address in range(first, first + count):
            word = content[place:place + -(-width // 8)]
            place += -(-width // 8)
            if ends_before(place):
                # The loader may be a byte further before it knows.
                wrong.tail = [(kind, pe, address, int.from_bytes(word, "little") & (1 << width) - 1)] \
                    if place == image_bytes + 1 and len(content) >= place else []
                return wrong
            if place > len(content):
                return whole
            writes.append((kind, pe, address, int.from_bytes(word, "little") & (1 << width) - 1))
    place += 4
    if len(content) < place:
        return whole
    if zlib.crc32(content[:place - 4]) != int.from_bytes(content[place - 4:place], "little"):
        return Outcome(Status.IMAGE_CRC, False, 0, 0, 0, writes)
    if image_bytes != place or len(content) > place:
        return wrong
    return Outcome(Status.OK, True, 0, whole.layers, whole.limit, writes)


@dataclass
class Section:
    kind: int
    pe: int
    first: int
    count: int
    words: bytes

    def encode(self) -> bytes:
        return SECTION.pack(self.kind, self.pe, self.first, self.count) + self.words


def random_section(config: Any) -> Section:
    kind = random.randrange(2 + len(config.plane_bits))
    width, depth = memory(config, kind)
    count = random.choice([1, random.randint(1, 6), random.randint(1, depth)])
    first = random.choice([0, depth - count, random.randint(0, depth - count)])
    words = random.randbytes(count * -(-width // 8))
    return Section(kind, random.randrange(config.pes) if kind else 0, first, count, words)


def encode(config: Any, sections: list[Section], /, **fields: Any) -> bytes:
    """An image of sections, sound unless a field of its header says otherwise."""
    body = b"".join(section.encode() for section in sections)
    header = {"magic": b"NZIM", "version": 4, "sections": len(sections), "config_hash": config.hash,
              "image_bytes": HEADER.size + len(body) + 4, "layers": random.randint(1, 9),
              "input_words": random.getrandbits(16), "cycle_limit": random.getrandbits(32)}
    return with_crc(HEADER.pack(*(header | fields).values()) + body)


def with_crc(content: bytes) -> bytes:
    return content + zlib.crc32(content).to_bytes(4, "little")


def flipped(content: bytes, first: int, end: int) -> bytes:
    """The image with one bit changed in a range of bytes."""
    bit = random.randrange(8 * first, 8 * end)
    return content[:bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1:]


def sound(config: Any, sections: list[Section]) -> bytes:
    return encode(config, sections)


def header_for_another_engine(config: Any, sections: list[Section]) -> bytes:
    """One field of it is not as it must be, or several: then the first of them counts."""
    content = encode(config, sections)[:-4]
    for first, end in random.sample([(0, 4), (4, 6), (8, 16)], random.choice([1, 1, 2, 3])):
        content = flipped(content, first, end)
    return with_crc(content)


def nothing_in_it(config: Any, sections: list[Section]) -> bytes:
    return encode(config, sections, **random.choice([{"layers": 0}, {"sections": 0}]))


def wrong_number(config: Any, sections: list[Section]) -> bytes:
    """A wrong number of sections or of bytes, in an image whose CRC is right."""
    change = random.choice([-1, 1])
    content = encode(config, sections)
    return encode(config, sections, **random.choice([{"sections": len(sections) + change},
                                                     {"image_bytes": len(content) + change}]))


def too_large(config: Any, sections: list[Section]) -> bytes:
    """More bytes, or more passes, than an image for this engine has."""
    content = encode(config, sections)
    return encode(config, sections, **random.choice([
        {"image_bytes": len(content) + random.choice([image_limit(config), 1 << 31])},
        {"layers": random.choice([1 << config.program_depth.bit_length(), 65535])}]))


def wrong_section(config: Any, sections: list[Section]) -> bytes:
    section = random.choice(sections)
    depth = memory(config, section.kind)[1]
    name, value = random.choice([
        ("kind", random.randint(2 + len(config.plane_bits), 255)), ("pe", random.randint(config.pes, 255)),
        ("count", 0), ("first", depth - section.count + 1), ("first", random.randint(depth, 65535)),
        ("count", 65536 - section.first), ("count", random.randint(depth - section.first + 1, 65535)),
    ])
    setattr(section, name, min(value, 65535))
    return encode(config, sections)


def program_for_another_pe(config: Any, sections: list[Section]) -> bytes:
    sections.append(Section(0, random.randrange(1, config.pes), 0, 1, bytes(4)))
    return encode(config, sections)


def damaged(config: Any, sections: list[Section]) -> bytes:
    content = encode(config, sections)
    return flipped(content, 0, len(content))


def changed(config: Any, sections: list[Section]) -> bytes:
    """A bit is another one, and the CRC agrees."""
    content = encode(config, sections)[:-4]
    return with_crc(flipped(content, 0, len(content)))


def truncated(config: Any, sections: list[Section]) -> bytes:
    content = encode(config, sections)
    return content[:random.randrange(len(content))]


def followed(config: Any, sections: list[Section]) -> bytes:
    return encode(config, sections) + random.randbytes(random.randint(1, 30))


KINDS: list[Callable[[Any, list[Section]], bytes]] = [
    sound, header_for_another_engine, nothing_in_it, wrong_number, too_large, wrong_section, program_for_another_pe,
    damaged, changed, truncated, followed,
]
