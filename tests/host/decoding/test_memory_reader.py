# SPDX-License-Identifier: Apache-2.0
"""Weights and biases out of the words of an engine's memories, each written by hand."""

from dataclasses import replace

import pytest

from host.decoding.memory_reader import Memories, Memory, read_biases, read_weights
from rtl.config import EngineConfig
from rtl.descriptor import descriptor_layout, whole_descriptor

ENGINE = EngineConfig(pes=2, acc_bits=24, index_bits=(2, 4), entries_per_word=2, entry_depth=64, length_bits=4,
                      slice_word_bits=8, slice_depth=16, act_depth=16, acc_depth=16, packet_bytes=64)
"""An entry word has 12 bits in plane 0 (twice 2 of the index, 4 of the code) and 4 in plane 1."""


def memories(config, slices, *planes):
    """Each memory from ``{(pe, first address): bytes}``."""
    found = []
    for width, contents in zip((config.slice_word_bits, *config.plane_bits), (slices, *planes), strict=True):
        found.append(Memory("words", config.pes, 64, width))
        for (pe, first), content in contents.items():
            found[-1].fill(pe, first, bytes(content))
    return Memories(Memory("program", 1, 16, 32), found[0], found[1:])


def descriptor(config=ENGINE, **fields):
    return whole_descriptor(config, descriptor_layout(config).const(
        {"input_words": 1, "output_words": 8, **fields}).as_bits())


def weights(found):
    """(PE, column, slot, tap) and code of each weight."""
    return [((int(pe), int(col), int(slot), int(tap)), int(code)) for pe, col, slot, tap, code
            in zip(found.pe, found.col, found.slot, found.tap, found.codes, strict=True)]


def test_a_memory_knows_what_it_was_filled_with():
    memory = Memory("words", 2, 4, 12)
    memory.fill(1, 1, bytes([0x34, 0x02, 0x78, 0x06]))
    assert memory.read(slice(1, 2), 1, 2).tolist() == [[[0x34, 0x02], [0x78, 0x06]]]
    for pes, first, count in ((slice(0, 1), 1, 1), (slice(1, 2), 0, 2), (slice(None), 1, 2)):
        with pytest.raises(ValueError, match=r"^words that the image does not fill$"):
            memory.read(pes, first, count)
    for first, count in ((3, 2), (-1, 1)):
        with pytest.raises(ValueError, match=r"^words beyond the memory$"):
            memory.read(slice(1, 2), first, count)
    with pytest.raises(ValueError, match=r"^words beyond the memory$"):
        memory.fill(0, 3, bytes(4))


def test_weights_with_narrow_indices():
    """Column 0 of PE 0: slots 1 and 3. Column 1: slot 2, and a skip of 4 slots before slot 7."""
    content = memories(ENGINE, {(0, 2): [0x32], (1, 2): [0x00]},
                       {(0, 5): [0b01_000101, 0b0010, 0b00_001110, 0b0000, 0b00_010000, 0]}, {})
    found = read_weights(content, descriptor(slice_base=2, entry_base=5), ENGINE)
    assert weights(found) == [((0, 0, 1, 0), 1), ((0, 0, 3, 0), 2), ((0, 1, 2, 0), 3), ((0, 1, 7, 0), 4)]
    assert found.lengths.tolist() == [[2, 3], [0, 0]]
    assert [taps.tolist() for taps in found.taps] == [[0, 0, 0, -1, 0], []]


def test_weights_with_indices_in_two_planes():
    """Index 13: 0b01 in plane 0, 0b11 in plane 1, whose words lie 4 addresses lower."""
    content = memories(ENGINE, {(0, 0): [0x01], (1, 0): [0x10]},
                       {(0, 6): [0b00_100101, 0], (1, 6): [0b00_010111, 0]}, {(0, 2): [0b0011], (1, 2): [0b0010]})
    one = descriptor(index_mode=1, entry_base=6, output_words=16, plane_offsets=[4, 0, 0])
    assert weights(read_weights(content, one, ENGINE)) == [((0, 0, 13, 0), 9), ((1, 1, 11, 0), 5)]


def test_a_length_of_all_ones_stands_for_31_entries():
    """The 31 entries are weights in the slots 0 and 1, and 29 skips that pad."""
    content = memories(ENGINE, {(0, 0): [0x0F], (1, 0): [0x00]},
                       {(0, 0): [0b00_000100, 0b0010, *[0] * 30]}, {})
    found = read_weights(content, descriptor(), ENGINE)
    assert weights(found) == [((0, 0, 0, 0), 1), ((0, 0, 1, 0), 2)]
    assert found.lengths.tolist() == [[31, 0], [0, 0]] and found.taps[0].tolist() == [0, 0] + [-1] * 29


def test_taps_of_a_convolution():
    """Indices of 4 bits are taps. A greater tap stays in the slot; 0b0100 after 0b0101 goes to the next one."""
    config = replace(ENGINE, tap_bits=2)
    content = memories(config, {(0, 0): [0x03], (1, 0): [0x00]},
                       {(0, 0): [0b01_000100, 0b0010, 0b00_001100, 0]}, {(0, 0): [0b0100, 0b0001]})
    one = descriptor(config, index_mode=1, tap_bits=2, pixel_words=1, last_block=0)
    assert weights(read_weights(content, one, config)) == [((0, 0, 0, 0), 1), ((0, 0, 0, 5), 2), ((0, 0, 1, 4), 3)]


@pytest.mark.parametrize("fields, message", [
    ({"input_words": 17}, "a pass of 17 words of inputs and 8 rows"),
    ({"output_words": 17}, "a pass of 1 words of inputs and 17 rows"),
    ({"slice_base": 64}, "words beyond the memory"),
    ({"entry_base": 8}, "words that the image does not fill"),
])
def test_a_descriptor_that_points_elsewhere(fields, message):
    content = memories(ENGINE, {(0, 0): [0x01], (1, 0): [0x00]}, {(0, 0): [0x04, 0]}, {})
    assert len(read_weights(content, descriptor(), ENGINE).codes) == 1
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_weights(content, descriptor(**fields), ENGINE)


def test_biases_are_24_bits_in_two_words():
    """70000 and -2, then 0 and 0x123456."""
    content = memories(ENGINE, {}, {(0, 3): [0x70, 0x01, 0x11, 0x00, 0xFE, 0x0F, 0xFF, 0x0F],
                                    (1, 3): [0x00, 0x00, 0x00, 0x00, 0x56, 0x04, 0x23, 0x01]}, {})
    found = read_biases(content, descriptor(bias_base=3, output_words=2), ENGINE)
    assert found.tolist() == [[70_000, -2], [0, 0x123456]]
