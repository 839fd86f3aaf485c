# SPDX-License-Identifier: Apache-2.0
"""The first convolution folded: strides as channels, halves of the output as groups."""

from dataclasses import replace

import numpy as np
import pytest

from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.image.image import parse_image
from host.image.space_to_depth import Fold
from host.network.layers import Geometry
from host.packing.balance_rows import assign_bands
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward, layer_forward
from host.quantization.work import layer_work
from tests.support.engine_model import run_model
from tests.support.images import assert_layer_refused
from tests.support.networks import CONVOLUTIONS, random_acts, random_convolutions, random_geometry


@pytest.mark.parametrize("seed", range(40))
def test_a_folded_convolution_gives_the_same_outputs(seed):
    """Outputs of the upper band come first; the last rows of the lower one may lie below the output."""
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(1, 4))
    geometry = random_geometry(rng, 2 * groups, groups, largest=11 if seed % 5 == 0 else 5)
    network = random_convolutions(rng, CONVOLUTIONS, [(3 * groups, geometry)], [], 0.7)
    acts = random_acts(rng, network, 2, 0.7)
    layer = network.layers[0]
    expected = layer_forward(layer, acts, 8).reshape(2, layer.rows, *geometry.out_shape)
    for bands in range(1, 1 + min(2, geometry.out_shape[0])):
        fold = Fold(geometry, bands)
        seen = np.where(fold.values >= 0, acts[:, fold.values], 0)
        folded = fold.layer(layer)
        found = layer_forward(folded, seen, 8).reshape(2, bands, layer.rows, fold.band_rows, -1)
        found = found.transpose(0, 2, 1, 3, 4).reshape(2, layer.rows, -1, geometry.out_shape[1])
        assert np.array_equal(found[:, :, :geometry.out_shape[0]], expected)
        assert fold.folded.stride == (1, 1) and fold.folded.padding == (0, 0)
        assert np.array_equal(fold.unfolded(folded).codes, layer.codes)


@pytest.mark.parametrize("change", ["codes", "bias"])
def test_bands_that_differ_are_refused(change):
    network = random_convolutions(np.random.default_rng(0), CONVOLUTIONS, [(3, Geometry((1, 8, 8), (3, 3)))], [], 1)
    fold = Fold(network.layers[0].geometry, 2)
    folded = fold.layer(network.layers[0])
    values = getattr(folded, change).copy()
    values.flat[-1] ^= 1
    with pytest.raises(ValueError, match="the bands of a convolution"):
        fold.unfolded(replace(folded, **{change: values}))


@pytest.mark.parametrize("rows, pes", [(1, 2), (2, 4), (3, 4), (6, 4), (20, 16), (96, 64), (64, 64), (100, 16)])
def test_both_bands_of_a_row_lie_half_the_pes_apart(rows, pes):
    work = np.random.default_rng(rows).uniform(1, 2, rows)
    assignment = assign_bands(np.tile(work, 2), pes)
    assert np.array_equal((assignment.pe[:rows] + pes // 2) % pes, assignment.pe[rows:])
    slots = -(-rows // pes)
    assert np.array_equal(assignment.slot[:rows] + slots, assignment.slot[rows:])
    assert assignment.slot[:rows].max() < slots
    assert len(set(assignment.position.tolist())) == 2 * rows
    loads = np.bincount(assignment.pe, np.tile(work, 2), pes)
    assert np.allclose(loads[:pes // 2], loads[pes // 2:])
    # A row more or less on each pair of PEs at most.
    assert loads.max() - loads.min() <= 2.001


def bands_of(network, config=CONVOLUTIONS):
    packed = pack(network, config)
    image = parse_image(image_file(packed), config)
    acts = random_acts(np.random.default_rng(0), network, 2, 0.6)
    outputs = forward(network, acts)
    for one, expected in zip(acts, outputs[-1], strict=True):
        assert np.array_equal(run_model(image, config, one)[len(network.layers) - 1], expected & 255)
    decoded = decode(image, config)
    assert np.array_equal(decoded.network.layers[0].codes, network.layers[0].codes)
    macs = predict(decoded, acts, outputs).useful_macs[:, 0]
    assert macs.tolist() == [layer_work(network.layers[0], one != 0).sum() for one in acts]
    return packed.fold and packed.fold.bands


def convolution(rows, geometry, density=1.0):
    return random_convolutions(np.random.default_rng(1), CONVOLUTIONS, [(rows, geometry), (4, Geometry(
        (rows, *geometry.out_shape), (2, 2)))], [5], density)


def test_bands_are_made_when_they_pay_and_fit():
    shape = Geometry((2, 20, 6), (3, 3), padding=(1, 1), pool=2, pool_stride=2)
    assert bands_of(convolution(6, shape)) == 2      # on 4 PEs 2 rows at most, on average 1.5
    assert bands_of(convolution(8, shape)) is None   # the same number in each
    strided = replace(shape, in_shape=(2, 24, 6), stride=(2, 1))
    assert [bands_of(convolution(rows, strided)) for rows in (6, 8)] == [2, 1]
    # Nine pooled rows are bands of five: 4 slots of 10 x 4 accumulators, where 2 of 18 x 4 do without bands.
    odd = replace(shape, in_shape=(2, 18, 4))
    assert [bands_of(convolution(6, odd), replace(CONVOLUTIONS, acc_depth=depth)) for depth in (160, 159)] == [2, None]
    most = max(len(words) + start for plane in pack(convolution(6, shape), CONVOLUTIONS).planes[0]
               for start, words in plane)
    assert bands_of(convolution(6, shape), replace(CONVOLUTIONS, entry_depth=most)) == 2
    assert bands_of(convolution(6, shape), replace(CONVOLUTIONS, entry_depth=most - 1)) is None


def test_a_stride_takes_one_pass():
    network = convolution(8, Geometry((3, 19, 19), (11, 11), stride=(4, 4), padding=(2, 2)), 0.8)
    assert bands_of(network) == 1
    assert [len(layer.passes) for layer in pack(network, CONVOLUTIONS).layers[:2]] == [1, 1]


@pytest.mark.parametrize("bands", [0, 1, 3, 2.0, True, "2", None])
def test_wrong_bands_in_an_image_are_refused(bands):
    assert_layer_refused(lambda layer: layer.update(bands=bands))


def test_only_the_first_layer_of_an_image_may_be_folded():
    assert_layer_refused(lambda layer: layer.update(bands=1), number=1)
