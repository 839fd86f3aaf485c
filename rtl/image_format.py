# SPDX-License-Identifier: Apache-2.0
"""The container of an image: its header, its sections, and the memories that they fill.

All fields are little-endian; the first field of a layout lies in the least significant bits.

``config`` is the engine's `rtl.config.EngineConfig` in all functions here.
"""

from amaranth.lib import data, enum
from amaranth.utils import ceil_log2

from rtl.descriptor import DESCRIPTOR_WORD_BITS

IMAGE_MAGIC = int.from_bytes(b"NZIM", "little")
IMAGE_VERSION = 4

LIMIT_STEP = 256
"""A limit of cycles is a multiple of this."""


class SectionKind(enum.Enum, shape=8):
    """Memory that a section of the image fills."""

    PROGRAM = 0
    SLICES = 1
    ENTRIES = 2
    """Plane 0 of the entry memory; plane n is ``ENTRIES + n``."""


def header_layout():
    """The first bytes of an image."""
    return data.StructLayout({
        "magic": 32,
        "version": 16,
        "sections": 16,
        "config_hash": 64,
        "image_bytes": 32,      # the whole engine image, header and final CRC-32 included
        "layers": 16,
        "input_words": 16,      # activation words of one inference's input
        "cycle_limit": 32,      # cycles after which an inference is stopped as faulty; see `rtl.engine.watchdog`
    })


def section_layout():
    """Fields before the words of each section; every word takes a whole number of bytes."""
    return data.StructLayout({
        "kind": SectionKind,
        "pe": 8,
        "start": 16,            # first address written
        "count": 16,            # words; 0 is not allowed
    })


HEADER_BYTES = data.Layout.cast(header_layout()).size // 8
SECTION_BYTES = data.Layout.cast(section_layout()).size // 8
MOST_SECTION_WORDS = (1 << section_layout()["count"].width) - 1


def section_memories(config):
    """Width and depth of the memory that each kind of section fills."""
    memories = {SectionKind.PROGRAM.value: (DESCRIPTOR_WORD_BITS, config.program_depth),
                SectionKind.SLICES.value: (config.slice_word_bits, config.slice_depth)}
    for number, width in enumerate(config.plane_bits):
        memories[SectionKind.ENTRIES.value + number] = (width, config.entry_depth)
    return memories


def image_length_bits(config):
    """Width of the length of an image in the engine: room for headers, and for every word twice."""
    words = sum(-(-width // 8) * depth for width, depth in section_memories(config).values())
    return ceil_log2(2 * config.pes * words)


def image_offset_bits(config):
    """Width of a place in an image; the highest bit says that it lies behind every end."""
    return image_length_bits(config) + 1
