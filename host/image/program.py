# SPDX-License-Identifier: Apache-2.0
"""Sections of an engine image, and the passes of its program: each a descriptor and its tables."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rtl.config import EngineConfig
from rtl.descriptor import (
    DESCRIPTOR_WORD_BITS,
    LayerKind,
    act_table_words,
    codebook_words,
    descriptor_words,
    tap_table_words,
    whole_descriptor,
)
from rtl.image_format import HEADER_BYTES, SECTION_BYTES, SectionKind, header_layout, section_layout, section_memories

__all__ = ["ProgramPass", "Section", "output_signed", "program_passes", "sections"]


class Section(NamedTuple):
    """Words for one memory of one PE.

    Attributes
    ----------
    kind : int
        A number of `rtl.image_format.SectionKind`, or above it for a further entry plane.
    pe, start : int
        The PE, and the first address.
    words : bytes
        Whole words of the memory, each a whole number of bytes.
    """

    kind: int
    pe: int
    start: int
    words: bytes


def sections(engine: bytes, config: EngineConfig) -> Iterator[Section]:
    """The sections of an engine image, in order.

    Parameters
    ----------
    engine : bytes
        The engine image, with its header and its CRC-32.
    config : EngineConfig
        The engine that it was made for.

    Raises
    ------
    ValueError
        If they are fewer or more than the header says, or one is of no kind, empty, or longer than the image.
    """
    header: Any = header_layout().from_bits(int.from_bytes(engine[:HEADER_BYTES], "little"))
    word_bytes = {kind: -(-width // 8) for kind, (width, _) in section_memories(config).items()}
    # Shifts and masks, because there are many sections and access through the layout is slow.
    fields = [(field.offset, (1 << field.width) - 1) for _, field in section_layout()]
    at, end = HEADER_BYTES, len(engine) - 4
    for _ in range(int(header.sections)):
        if at + SECTION_BYTES > end:
            raise ValueError(f"fewer than {int(header.sections)} sections")
        bits = int.from_bytes(engine[at:at + SECTION_BYTES], "little")
        kind, pe, start, count = (bits >> offset & mask for offset, mask in fields)
        at += SECTION_BYTES
        size = count * word_bytes.get(kind, 0)
        if size == 0 or at + size > end:
            raise ValueError(f"a section of kind {kind} and {count} words")
        yield Section(kind, pe, start, engine[at:at + size])
        at += size
    if at != end:
        raise ValueError("bytes that belong to no section")


class ProgramPass(NamedTuple):
    """A pass as it lies in program memory.

    Attributes
    ----------
    descriptor : rtl.descriptor.whole_descriptor
    codebook, tap_table, act_table : bytes
        Empty if it has none.
    """

    descriptor: Any
    codebook: bytes
    tap_table: bytes
    act_table: bytes


def program_passes(read: Callable[[int, int], bytes], count: int, config: EngineConfig) -> Iterator[ProgramPass]:
    """Walks through a program.

    Parameters
    ----------
    read : callable
        Called with the first word and a number of words; returns their bytes, raises `ValueError` beyond the memory.
    count : int
        Passes.
    config : EngineConfig
        Decides the sizes of descriptors and tables.
    """
    at = 0

    def following(words: int) -> bytes:
        nonlocal at
        at += words
        return read(at - words, words)

    for _ in range(count):
        descriptor = whole_descriptor(config, int.from_bytes(following(descriptor_words(config)), "little"))
        codebook = b"" if config.direct_weights else following(codebook_words(config))
        tables = tap_table_words(config) if descriptor.kind == LayerKind.CONVOLUTION else 0
        tap_table = following(tables)
        act_table = following(act_table_words(config) if descriptor.table else 0)
        yield ProgramPass(descriptor, codebook, tap_table, act_table)


def output_signed(engine: bytes, config: EngineConfig) -> bool:
    """Whether the outputs of an engine image's last layer are two's complement.

    Parameters
    ----------
    engine : bytes
        The engine image, with its header and its CRC-32.
    config : EngineConfig
        The engine that it was made for.

    Raises
    ------
    ValueError
        If the image has no whole program.
    """
    header: Any = header_layout().from_bits(int.from_bytes(engine[:HEADER_BYTES], "little"))
    word_bytes = DESCRIPTOR_WORD_BITS // 8
    program = bytearray(config.program_depth * word_bytes)
    for section in sections(engine, config):
        if section.kind == SectionKind.PROGRAM.value:
            first = section.start * word_bytes
            program[first:first + len(section.words)] = section.words

    def read(first: int, count: int) -> bytes:
        found = bytes(program[first * word_bytes:(first + count) * word_bytes])
        if len(found) < count * word_bytes:
            raise ValueError("words of the program beyond the memory")
        return found

    *_, last = program_passes(read, int(header.layers), config)
    return bool(last.descriptor.activation.signed)
