# SPDX-License-Identifier: Apache-2.0
"""Layers with a table of their activation function: packed, read back, and run by a model of the engine's words."""

from dataclasses import replace

import numpy as np
import pytest

from host.decoding.decode import decode
from host.image.image import parse_image
from host.network.layers import Geometry
from host.packing.image_writer import engine_image, image_file
from host.packing.pack import pack
from host.quantization.integer_network import spare_activation, spare_bias
from nonzero.errors import UserError
from rtl.config import PRESETS
from rtl.image_file import with_crc
from rtl.numbers import Activation
from tests.host.packing.test_convolutions import check
from tests.support.networks import (
    CONVOLUTIONS,
    TABLES,
    random_branches,
    random_convolutions,
    random_geometry,
    random_network,
    with_tables,
)

TABLED = replace(CONVOLUTIONS, act_table=True)


@pytest.mark.parametrize("seed", range(12))
def test_random_convolutions_with_tables_run_as_the_golden_model(seed):
    rng = np.random.default_rng(seed)
    geometry = random_geometry(rng, int(rng.integers(1, 5)), 1)
    network = random_convolutions(rng, TABLED, [(int(rng.integers(1, 6)), geometry)], [7, 4], 0.5,
                                  signed=bool(rng.integers(2)))
    network = with_tables(rng, network)
    check(network, TABLED, seed)


def test_sums_of_layers_go_through_the_table():
    rng = np.random.default_rng(1)
    check(with_tables(rng, random_branches(rng, TABLED, (5, 6, 6), 6)), TABLED)


def test_each_layer_gets_its_own_table_back():
    rng = np.random.default_rng(2)
    network = with_tables(rng, random_network(rng, TABLES, [50, 60, 40, 10], 0.2), share=0.5)
    assert {layer.table is None for layer in network.layers} == {True, False}
    packed = pack(network, TABLES)
    assert max(len(layer.passes) for layer in packed.layers) > 1
    decoded = decode(parse_image(image_file(packed), TABLES), TABLES)
    for layer, back in zip(network.layers, decoded.network.layers, strict=True):
        assert (back.table is None) == (layer.table is None)
        if layer.table is not None:
            assert back.table.tolist() == layer.table.tolist()


def test_a_layer_without_a_table_costs_no_words_of_the_program():
    network = random_network(np.random.default_rng(3), TABLES, [20, 10, 4], 0.3)
    plain = replace(TABLES, act_table=False)
    assert np.array_equal(pack(network, TABLES).program, pack(network, plain).program)
    first = replace(network.layers[0], table=np.arange(256) % 128)
    tabled = replace(network, layers=(first, *network.layers[1:]))
    passes = len(pack(network, TABLES).layers[0].passes)
    assert len(pack(tabled, TABLES).program) == len(pack(network, TABLES).program) + 64 * passes


def test_an_engine_without_tables_refuses_a_layer_with_one():
    network = random_network(np.random.default_rng(4), TABLES, [20, 10, 4], 0.3)
    network = replace(network, layers=(replace(network.layers[0], table=np.arange(256) % 128), *network.layers[1:]))
    with pytest.raises(UserError) as caught:
        pack(network, PRESETS["default"])
    assert caught.value.problems == [
        ("layer 'fc1' has an activation function that takes a table, preset 'default' has no tables; use a "
         "configuration with act_table = true")]
    pack(network, replace(PRESETS["default"], act_table=True, program_depth=512))
    with pytest.raises(UserError, match="use a configuration with act_bits = 8 and act_table = true"):
        pack(network, replace(PRESETS["default"], act_bits=16))


def damaged(network, change):
    """The image with its program changed, and a right CRC."""
    packed = pack(network, TABLES)
    engine, whole = engine_image(packed), image_file(packed)
    content = bytearray(engine)
    change(content)
    return with_crc(bytes(content[:-4])) + whole[len(engine):]


def test_banks_that_do_not_take_turns_and_tables_that_differ_are_refused():
    rng = np.random.default_rng(5)
    network = with_tables(rng, random_network(rng, TABLES, [60, 60, 8], 0.2), share=1)
    assert len(pack(network, TABLES).layers[0].passes) > 1
    first = 28 + 6

    def swap(content):
        content[first + 1] ^= 2

    def differ(content):
        # The last value of the first pass's table: 7 words of descriptor, 4 of codebook, 64 of table.
        content[first + 4 * (7 + 4 + 64) - 1] ^= 1
    for change, message in ((swap, "the banks of the tables"), (differ, "the tables of a layer's passes")):
        with pytest.raises(UserError, match=message):
            decode(parse_image(damaged(network, change), TABLES), TABLES)


def test_geometry_pools_behind_the_table():
    """A table that falls: the greatest activation is that of the least sum."""
    rng = np.random.default_rng(6)
    geometry = Geometry((1, 6, 6), (1, 1), pool=2, pool_stride=2)
    network = random_convolutions(rng, TABLED, [(3, geometry)], [], 1.0)
    falling = np.roll(np.arange(255, -1, -1), -128)
    signed = network.layers[0].activation.signed
    layer = replace(network.layers[0], table=falling - 128 if signed else falling)
    check(replace(network, layers=(layer,)), TABLED)


def test_slots_without_a_row_give_zero_if_any_bias_does():
    rng = np.random.default_rng(7)
    layer = random_network(rng, TABLES, [6, 3], 0.5).layers[0]
    ramp = np.roll(np.arange(256), -128)
    shifted = replace(layer, table=ramp)
    assert spare_activation(shifted, 0) == 128 and spare_activation(shifted, spare_bias(shifted, 24)) == 0
    never = replace(layer, table=ramp // 2 + 1)
    assert spare_bias(never, 24) == 0 and spare_activation(never, 0) == 65
    assert spare_bias(layer, 24) == spare_activation(layer, 5) == 0
    # Of four PEs, one has no row.
    words = pack(network_of(shifted), TABLES)
    assert decode(parse_image(image_file(words), TABLES), TABLES).network.layers[0].table.tolist() == ramp.tolist()


def network_of(layer):
    network = random_network(np.random.default_rng(7), TABLES, [6, 3], 0.5)
    return replace(network, layers=(replace(layer, activation=Activation.RELU),))
