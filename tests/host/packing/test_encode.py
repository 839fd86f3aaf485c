# SPDX-License-Identifier: Apache-2.0
"""Encoder, packer, image and decoder."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from host.decoding.decode import decode
from host.image.image import parse_image
from host.packing.balance_rows import Assignment, assign_rows, order_rows
from host.packing.encode import encode_pass
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.packing.word_fields import pack_words
from host.quantization.work import row_work
from nonzero.errors import UserError
from rtl.config import PRESETS, EngineConfig
from tests.support.networks import SMALL, WIDE_ACTS, random_network

ORDERED = EngineConfig(pes=4, index_bits=(4,), slice_word_bits=16, length_bits=8, entry_depth=4096)


def walk(one, config):
    """The rows and codes that a walker visits, entry by entry as docs/formats.md tells it."""
    found = {}
    for pe in range(config.pes):
        entries = iter(zip(one.codes[pe].tolist(), one.indices[pe].tolist(), strict=True))
        for col, length in enumerate(one.lengths[pe]):
            row = 0
            for code, index in itertools.islice(entries, int(length)):
                if code == 0:
                    row += (index + 1) << one.index_bits
                else:
                    found[pe, row + index, col] = code
                    row += index + 1
        assert next(entries, None) is None
    return found


@pytest.mark.parametrize("density", [0, 0.01, 0.1, 0.5, 1])
@pytest.mark.parametrize("rows", [1, 37, 2000])
def test_encoded_slices_are_the_matrix(density, rows):
    rng = np.random.default_rng(rows)
    config = EngineConfig(pes=4, index_bits=(2, 3), slice_word_bits=16, acc_depth=1024, length_bits=8) \
        if rows == 2000 else SMALL
    codes = np.where(rng.random((rows, 16)) < density, rng.integers(1, 16, (rows, 16)), 0).astype(np.uint8)
    assignment = assign_rows((codes != 0).sum(axis=1), config.pes, rows)
    encoded = encode_pass(codes, np.arange(16), assignment, range(assignment.words), config)
    expected = {(assignment.pe[row], assignment.slot[row], col): codes[row, col]
                for row, col in zip(*np.nonzero(codes), strict=True)}
    assert walk(encoded, config) == expected
    assert encoded.counts.sum() == len(expected)


def test_a_slice_longer_than_any_length_has_no_encoding():
    """With lengths of 2 bits a slice has at most 7 entries; one PE would have 8 of one column."""
    config = replace(ORDERED, length_bits=2, slice_word_bits=8)
    assignment = Assignment(np.zeros(8, np.int64), np.arange(8), 4, 8)
    columns, codes = np.arange(4), np.zeros((8, 4), np.uint8)
    codes[:, 2] = 3
    assert encode_pass(codes, columns, assignment, range(8), config) is None
    assert encode_pass(codes, columns, assignment, range(7), config).lengths[0].tolist() == [0, 0, 7, 0]


@pytest.mark.parametrize("rows, pes", [(1000, 16), (1000, 64), (600, 64), (30, 64)])
def test_rows_are_balanced(rows, pes):
    """Where some PEs have a row more than others, they must get the lighter ones."""
    rng = np.random.default_rng(0)
    work = rng.binomial(4096, 0.1, rows)
    assignment = assign_rows(work, pes, rows)
    loads = np.bincount(assignment.pe, weights=work, minlength=pes)
    counts = np.bincount(assignment.pe, minlength=pes)
    assert (counts.min(), counts.max()) == (rows // pes, -(-rows // pes))
    assert loads.max() <= 1.025 * loads.mean() or rows < pes
    assert len(set(assignment.position.tolist())) == rows
    assert assignment.words == -(-rows // pes)


@pytest.mark.parametrize("rows, pass_slots, passes_made", [(1000, 63, 1), (1000, 20, 4), (600, 3, 13)])
def test_rows_are_balanced_in_each_pass(rows, pass_slots, passes_made):
    rng = np.random.default_rng(0)
    work = rng.binomial(4096, 0.1, rows)
    assignment = assign_rows(work, 16, pass_slots)
    assert sorted(assignment.position.tolist()) == list(range(rows))
    passes = assignment.passes
    assert len(passes) == passes_made
    assert [slot for slots in passes for slot in slots] == list(range(assignment.words))
    for slots in passes[:-1]:
        here = (assignment.slot >= slots.start) & (assignment.slot < slots.stop)
        loads = np.bincount(assignment.pe[here], weights=work[here], minlength=16)
        assert len(slots) == pass_slots and loads.max() <= 1.025 * loads.mean()


@pytest.mark.parametrize("rows, density, passes", [
    (64 * 4, 1.0, 5),       # slices of 13 weights: three passes' 22 would fill 31 places
    (31 * 4, 1.0, 1 + 2),   # slices of 31 need no padding, but those of 11 even less than their lengths
    (14 * 4, 1.0, 1), (60 * 4, 0.05, 1),
])
def test_there_are_as_many_passes_as_take_the_least_storage(rows, density, passes):
    config = EngineConfig(pes=4, index_bits=(4,), slice_word_bits=16, entry_depth=4096)
    network = random_network(np.random.default_rng(0), config, [64, rows], density)
    assert len(pack(network, config).layers[0].passes) == passes


def test_the_packer_tries_on_where_one_more_pass_changes_nothing():
    """Five passes of eleven slots are four of three again, whose slices still need padding."""
    config = replace(ORDERED, length_bits=2, slice_word_bits=8)
    network = random_network(np.random.default_rng(0), config, [64, 44], 1)
    assert len(pack(network, config).layers[0].passes) == 6


def test_work_counts_weights_by_how_often_their_input_is_active():
    codes = np.array([[1, 0, 9], [0, 0, 0], [0, 2, 3]], np.uint8)
    assert row_work(codes, np.array([0.5, 0.25, 1])).tolist() == [1.5, 0, 1.25]


def test_a_gap_takes_the_fewest_skips():
    """The example of docs/formats.md, and a gap that takes two skips of 256 rows and less."""
    config = EngineConfig(pes=2, index_bits=(4,), slice_word_bits=8)
    codes = np.zeros((602, 2), np.uint8)
    codes[[3, 40], 0] = 5, 7
    codes[300, 1] = 9
    assignment = Assignment(np.arange(602) // 301, np.arange(602) % 301, 2, 301)
    encoded = encode_pass(codes, np.arange(2), assignment, range(301), config)
    assert encoded.codes[0].tolist() == [5, 0, 7, 0, 0, 9]
    assert encoded.indices[0].tolist() == [3, 1, 4, 15, 1, 12]
    assert encoded.lengths.tolist() == [[3, 3], [0, 0]]


def test_columns_and_slots_are_chosen():
    """A pass takes some of the rows, and columns in another order than the layer's, with places left free."""
    rng = np.random.default_rng(1)
    codes = np.where(rng.random((30, 10)) < 0.4, rng.integers(1, 16, (30, 10)), 0).astype(np.uint8)
    columns = np.full(12, -1)
    columns[rng.permutation(12)[:10]] = rng.permutation(10)
    assignment = assign_rows(row_work(codes, np.ones(10)), SMALL.pes, 8)
    encoded = encode_pass(codes, columns, assignment, range(2, 5), SMALL)
    expected = {(assignment.pe[row], assignment.slot[row] - 2, place): codes[row, columns[place]]
                for row in range(30) if 2 <= assignment.slot[row] < 5
                for place in range(12) if columns[place] >= 0 and codes[row, columns[place]]}
    assert expected and walk(encoded, SMALL) == expected


def test_rows_are_ordered_to_save_skips():
    """Rows 0 to 3 have one column, 4 to 7 another: in their order each column has a long gap, mixed it has none."""
    codes = np.zeros((9, 2), np.uint8)
    codes[[0, 1, 2, 3], 0] = codes[[4, 5, 6, 7], 1] = 1
    assignment = Assignment(np.zeros(9, np.int64), np.arange(9), 2, 9)
    ordered = order_rows(assignment, codes, 2)
    assert sorted(ordered.slot.tolist()) == list(range(9)) and ordered.pe.tolist() == [0] * 9
    gaps = [np.diff(np.sort(ordered.slot[rows]), prepend=-1).max() for rows in ([0, 1, 2, 3], [4, 5, 6, 7])]
    assert max(gaps) <= 4 and ordered.slot[8] == 8


def test_the_packer_balances_rows_unless_told_not_to():
    network = random_network(np.random.default_rng(2), ORDERED, [200, 101], 0.3)
    codes = network.layers[0].codes
    codes[np.arange(101) % 4 == 0, 50:] = 0

    def imbalance(packed):
        loads = packed.layers[0].passes[0].encoded.counts.sum(axis=1)
        return loads.max() / loads.mean()

    in_turn = pack(network, ORDERED, balance=False, order=False)
    assert in_turn.layers[0].assignment.position.tolist() == list(range(101))
    assert imbalance(pack(network, ORDERED)) < 1.01 < 1.1 < imbalance(in_turn)


@pytest.mark.parametrize("density, saved", [(0.11, 0.2), (0.25, 0)])
def test_the_packer_takes_the_order_with_fewer_skips(density, saved):
    network = random_network(np.random.default_rng(2), ORDERED, [200, 500], density)
    layer = network.layers[0]
    one = pack(network, ORDERED).layers[0].passes[0].encoded
    plain = encode_pass(layer.codes, np.arange(200), assign_rows(row_work(layer.codes, np.ones(200)), 4, 125),
                        range(125), ORDERED)
    assert one.index_bits == plain.index_bits
    assert one.skips <= (1 - saved) * plain.skips


def test_words_are_packed_from_the_low_end():
    assert pack_words(np.array([[1, 2, 3, 4]]), 4).tolist() == [[0x21, 0x43]]
    assert pack_words(np.array([[0x1FF, 0]]), 9).tolist() == [[0xFF, 0x01, 0x00]]
    assert pack_words(np.array([[1 << 62 | 5]]), 70).tolist() == [[5, 0, 0, 0, 0, 0, 0, 0x40, 0]]


@pytest.mark.parametrize("config", [SMALL, WIDE_ACTS, PRESETS["tiny"], PRESETS["default"], PRESETS["wide"]],
                         ids=["small", "wide-acts", "tiny", "default", "wide"])
def test_decoding_gives_the_network_back(config):
    for seed, density in enumerate([0, 0.05, 0.3, 1]):
        network = random_network(np.random.default_rng(seed), config, [20, 41, 7, 1], density)
        decoded = decode(parse_image(image_file(pack(network, config)), config), config).network
        for layer, back in zip(network.layers, decoded.layers, strict=True):
            weights = np.zeros_like(layer.weights)
            weights[:, :back.cols] = back.weights
            np.testing.assert_array_equal(weights, layer.weights)
            np.testing.assert_array_equal(back.bias, layer.bias)
            assert (back.multiplier, back.pre_shift, back.activation, back.input_signed) \
                == (layer.multiplier, layer.pre_shift, layer.activation, layer.input_signed)


@pytest.mark.parametrize("damage, message", [
    (lambda c: c[:10], "is truncated: it has 10 bytes"),
    (lambda c: b"PK" + c[2:], "is no memory image"),
    (lambda c: c[:4] + b"\x09\x00" + c[6:], "must be of version 4, not 9"),
    (lambda c: c[:8] + bytes(8) + c[16:], "was made for configuration 0000000000000000"),
    (lambda c: c[:100], "is truncated"),
    (lambda c: c[:60] + bytes([c[60] ^ 4]) + c[61:], "is damaged: the CRC-32 of its engine part"),
    (lambda c: c[:-20] + bytes([c[-20] ^ 4]) + c[-19:], "is damaged: the CRC-32 of its host part"),
    (lambda c: c[:-1], "is truncated"),
    (lambda c: c + b"\0", "is truncated"),
])
def test_damaged_images_are_refused(damage, message):
    content = image_file(pack(random_network(np.random.default_rng(1), SMALL, [20, 12, 4], 0.3), SMALL))
    parse_image(content, SMALL)
    with pytest.raises(UserError, match=message):
        parse_image(damage(content), SMALL)


def test_any_flipped_bit_is_noticed():
    rng = np.random.default_rng(3)
    content = image_file(pack(random_network(rng, SMALL, [20, 12, 4], 0.3), SMALL))
    for place in rng.integers(0, len(content) * 8, 200):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << (place % 8)
        with pytest.raises(UserError):
            parse_image(bytes(flipped), SMALL)


def test_a_network_that_does_not_fit_is_refused_with_the_way_out():
    network = random_network(np.random.default_rng(0), SMALL, [100, 200, 100], 0.9)
    with pytest.raises(UserError) as caught:
        pack(network, SMALL, preset="small")
    text = str(caught.value)
    assert "layer 'fc1' needs" in text and "KiB of weight memory" in text and "lower --density to 0." in text
    assert "activation memory" in text and "slice memory" in text


def test_the_density_that_is_said_to_fit_fits():
    rng = np.random.default_rng(0)
    network = random_network(rng, PRESETS["wide"], [784, 1000, 10], 0.5)
    with pytest.raises(UserError, match="lower --density to") as caught:
        pack(network, PRESETS["wide"], preset="wide")
    density = float(str(caught.value).split("lower --density to ")[1].split()[0])
    assert density > 0.05
    pack(random_network(rng, PRESETS["wide"], [784, 1000, 10], density), PRESETS["wide"])
