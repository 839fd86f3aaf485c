# SPDX-License-Identifier: Apache-2.0
"""Slices, entries, biases and tap tables as words of the engine's memories, each counted by hand."""

from dataclasses import replace

import numpy as np

from host.network.layers import Geometry
from host.packing.balance_rows import Assignment
from host.packing.conv_scans import Scan
from host.packing.encode import MATRIX, EncodedPass
from host.packing.memory_writer import Filling, store_biases, store_entries, store_slices, tap_table
from rtl.config import EngineConfig
from tests.support.networks import random_network

ENGINE = EngineConfig(pes=2, acc_bits=24, index_bits=(2, 4), entries_per_word=2, entry_depth=64, length_bits=4,
                      slice_word_bits=8, slice_depth=16, act_depth=16, acc_depth=8, packet_bytes=64)
"""An entry word has 12 bits in plane 0 (twice 2 of the index, 4 of the code) and 4 in plane 1."""


def encoded(lengths, codes, indices, index_bits=4, scan=MATRIX, slots=range(2)):
    return EncodedPass(slots=slots, scan=scan, index_bits=index_bits, padding=0, lengths=np.array(lengths),
                       counts=np.array(lengths), codes=[np.array(one, np.uint8) for one in codes],
                       indices=[np.array(one, np.uint8) for one in indices])


def words(parts):
    """First address and bytes of each part of a memory."""
    return [(start, content.tolist()) for start, content in parts]


def test_a_slice_word_holds_the_lengths_of_a_block():
    """Block of two columns; 31 entries are the length of all ones."""
    memories = Filling(ENGINE)
    store_slices(encoded([[1, 2, 31, 0], [0, 0, 0, 14]], [[]] * 2, [[]] * 2), memories)
    assert [[part.tolist() for part in pe] for pe in memories.slices] == [[[[0x21], [0x0F]]], [[[0x00], [0xE0]]]]
    assert memories.next_slice == 2
    store_slices(encoded([[3, 0], [0, 5]], [[]] * 2, [[]] * 2), memories)
    assert memories.slices[0][1].tolist() == [[0x03]] and memories.slices[1][1].tolist() == [[0x50]]
    assert memories.next_slice == 3


def test_an_index_is_shared_out_over_the_planes():
    """Indices 13 = 0b1101 and 6 = 0b0110: their lower two bits lie with the codes, their upper two in plane 1."""
    memories = Filling(ENGINE)
    memories.next_entry, memories.next_plane = 5, [0, 3]
    store_entries(encoded([[3, 0], [1, 0]], [[7, 1, 2], [15]], [[13, 6, 0], [3]]), 1, memories)
    plane, upper = memories.planes
    # Entry 0 is 0b0111_01, entry 1 is 0b0001_10, entry 2 is 0b0010_00; the word's last place is empty.
    assert words(plane[0]) == [(5, [[0b10_011101, 0b0001], [0b00_001000, 0]])]
    assert words(plane[1]) == [(5, [[0b00_111111, 0]])]
    assert words(upper[0]) == [(3, [[0b0111], [0]])]
    assert words(upper[1]) == [(3, [[0]])]
    # Of the PE with most entries.
    assert (memories.next_entry, memories.next_plane) == (7, [0, 5])


def test_a_narrow_index_leaves_the_further_plane_alone():
    memories = Filling(ENGINE)
    store_entries(encoded([[1, 0], [0, 0]], [[9], []], [[2], []], index_bits=2), 0, memories)
    assert words(memories.planes[0][0]) == [(0, [[0b00_100110, 0]])]
    assert memories.planes[1] == [[], []]
    assert (memories.next_entry, memories.next_plane) == (1, [0, 0])


def test_a_bias_takes_as_many_words_as_its_bits():
    """24 bits in two words of 12, the lower ones first; a slot without a row has a bias of 0."""
    memories = Filling(ENGINE)
    memories.next_entry = 4
    layer = random_network(np.random.default_rng(0), ENGINE, [2, 3], 1.0).layers[0]
    layer = replace(layer, bias=np.array([70_000, -2, 0x123456]))
    store_biases(layer, Assignment(np.array([0, 1, 0]), np.array([0, 0, 1]), 2, 2), 0, 2, memories)
    assert words(memories.planes[0][0]) == [(4, [[0x70, 0x1], [0x11, 0x0], [0x56, 0x4], [0x23, 0x1]])]
    assert words(memories.planes[0][1]) == [(4, [[0xFE, 0xF], [0xFF, 0xF], [0, 0], [0, 0]])]
    assert memories.next_entry == 8


def test_biases_of_a_pass_are_those_of_its_slots():
    memories = Filling(ENGINE)
    layer = random_network(np.random.default_rng(0), ENGINE, [2, 3], 1.0).layers[0]
    layer = replace(layer, bias=np.array([1, 2, 3]))
    store_biases(layer, Assignment(np.array([0, 1, 0]), np.array([0, 0, 1]), 2, 1), 1, 1, memories)
    assert words(memories.planes[0][0]) == [(0, [[3, 0], [0, 0]])]
    assert words(memories.planes[0][1]) == [(0, [[0, 0], [0, 0]])]


def test_the_tap_table_counts_accumulators():
    """A kernel of 2 x 2 taps over rows of 3 sums, of which a pass has 5 slots: row 1, column 1 lies 20 back."""
    config = replace(ENGINE, tap_bits=2)
    scan = Scan(np.array([0, 1, 4, 5]), 2, pixels=(4, 4))
    one = encoded([[0, 0]] * 2, [[]] * 2, [[]] * 2, scan=scan, slots=range(5))
    assert tap_table(Geometry((1, 4, 4), (2, 2)), one, config).tolist() == [0, 5, 0, 0, 15, 20] + [0] * 10


def test_taps_that_a_scan_has_not_are_left_out():
    config = replace(ENGINE, tap_bits=2)
    one = encoded([[0, 0]] * 2, [[]] * 2, [[]] * 2, scan=Scan(np.array([-1, 0, -1, 4]), 2))
    assert tap_table(Geometry((1, 4, 4), (2, 2), (2, 2)), one, config).tolist() == [0, 0, 0, 0, 4] + [0] * 11
