# SPDX-License-Identifier: Apache-2.0
"""Networks that do not fit an engine: each message, with sizes counted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from host.network.layers import Conv2d, Geometry, Linear
from host.packing.fit_check import problems_of_layers, problems_of_memories
from host.packing.mapping import map_network
from host.packing.pack import pack
from rtl.config import EngineConfig
from rtl.numbers import Activation
from tests.support.networks import random_network

ENGINE = EngineConfig(pes=2, acc_bits=24, index_bits=(4,), entries_per_word=2, entry_depth=2048, length_bits=8,
                      slice_word_bits=16, slice_depth=64, act_depth=64, acc_depth=64, program_depth=32, packet_bytes=64)
"""Two PEs. An entry word has two bytes and two entries, a bias takes two of them, a slice word serves two columns."""

CONVOLUTIONS = replace(ENGINE, tap_bits=2)


def connected(name, cols, rows):
    return Linear(name, np.ones((rows, cols), np.float32), np.zeros(rows, np.float32), Activation.RELU)


def convolution(geometry, rows=2, cols=9):
    return Conv2d("conv", np.ones((rows, cols), np.float32), np.zeros(rows, np.float32), Activation.RELU, geometry)


def dense_network(*sizes):
    """Every input of every layer has a weight for every row."""
    network = random_network(np.random.default_rng(0), ENGINE, list(sizes), 1.0)
    for layer in network.layers:
        layer.codes[:] = 1
    return network


def of_memories(network, **depths):
    config = replace(ENGINE, **depths)
    mapped = map_network(network, None, None, config, balance=True, order=True)
    return problems_of_memories(network, mapped, config, "here")


def test_layers_that_follow_each_other_are_no_problem():
    assert problems_of_layers([connected("fc1", 6, 5), connected("fc2", 5, 4)], ENGINE, "here") == []


def test_a_layer_takes_what_the_layer_before_gives():
    (problem,) = problems_of_layers([connected("fc1", 6, 5), connected("fc2", 7, 4)], ENGINE, "here")
    assert problem == "layer 'fc2' takes 7 values, but layer 'fc1' gives 5"


@pytest.mark.parametrize("config, layer, problem", [
    (ENGINE, convolution(Geometry((1, 6, 6), (3, 3))),
     ("layer 'conv' is a convolution, preset 'here' has fully connected layers only; use a configuration with "
      "tap_bits = 2")),
    (CONVOLUTIONS, convolution(Geometry((1, 6, 6), (3, 3), pool=16, pool_stride=1)),
     "layer 'conv': windows of max pooling must be 1 to 15 wide and at most as far apart, not 16 wide and 1 apart"),
    (CONVOLUTIONS, convolution(Geometry((1, 2, 6), (3, 3))),
     "layer 'conv' has no outputs: its kernel or its pooling window exceeds its input"),
    (CONVOLUTIONS, convolution(Geometry((2, 6, 6), (3, 3))),
     "layer 'conv': its 2 x 9 weights do not fit 2 input channels in 1 groups and a kernel of 3 x 3"),
    # 9 x 8 sums of a channel.
    (CONVOLUTIONS, convolution(Geometry((1, 11, 10), (3, 3))),
     ("layer 'conv' needs 72 accumulators in each PE for the 9 x 8 outputs of a channel, preset 'here' has 64; use a "
      "configuration with acc_depth = 128")),
])
def test_a_convolution_that_the_engine_does_not_run(config, layer, problem):
    assert problem in problems_of_layers([layer], config, "here")


def test_a_convolution_takes_the_shape_of_the_feature_map_before_it():
    first = convolution(Geometry((1, 6, 6), (3, 3)), rows=2)    # gives 2 x 4 x 4
    second = replace(convolution(Geometry((4, 2, 4), (1, 1)), cols=4), name="conv2")
    (problem,) = problems_of_layers([first, second], CONVOLUTIONS, "here")
    assert problem == (
        "layer 'conv2' takes 4 x 2 x 4 values, but layer 'conv' gives 2 x 4 x 4; the engine cannot change the shape "
        "between them")


def test_a_network_that_fits_has_no_problem():
    assert of_memories(dense_network(64, 64)) == []


def test_entries_beyond_the_memory():
    """64 columns of 32 rows in each PE are 1024 words of two entries, 32 biases 64 words: 1088 words of two bytes."""
    assert of_memories(dense_network(64, 64), entry_depth=1088) == []
    (problem,) = of_memories(dense_network(64, 64), entry_depth=1024)
    assert problem == (
        "layer 'fc1' needs 2.1 KiB of weight memory in each PE and the whole network 2.1, preset 'here' has 2.0; "
        # The 960 words beside the biases, of 1024, with a margin of 2 %.
        f"lower --density to {960 / 1024 * 0.98:.3f} (now 1.000) or use a preset with more")


def test_biases_alone_beyond_the_memory():
    """No density helps against 32 biases of two words."""
    (problem,) = of_memories(dense_network(64, 64), entry_depth=64)
    assert problem == (
        "layer 'fc1' needs 2.1 KiB of weight memory in each PE and the whole network 2.1, preset 'here' has 0.1; "
        "use a preset with more, or a configuration with entry_depth = 2048")


def test_slices_beyond_the_memory():
    """32 words for the 64 columns of each layer: the second one brings them to 64."""
    assert of_memories(dense_network(64, 64, 64), entry_depth=4096, slice_depth=64) == []
    (problem,) = of_memories(dense_network(64, 64, 64), entry_depth=4096, slice_depth=32)
    assert problem == (
        "layer 'fc2' brings the slice memory to 64 words in each PE, preset 'here' has 32; use a preset with more, or "
        "a configuration with slice_depth = 64")


def test_a_program_beyond_the_memory():
    """A descriptor of 7 words and a codebook of 4 for each layer."""
    assert of_memories(dense_network(8, 8, 8), program_depth=22) == []
    (problem,) = of_memories(dense_network(8, 8, 8), program_depth=21)
    assert problem == (
        "layer 'fc2' brings the program to 22 words, preset 'here' has 21; use a configuration with program_depth = 32")


def test_activations_beyond_the_memory():
    """A layer of one pass overwrites its 32 words of inputs with its 16 of outputs; one of two passes must not."""
    assert of_memories(dense_network(64, 32), act_depth=32) == []
    (problem,) = of_memories(dense_network(64, 32), act_depth=16)
    assert problem == (
        "layer 'fc1' needs 32 words of activation memory for its inputs and outputs, preset 'here' has 16; use a "
        "preset with more, or a configuration with act_depth = 32")
    (problem,) = of_memories(dense_network(64, 32), act_depth=32, acc_depth=8)
    assert problem == (
        "layer 'fc1' needs 48 words of activation memory for its inputs and outputs, preset 'here' has 32; use a "
        "preset with more, or a configuration with act_depth = 64")


def test_activations_of_branches_beyond_the_memory():
    """The 8 words of fc1, over the inputs, wait for fc3 while fc2 gives 32 words: 40, which fc3's 8 overwrite."""
    network = dense_network(16, 16, 64, 16)
    last = replace(network.layers[2], added="fc1", added_weight=1, added_signed=network.layers[0].activation.signed)
    network = replace(network, layers=(*network.layers[:2], last))
    room = {"tap_bits": 2, "program_depth": 256, "entry_depth": 4096}
    assert of_memories(network, act_depth=40, **room) == []
    (problem,) = of_memories(network, act_depth=32, **room)
    assert problem == (
        "layer 'fc2' needs 40 words of activation memory for its inputs and outputs, and what later layers still read, "
        "preset 'here' has 32; use a preset with more, or a configuration with act_depth = 64")
    packed = pack(network, replace(CONVOLUTIONS, act_depth=64, program_depth=256, entry_depth=4096))
    assert max(layer.output_base + layer.output_words for layer in packed.layers) <= 64


def test_each_memory_is_told_once_and_all_of_them():
    found = of_memories(dense_network(64, 64, 64, 64), entry_depth=1024, slice_depth=32, program_depth=16)
    assert [problem.split(",")[0] for problem in found] == [
        "layer 'fc1' needs 2.1 KiB of weight memory in each PE and the whole network 6.4",
        "layer 'fc2' brings the slice memory to 64 words in each PE",
        "layer 'fc2' brings the program to 22 words"]
