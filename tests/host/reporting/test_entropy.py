# SPDX-License-Identifier: Apache-2.0
"""Huffman codes and entropies of streams."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.reporting.entropy import huffman_lengths, measure


def test_the_textbook_code():
    assert huffman_lengths(np.array([45, 13, 12, 16, 9, 5])).tolist() == [1, 3, 3, 3, 4, 4]
    assert huffman_lengths(np.array([0, 7, 0])).tolist() == [0, 0, 0]
    assert huffman_lengths(np.array([], np.int64)).tolist() == []


@settings(database=None)  # nothing is written into the checkout
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60))
def test_codes_are_complete_and_within_a_bit_of_the_entropy(counts):
    counts = np.array(counts)
    lengths = huffman_lengths(counts)
    used = counts > 0
    assert not lengths[~used].any()
    if used.sum() >= 2:
        assert (0.5 ** lengths[used]).sum() == 1
        found = measure(np.repeat(np.arange(len(counts)), counts))
        assert found.entropy <= found.huffman_bits / found.symbols < found.entropy + 1


def test_measures_of_streams_counted_by_hand():
    found = measure(np.array([[0, 1], [2, 3], [0, 0], [1, 0]], np.uint8))
    assert found.symbols == 8 and found.entropy == pytest.approx(4 / 8 + 2 * 2 / 8 + 2 * 3 / 8)
    assert found.huffman_bits == 14 and found.table_bits == 20 and found.total_bits == 34
    alone = measure(np.full(9, 3))
    assert (alone.symbols, alone.entropy, alone.huffman_bits) == (9, 0, 0)
    assert measure(np.zeros(0, np.uint8)).symbols == 0
