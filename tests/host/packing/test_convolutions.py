# SPDX-License-Identifier: Apache-2.0
"""Convolutions: golden model, packer, image and decoder, and a slow model of the engine that runs the image."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from host.compression.shared_network import SharedLayer, SharedNetwork
from host.decoding.decode import decode
from host.image.image import parse_image
from host.network.layers import Geometry
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from host.quantization.integer_network import QuantizedNetwork, quantize_inputs
from host.quantization.quantize import quantize
from host.quantization.work import tap_activity
from nonzero.errors import UserError
from rtl.descriptor import descriptor_layout
from rtl.image_format import HEADER_BYTES, SECTION_BYTES
from rtl.numbers import Activation
from tests.support.engine_model import run_model
from tests.support.images import assert_layer_refused
from tests.support.networks import (
    CONVOLUTIONS,
    LENET,
    SMALL,
    WIDE_TAPS,
    random_acts,
    random_convolutions,
    random_geometry,
)


def check(network, config, seed=0, activity=None):
    """Packs, reads back and runs the image; every weight and every readable output must be the same."""
    acts = random_acts(np.random.default_rng(seed), network, 2, 0.6)
    image = parse_image(image_file(pack(network, config, activity=activity)), config)
    decoded = decode(image, config).network
    for layer, back in zip(network.layers, decoded.layers, strict=True):
        weights = np.zeros_like(layer.weights)
        weights[:, :back.cols] = back.weights
        assert np.array_equal(weights, layer.weights) and np.array_equal(back.bias, layer.bias)
        assert (back.geometry, back.activation) == (layer.geometry, layer.activation)
    outputs = forward(network, acts)
    for values, values_back in zip(outputs, forward(decoded, acts[:, :decoded.inputs]), strict=True):
        assert np.array_equal(values, values_back)
    for number, one in enumerate(acts):
        found = run_model(image, config, one)
        assert len(network.layers) - 1 in found
        for layer, values in found.items():
            assert np.array_equal(values, outputs[layer][number] & ((1 << config.act_bits) - 1)), f"layer {layer}"
    return image


@pytest.mark.parametrize("seed", range(60))
def test_random_convolutions_run_as_the_golden_model(seed):
    rng = np.random.default_rng(seed)
    config = [CONVOLUTIONS, WIDE_TAPS][seed % 2]
    groups = int(rng.choice([1, 1, 2, 3]))
    geometry = random_geometry(rng, groups * int(rng.integers(1, 7)), groups, largest=11 if seed % 5 == 0 else 5)
    rows = groups * int(rng.integers(1, 7))
    sizes = [int(rng.integers(1, 12))] if seed % 3 else []
    network = random_convolutions(rng, config, [(rows, geometry)], sizes, float(rng.choice([0.05, 0.3, 1])),
                                  signed=bool(rng.integers(2)))
    activity = [rng.random(layer.inputs) for layer in network.layers] if seed % 4 else None
    check(network, config, seed, activity)


@pytest.mark.parametrize("density", [0.02, 0.2, 0.9])
@pytest.mark.parametrize("config", [CONVOLUTIONS, WIDE_TAPS])
def test_a_network_of_convolutions_runs_as_the_golden_model(config, density):
    check(random_convolutions(np.random.default_rng(1), config, LENET, [10, 5], density), config)


@pytest.mark.parametrize("acc_depth", [16, 40, 64, 512])
def test_slots_are_split_into_what_the_accumulators_hold(acc_depth):
    config = replace(CONVOLUTIONS, acc_depth=acc_depth)
    shape = [(20, Geometry((3, 4, 4), (3, 3), padding=(1, 1))), (9, Geometry((20, 4, 4), (2, 2), stride=(2, 2)))]
    network = random_convolutions(np.random.default_rng(2), config, shape, [7], 0.4)
    check(network, config)
    passes = pack(network, config).layers[0].passes
    assert len(passes) == -(-5 // min(5, acc_depth // 16))


def test_kernels_are_cut_if_slices_of_one_row_are_too_long():
    config = replace(CONVOLUTIONS, length_bits=2, slice_word_bits=8)
    network = random_convolutions(np.random.default_rng(3), config, [(5, Geometry((2, 6, 6), (4, 4)))], [], 1)
    network.layers[0].codes[:] = 3
    check(network, config)
    assert {one.encoded.scan.tap_bits for one in pack(network, config).layers[0].passes} == {2}
    assert len(pack(network, config).layers[0].passes) == 4 * 2


@pytest.mark.parametrize("geometry", [
    Geometry((5, 8, 8), (1, 1)), Geometry((5, 9, 7), (1, 1), stride=(2, 2)), Geometry((3, 8, 8), (11, 11),
                                                                                     padding=(5, 5)),
    Geometry((3, 19, 19), (11, 11), stride=(4, 4), padding=(2, 2)), Geometry((6, 8, 8), (3, 3), groups=6),
    Geometry((4, 7, 7), (1, 1), stride=(2, 2), padding=(1, 1)), Geometry((4, 1, 6), (3, 3), (2, 2), (1, 1)),
    Geometry((4, 9, 9), (3, 3), pool=3, pool_stride=2), Geometry((4, 9, 8), (2, 3), pool=2, pool_stride=1),
])
def test_shapes_of_known_networks(geometry):
    for config in (CONVOLUTIONS, WIDE_TAPS):
        network = random_convolutions(np.random.default_rng(4), config, [(12, geometry)], [6], 0.5)
        check(network, config)


@pytest.mark.parametrize("seed", range(10))
def test_golden_model_is_the_convolution_of_torch(seed):
    """Torch sums integers of 64 bits, so that both are exact."""
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(1, 4))
    geometry = random_geometry(rng, 2 * groups, groups)
    network = random_convolutions(rng, CONVOLUTIONS, [(3 * groups, geometry)], [], 0.7, signed=True)
    layer = replace(network.layers[0], multiplier=1 << 15, pre_shift=0)
    acts = random_acts(rng, network, 3, 0.9)
    images = torch.nn.functional.pad(torch.from_numpy(acts).reshape(3, *geometry.in_shape),
                                     geometry.pads[1] + geometry.pads[0])
    weights = torch.from_numpy(layer.weights).reshape(layer.rows, -1, *geometry.kernel)
    rows, cols = geometry.conv_shape
    sums = torch.zeros(3, layer.rows, rows, cols, dtype=torch.int64)
    for row, col in np.ndindex(rows, cols):
        top, left = row * geometry.stride[0], col * geometry.stride[1]
        window = images[:, :, top:top + geometry.kernel[0], left:left + geometry.kernel[1]]
        for channel in range(layer.rows):
            group = channel // (layer.rows // groups) * 2
            sums[:, channel, row, col] = (window[:, group:group + 2] * weights[channel]).sum((1, 2, 3))
    sums = sums + torch.from_numpy(layer.bias)[:, None, None]
    acts_out = ((sums.clamp(-(1 << 17), (1 << 17) - 1) * layer.multiplier + (1 << 18)) >> 19).clamp(
        *((-128, 127) if layer.activation.signed else (0, 255)))
    pooled = acts_out.unfold(2, geometry.pool, geometry.pool_stride).unfold(3, geometry.pool, geometry.pool_stride)
    expected = pooled.amax((4, 5)).flatten(1).numpy()
    assert np.array_equal(forward(replace(network, layers=(layer,)), acts)[0], expected)


def test_a_tap_is_as_busy_as_the_inputs_that_it_meets():
    """Two groups of a channel; a 2 x 1 kernel with a stride of 2 and padding, whose last output row is pooled away."""
    geometry = Geometry((2, 6, 1), (2, 1), (2, 1), (1, 0), groups=2, pool=1)
    often = np.array([1, 2, 4, 8, 16, 32, 0, 0, 0, 0, 0, 64])
    assert tap_activity(often, geometry).tolist() == [[2 + 8 + 32, 1 + 4 + 16], [64, 0]]
    assert tap_activity(often, replace(geometry, pool=3, pool_stride=2)).tolist() == [[2 + 8, 1 + 4 + 16], [0, 0]]


def test_channels_are_shared_out_by_the_work_of_their_taps():
    """Every channel has a weight, but only those of one PE at a tap that meets inputs that are not zero."""
    config = replace(CONVOLUTIONS, acc_depth=512)
    network = random_convolutions(np.random.default_rng(0), config, [(16, Geometry((1, 4, 4), (1, 2)))], [], 0)
    codes = network.layers[0].codes
    codes[:, 1] = 1
    busy = pack(network, config).layers[0].assignment.pe == 0
    codes[busy] = [1, 0]
    activity = [np.tile([1, 0, 0, 0], 4).astype(float)]
    assignment = pack(network, config, activity=activity).layers[0].assignment
    assert sorted(assignment.pe[busy].tolist()) == [0, 1, 2, 3]


def test_a_tiny_image_by_hand():
    """Two channels of a 2 x 2 kernel over 3 x 3 pixels, on two PEs."""
    config = replace(WIDE_TAPS, tap_bits=2, index_bits=(4,), code_bits=4, weight_bits=4, direct_weights=True)
    geometry = Geometry((1, 3, 3), (2, 2), padding=(1, 0))
    network = random_convolutions(np.random.default_rng(0), config, [(3, geometry)], [], 1)
    layer = network.layers[0]
    layer.codes[:] = [[1, 0, 2, 3], [0, 4, 0, 0], [5, 6, 0, 0]]
    packed = pack(network, config, balance=False, order=False)
    one, fields = packed.layers[0].passes[0].encoded, packed.layers[0].passes[0].descriptor
    # Rows 0 and 2 on PE 0 in slots 0 and 1, row 1 on PE 1. Taps: row times 4 plus column; slot 1 follows without skip.
    assert one.codes[0].tolist() == [1, 2, 3, 5, 6] and one.indices[0].tolist() == [0, 4, 5, 0, 1]
    assert one.codes[1].tolist() == [4] and one.indices[1].tolist() == [1]
    assert one.lengths.tolist() == [[5, 0], [1, 0]]
    expected = {"kind": 1, "tap_bits": 2, "hold_sums": 0, "pixel_words": 1, "pixel_step": 1, "row_step": 3,
                "scan_cols": 3,
                "scan_rows": 3, "first_x": 0, "first_y": 1, "out_cols": 2, "out_rows": 4, "first_row": 4,
                "row_pitch": 4, "last_block": 0,
                "pooled_cols": 2, "pooled_rows": 4, "output_pixel_words": 2, "pool": 1, "pool_step": 1,
                "output_words": 2, "input_words": 9, "chase_words": 9}
    assert {name: fields[name] for name in expected} == expected
    table = packed.program.tobytes()[-16 * 2:]
    assert np.frombuffer(table, "<u2").tolist() == [0, 2, 0, 0, 4, 6] + [0] * 10
    image = parse_image(image_file(packed), config)
    assert image.input_order.tolist() == [value for pixel in range(9) for value in (pixel, -1)]
    assert image.layers[0]["output_order"][:8].tolist() == [0, 4, 8, 12, 16, 20, 24, 28]
    check(network, config)


def test_a_greater_tap_a_skip_away():
    """A skip after a weight may lead to the next slot only, since a gap cannot."""
    config = replace(CONVOLUTIONS, index_bits=(4,), acc_depth=512)
    for distance in range(1, 9):
        for taps in ((1, 2), (2, 1), (1, 1)):
            network = random_convolutions(np.random.default_rng(0), config, [(40, Geometry((1, 5, 5), (2, 2)))], [], 0)
            codes = network.layers[0].codes
            codes[4, taps[0]] = codes[4 + 4 * distance, taps[1]] = 7
            packed = pack(network, config, balance=False, order=False)
            decoded = decode(parse_image(image_file(packed), config), config)
            assert np.array_equal(decoded.network.layers[0].codes, codes)
            check(network, config)


def refused(network, config, text):
    with pytest.raises(UserError, match=text):
        pack(network, config, preset="small")


def test_what_does_not_fit_is_refused():
    def network(geometry, rows=5, sizes=()):
        return random_convolutions(np.random.default_rng(0), CONVOLUTIONS, [(rows, geometry)], list(sizes), 1)
    refused(network(Geometry((1, 6, 6), (3, 3))), SMALL, "layer 'conv1' is a convolution, preset 'small' has fully ")
    refused(network(Geometry((1, 20, 20), (3, 3))), CONVOLUTIONS, "layer 'conv1' needs 324 accumulators in each PE for "
            "the 18 x 18 outputs of a channel, preset 'small' has 256; use a configuration with acc_depth = 512")
    refused(network(Geometry((1, 9, 9), (3, 3), pool=2, pool_stride=3)), CONVOLUTIONS, "windows of max pooling must "
            "be 1 to 15 wide and at most as far apart, not 2 wide and 3 apart")
    wide = replace(CONVOLUTIONS, acc_depth=1024)
    refused(network(Geometry((12, 25, 25), (1, 1)), 4), replace(wide, act_depth=1024),
            "layer 'conv1' needs 1875 words of activation memory")
    refused(network(Geometry((1, 16, 16), (3, 3), padding=(1, 1)), 12), CONVOLUTIONS,
            "layer 'conv1' needs 1024 words of activation memory for its inputs and outputs")
    refused(network(Geometry((256, 25, 25), (1, 1)), 4), wide,
            "layer 'conv1' needs 37500 words of activation memory .*, preset 'small' has 800; use a preset with")
    refused(network(Geometry((512, 25, 25), (1, 1)), 4), wide,
            "layer 'conv1' needs 7.... words of activation memory .*, preset 'small' has 800; no engine has more")
    refused(network(Geometry((1, 9, 9), (7, 7))), replace(CONVOLUTIONS, program_depth=64),
            "layer 'conv1' brings the program to 108 words, preset 'small' has 64")
    refused(network(Geometry((64, 4, 4), (3, 3))), replace(CONVOLUTIONS, entry_depth=64), "KiB of weight memory")
    first = network(Geometry((1, 6, 6), (3, 3)), 4).layers[0]
    second = network(Geometry((8, 2, 4), (1, 1)), 4).layers[0]
    refused(QuantizedNetwork("bad", (first, second), 1.0, False, 8), CONVOLUTIONS, "takes 8 x 2 x 4 values, but layer "
            "'conv1' gives 4 x 4 x 4; the engine cannot change the shape")


FIELDS = ["kind", "hold_sums", "pool", "pool_step", "last_block", "pixel_words", "pixel_step", "row_step", "scan_cols",
          "scan_rows", "first_x", "first_y", "out_cols", "out_rows", "first_row", "row_pitch", "pooled_cols",
          "pooled_rows", "output_pixel_words", "input_base", "input_words", "output_base", "output_words", "tap_bits"]


@pytest.mark.parametrize("field, changed", [*((field, 1) for field in FIELDS), ("scan_rows", 8), ("scan_cols", 4),
                                            ("chase_words", 256)])
def test_a_descriptor_that_does_not_fit_the_layer_is_refused(field, changed):
    network = random_convolutions(np.random.default_rng(6), CONVOLUTIONS, LENET, [4], 0.5)
    image = parse_image(image_file(pack(network, CONVOLUTIONS)), CONVOLUTIONS)
    layout = descriptor_layout(CONVOLUTIONS)
    start, size = HEADER_BYTES + SECTION_BYTES, layout.size // 8
    bits = int.from_bytes(image.engine[start:start + size], "little") ^ changed << layout[field].offset
    engine = image.engine[:start] + bits.to_bytes(size, "little") + image.engine[start + size:]
    with pytest.raises(UserError, match="contradict each other"):
        decode(replace(image, engine=engine), CONVOLUTIONS)


@pytest.mark.parametrize("change", [
    {"kernel": [3, 5]}, {"stride": [2, 1]}, {"padding": [1, 2]}, {"pool_stride": 1}, {"in_shape": [1, 12, 11]},
    {"groups": 2}, {"kernel": [0, 5]}, {"stride": [1]}, {"pool": 1.0},
    {"in_shape": [1, 1 << 16, 1 << 16]}, {"in_shape": [1, 1 << 13, 1 << 13]},
])
def test_a_geometry_that_does_not_fit_the_image_is_refused(change):
    assert_layer_refused(lambda layer: layer["geometry"].update(change))


@pytest.mark.parametrize("step", [0, 4, 1 << 25, 8.0, None])
def test_a_wrong_step_between_pixels_is_refused(step):
    assert_layer_refused(lambda layer: layer.update(output_step=step))


@pytest.mark.parametrize("direct", [False, True])
def test_a_network_of_convolutions_is_quantised(direct):
    """The integers give the float network's outputs, but for rounding; taps that meet only padding are dropped."""
    config = replace(CONVOLUTIONS, code_bits=8, direct_weights=direct, act_bits=16, packet_bytes=256)
    rng = np.random.default_rng(8)
    layers = []
    for rows, geometry in [*LENET, (9, Geometry((8, 2, 2), (5, 5), padding=(2, 2)))]:
        shape = rows, geometry.in_shape[0] // geometry.groups * geometry.kernel[0] * geometry.kernel[1]
        values = np.arange(256.0) * (0.01 if direct else 1 / 256)
        values = np.where(np.arange(256) >= 128, values - 256 * values[1], values)
        layers.append(SharedLayer("conv", rng.integers(0, 256, shape).astype(np.uint8), values, rng.random(rows),
                                  Activation.RELU, geometry))
    shared = SharedNetwork("net", tuple(layers))
    images = rng.random((20, 1, 12, 12)).astype(np.float32)
    quantized = quantize(shared, config, images)
    outputs = forward(quantized, quantize_inputs(quantized, images))
    last = torch.from_numpy(images).double()
    for layer, done, values in zip(layers, quantized.layers, outputs, strict=True):
        shape = layer.geometry
        last = torch.nn.functional.conv2d(last, torch.from_numpy(layer.weight).reshape(
            len(layer.bias), -1, *shape.kernel), torch.from_numpy(layer.bias), padding=shape.padding).relu()
        last = torch.nn.functional.max_pool2d(last, shape.pool, shape.pool_stride)
        error = values * done.output_scale - last.flatten(1).numpy()
        assert np.abs(error).mean() < 0.01 * last.abs().mean()
        assert done.geometry == shape
    assert (quantized.layers[2].codes.reshape(9, 8, 5, 5)[:, :, 0, 0] == 0).all()
    assert (quantized.inputs, quantized.outputs) == (144, 36)
