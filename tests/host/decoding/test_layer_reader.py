# SPDX-License-Identifier: Apache-2.0
"""A layer put together from its passes, and passes that make none."""

import numpy as np
import pytest

from host.decoding.layer_reader import LayerReader
from host.decoding.memory_reader import PassWeights
from rtl.config import EngineConfig
from rtl.descriptor import LayerKind, descriptor_layout, whole_descriptor
from rtl.numbers import Activation

ENGINE = EngineConfig(pes=2, acc_bits=24, index_bits=(4,), entries_per_word=2, entry_depth=64, length_bits=4,
                      slice_word_bits=8, slice_depth=16, act_depth=16, acc_depth=16, packet_bytes=64)

CODEBOOK = np.array([0, -3, 2, 100] + [0] * 12)

FIELDS = {"name": "fc", "output_base": 2, "output_words": 2, "output_order": np.array([2, 0, 1])}
"""Row 0 lies in PE 0, slot 1; row 1 in PE 0, slot 0; row 2 in PE 1, slot 0."""


def reader():
    """Reads a layer of three rows and three inputs, in the activation words 0 and 1; the last lane has no input."""
    return LayerReader(FIELDS, np.array([0, 1, 2, -1]), input_base=0, ready=2, inputs=3, config=ENGINE)


def descriptor(**fields):
    bits = descriptor_layout(ENGINE).const({
        "kind": LayerKind.FULLY_CONNECTED, "activation": Activation.RELU, "input_signed": 0, "pre_shift": 1,
        "multiplier": 500, "input_base": 0, "input_words": 2, "chase_words": 2, "output_base": 2, "output_words": 2,
        **fields}).as_bits()
    return whole_descriptor(ENGINE, bits)


def weights(*entries):
    """A pass's weights: PE, slot, column and code of each."""
    pe, slot, col, code = np.array(entries, np.int64).reshape(-1, 4).T
    return PassWeights(pe, slot, col, np.zeros_like(pe), code.astype(np.uint8), np.zeros((2, 4), np.int64), [])


def added(one, entries, biases, **fields):
    none = np.zeros(0, np.int64)
    one.add(descriptor(**fields), CODEBOOK, none, none, weights(*entries), np.array(biases))
    return one


def test_one_pass_makes_the_layer():
    one = reader()
    assert not one.complete
    added(one, [(0, 1, 0, 1), (0, 0, 2, 3), (1, 0, 1, 2)], [[20, 10], [30, 0]])
    assert one.complete and one.drains == 1
    layer = one.layer()
    assert layer.weights.tolist() == [[-3, 0, 0], [0, 0, 100], [0, 2, 0]] and layer.bias.tolist() == [10, 20, 30]
    assert (layer.name, layer.multiplier, layer.pre_shift, layer.activation, layer.input_signed, layer.geometry) \
        == ("fc", 500, 5, Activation.RELU, False, None)


def test_two_passes_make_the_layer_slot_by_slot():
    one = added(reader(), [(0, 0, 2, 3), (1, 0, 1, 2)], [[20], [30]], output_words=1)
    assert not one.complete
    added(one, [(0, 0, 0, 1)], [[10], [0]], output_base=3, output_words=1)
    assert one.complete and one.drains == 2
    assert one.layer().weights.tolist() == [[-3, 0, 0], [0, 0, 100], [0, 2, 0]]
    assert one.layer().bias.tolist() == [10, 20, 30]


@pytest.mark.parametrize("fields, message", [
    ({"kind": LayerKind.CONVOLUTION}, "a pass of kind LayerKind.CONVOLUTION and 2 rows"),
    ({"output_words": 3}, "a pass of kind LayerKind.FULLY_CONNECTED and 3 rows"),
    ({"output_words": 0}, "a pass of kind LayerKind.FULLY_CONNECTED and 0 rows"),
    ({"input_base": 1}, "input_base of a pass"), ({"input_words": 1}, "input_words of a pass"),
    ({"chase_words": 1}, "chase_words of a pass"), ({"output_base": 3}, "output_base of a pass"),
])
def test_a_descriptor_of_another_layer(fields, message):
    slots = fields.get("output_words", 2)
    with pytest.raises(ValueError, match=f"^{message}$"):
        added(reader(), [], np.zeros((2, slots), np.int64), **fields)


@pytest.mark.parametrize("entries, biases, message", [
    ([(1, 1, 0, 1)], [[0, 0], [0, 0]], "a weight without a row or an input"),   # no row lies in PE 1, slot 1
    ([(0, 0, 3, 1)], [[0, 0], [0, 0]], "a weight without a row or an input"),   # nor an input in the last lane
    ([], [[0, 0], [0, 7]], "a bias without a row"),
])
def test_contents_without_a_place(entries, biases, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        added(reader(), entries, biases)


def test_passes_of_one_layer_have_the_same_constants():
    one = added(reader(), [], [[0], [0]], output_words=1)
    with pytest.raises(ValueError, match=r"^the constants of a layer's passes$"):
        added(one, [], [[0], [0]], output_base=3, output_words=1, multiplier=501)


def test_no_weight_is_told_twice():
    one = added(reader(), [(0, 0, 2, 3), (0, 0, 2, 2)], [[0, 0], [0, 0]])
    with pytest.raises(ValueError, match=r"^weights in several passes$"):
        one.layer()


def test_sums_fit_the_accumulator():
    """2**23 - 1 is the greatest; a weight of 2 adds 510 at most."""
    most = (1 << 23) - 1
    assert added(reader(), [(0, 0, 0, 2)], [[most - 510, 0], [0, 0]]).layer().bias[1] == most - 510
    with pytest.raises(ValueError, match=r"^sums that the accumulators do not hold$"):
        added(reader(), [(0, 0, 0, 2)], [[most - 509, 0], [0, 0]]).layer()


@pytest.mark.parametrize("changes, message", [
    ({"output_words": 0}, "a layer of 0 words and 3 outputs"),
    ({"output_words": 1}, "a layer of 1 words and 3 outputs"),     # row 0 lies in the second word
])
def test_a_layer_has_its_outputs_in_its_words(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        LayerReader(FIELDS | changes, np.array([0, 1, 2, -1]), 0, 2, 3, ENGINE)
