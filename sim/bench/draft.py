# SPDX-License-Identifier: Apache-2.0
"""An engine image in parts that a test can change and seal again with a right CRC."""

import copy
from dataclasses import dataclass, replace
from typing import Any

from host.image.program import program_passes, sections
from rtl.descriptor import descriptor_layout
from rtl.image_file import with_crc
from rtl.image_format import (
    HEADER_BYTES,
    SECTION_BYTES,
    SectionKind,
    header_layout,
    section_layout,
    section_memories,
)

__all__ = ["ENTRIES", "HEADER_FIELDS", "PROGRAM", "SLICES", "Draft", "Section"]

PROGRAM, SLICES, ENTRIES = (kind.value for kind in SectionKind)
HEADER_FIELDS = {name: (field.offset, field.width) for name, field in header_layout()}
"""Offset and width in bits of each field."""

SECTION_FIELDS = [(name, field.offset) for name, field in section_layout()]


@dataclass
class Section:
    """A section of an image.

    Attributes
    ----------
    kind : int
        A number of `rtl.image_format.SectionKind`.
    pe, start : int
        The PE, and the first address.
    count : int
        Number of words; in a draft it need not be that of ``content``.
    content : bytearray
        The words.
    """

    kind: int
    pe: int
    start: int
    count: int
    content: bytearray

    def packed(self) -> bytes:
        """The section's bytes in the image: its header, then its words."""
        bits = sum(getattr(self, name) << offset for name, offset in SECTION_FIELDS)
        return bits.to_bytes(SECTION_BYTES, "little") + self.content


class Draft:
    """An engine image in parts that can be changed.

    Parameters
    ----------
    engine : bytes
        A sound image of an engine of ``config``.

    Attributes
    ----------
    header : dict
        Fields of `rtl.image_format.header_layout` by name; those of them that are None are made right by `sealed`.
    sections : list of Section
    places : list of int
        Place in the program where the record of each pass begins, in bytes.
    cut : int
        Bytes that are missing at the end, before the CRC.
    """

    def __init__(self, engine: bytes, config: Any) -> None:
        self.config, self.cut = config, 0
        fields: Any = header_layout().from_bits(int.from_bytes(engine[:HEADER_BYTES], "little"))
        self.header: dict[str, int | None] = {name: int(getattr(fields, name)) for name, _ in header_layout()}
        self.header |= {"sections": None, "image_bytes": None}
        self.word_bytes = {kind: -(-width // 8) for kind, (width, _) in section_memories(config).items()}
        self.sections = [Section(one.kind, one.pe, one.start, len(one.words) // self.word_bytes[one.kind],
                                 bytearray(one.words)) for one in sections(engine, config)]
        self.descriptor_bytes = descriptor_layout(config).size // 8
        self.layout = {name: (field.offset, field.width) for name, field in descriptor_layout(config)}
        self.places, program = [0], self.program

        def read(first: int, words: int) -> bytes:
            return bytes(program[4 * first:4 * (first + words)])
        for one in program_passes(read, int(fields.layers), config):
            self.places.append(self.places[-1] + self.descriptor_bytes + len(one.codebook) + len(one.tap_table)
                               + len(one.act_table))
        del self.places[-1]

    def copy(self) -> "Draft":
        """A draft of its own with the same contents."""
        other = copy.copy(self)
        other.header = dict(self.header)
        other.sections = [replace(section, content=bytearray(section.content)) for section in self.sections]
        return other

    def sealed(self) -> bytes:
        """The image, with a right CRC."""
        body = b"".join(section.packed() for section in self.sections)
        body = body[:max(0, len(body) - self.cut)]
        told: dict[str, Any] = {"sections": len(self.sections), "image_bytes": HEADER_BYTES + len(body) + 4}
        told |= {name: value for name, value in self.header.items() if value is not None}
        bits = sum(told[name] << offset for name, (offset, _) in HEADER_FIELDS.items())
        content = bits.to_bytes(HEADER_BYTES, "little") + body
        return with_crc(content)

    def of_kind(self, kind: int) -> list[Section]:
        """The sections of the kind ``kind``, a number of `rtl.image_format.SectionKind`."""
        return [section for section in self.sections if section.kind == kind]

    @property
    def program(self) -> bytearray:
        """Words of the program; none if no section has them."""
        return next((section.content for section in self.of_kind(PROGRAM)), bytearray())

    def _field(self, number: int, name: str) -> tuple[int, int]:
        """Place in the program and width, in bits, of a field of a pass's descriptor."""
        offset, width = self.layout[name]
        return 8 * self.places[number] + offset, width

    def field(self, number: int, name: str) -> int | None:
        """The field ``name`` in the descriptor of pass ``number``; None if the program does not reach there."""
        at, width = self._field(number, name)
        return self.bits(self.program, at, width) if at + width <= 8 * len(self.program) else None

    def set_field(self, number: int, name: str, value: int) -> None:
        """Sets the field ``name`` in the descriptor of pass ``number`` to ``value``, if the program reaches there."""
        at, width = self._field(number, name)
        if at + width <= 8 * len(self.program):
            self.set_bits(self.program, at, width, value)

    def bits(self, content: bytearray, at: int, width: int) -> int:
        """The number in the ``width`` bits of ``content`` from bit ``at`` on, least significant bit first."""
        return int.from_bytes(content[at // 8:-(-(at + width) // 8)], "little") >> at % 8 & ((1 << width) - 1)

    def set_bits(self, content: bytearray, at: int, width: int, value: int) -> None:
        """Sets the ``width`` bits of ``content`` from bit ``at`` on to ``value``, 0 to ``2**width - 1``."""
        first, end = at // 8, -(-(at + width) // 8)
        mask = ((1 << width) - 1) << at % 8
        bits = int.from_bytes(content[first:end], "little") & ~mask | value << at % 8 & mask
        content[first:end] = bits.to_bytes(end - first, "little")
