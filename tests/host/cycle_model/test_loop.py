# SPDX-License-Identifier: Apache-2.0
"""The loop of the cycle model on layers that can be counted by hand. That it equals the RTL: tests/end_to_end."""

from dataclasses import replace

import numpy as np
import pytest

from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from rtl.config import EngineConfig
from tests.support.networks import random_network

ENGINE = EngineConfig(pes=4, acc_bits=24, index_bits=(4,), entries_per_word=4, entry_depth=512, length_bits=8,
                      slice_word_bits=32, slice_depth=64, act_depth=64, acc_depth=128, queue_depth=16, packet_bytes=64)
"""Four PEs. A word of activations is one block; a PE takes one cycle for each output word that it drains."""


def predicted(codes, acts, config=ENGINE):
    """A layer whose row r is in PE ``r % 4``, slot ``r // 4``."""
    network = random_network(np.random.default_rng(0), config, [codes.shape[1], len(codes)], 1.0)
    layer = replace(network.layers[0], codes=codes.astype(np.uint8), bias=np.zeros(len(codes), np.int64))
    network = replace(network, layers=(layer,))
    decoded = decode(parse_image(image_file(pack(network, config, balance=False, order=False)), config), config)
    return predict(decoded, np.array(acts), forward(network, np.array(acts)))


def counters(prediction, number=0):
    return {name: int(values[number]) for name, values in prediction.counters.items()}


def sparse_layer():
    """Eight inputs, eight rows: row 7 takes all inputs, rows 0, 1 and 4 take input 0, row 2 takes input 5."""
    codes = np.zeros((8, 8))
    codes[7] = codes[[0, 1, 4], 0] = codes[2, 5] = 1
    return codes


@pytest.mark.parametrize("acts, expected", [
    # No activation: a beat for each block that is empty.
    ([0, 0, 0, 0, 0, 0, 0, 0], {"beats": 2, "broadcasts": 0, "useful_macs": 0, "dropped_slices": 0}),
    # Input 0 has weights in PE 0 (two), 1 and 3; input 5 in PE 2 and 3. The other PEs drop their slices.
    ([9, 0, 0, 0, 0, 3, 0, 0], {"beats": 2, "broadcasts": 2, "useful_macs": 6, "dropped_slices": 3}),
    # Both in one block; the other block is empty.
    ([9, 0, 3, 0, 0, 0, 0, 0], {"beats": 3, "broadcasts": 2, "useful_macs": 5, "dropped_slices": 4}),
    # All of them: 12 weights in 4 x 8 slices, of which 11 have entries.
    ([1, 1, 1, 1, 1, 1, 1, 1], {"beats": 8, "broadcasts": 8, "useful_macs": 12, "dropped_slices": 21}),
])
def test_counters_of_layers_counted_by_hand(acts, expected):
    found = counters(predicted(sparse_layer(), [acts]))
    assert {name: found[name] for name in expected} == expected
    # Two words of outputs; queues that never fill.
    assert (found["drain_cycles"], found["stall_cycles"]) == (2, 0)


def test_requantisers_that_pes_share_lengthen_the_drain():
    config = replace(ENGINE, pes_per_requantizer=4)
    assert counters(predicted(sparse_layer(), [[1] * 8], config))["drain_cycles"] == 8


@pytest.mark.parametrize("entries", [4, 12, 30])
def test_an_entry_more_takes_a_cycle_more(entries):
    """All entries are of one slice: weights of one input in the first slots of PE 0."""
    def layer(count):
        codes = np.zeros((160, 8))
        codes[159] = 1
        codes[:4 * count:4, 0] = 1
        return codes
    few, more = (counters(predicted(layer(count), [[1] + [0] * 7])) for count in (entries, entries + 5))
    assert more["cycles"] - few["cycles"] == more["useful_macs"] - few["useful_macs"] == 5


@pytest.mark.parametrize("inputs, stalls", [(8, False), (32, True)])
def test_a_full_queue_stops_the_scan(inputs, stalls):
    """PE 0 works through 30 entries for each input, more than the others: its queue of 16 slices fills."""
    codes = np.zeros((160, inputs))
    codes[159] = codes[:120:4] = 1
    found = counters(predicted(codes, [[1] * inputs]))
    assert (found["stall_cycles"] > 0) == stalls
    # However the scan waits: its work, the drain of 40 words, and few cycles beside.
    assert 30 * inputs + 40 < found["cycles"] < 30 * inputs + 40 + 40


def test_inferences_know_nothing_of_each_other():
    several = [[9, 0, 0, 0, 0, 3, 0, 0], [0] * 8, [1] * 8, [9, 0, 0, 0, 0, 3, 0, 0]]
    together = predicted(sparse_layer(), several)
    alone = [predicted(sparse_layer(), [acts]) for acts in several]
    assert [counters(together, number) for number in range(4)] == [counters(one) for one in alone]
    assert together.pass_ends.tolist() == [one.pass_ends[0].tolist() for one in alone]
