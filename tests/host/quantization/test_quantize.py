# SPDX-License-Identifier: Apache-2.0
"""Weight sharing and quantisation: codes, scales, proofs, and how little they cost."""

from dataclasses import replace

import numpy as np
import pytest

from host.compression.share_weights import ShareSettings, direct_values, share_weights
from host.compression.shared_network import SharedLayer, SharedNetwork
from host.network.activate import activate
from host.network.layers import Linear, Network
from host.quantization.golden_model import forward
from host.quantization.integer_network import QuantizedNetwork, accumulator_bounds, quantize_inputs
from host.quantization.quantize import quantize
from host.quantization.requant_constants import requant_constants
from nonzero.errors import UserError
from rtl.numbers import Activation, requantize
from tests.support.stripes import Widths, dataset, sparse_network

DIRECT = Widths(weight_bits=8, code_bits=8, direct_weights=True)


def float_outputs(layers, inputs):
    outputs = []
    for layer in layers:
        inputs = inputs @ layer.weight.astype(np.float64).T + layer.bias
        inputs = activate(inputs, layer.activation)
        outputs.append(inputs)
    return outputs


def shared_network(weight, bias=None, activation=Activation.IDENTITY, values=None):
    """One layer whose codes are the places of its weights in ``values``."""
    weight = np.asarray(weight, np.float64)
    values = np.zeros(16) if values is None else np.asarray(values, np.float64)
    distinct = np.unique(weight[weight != 0])
    values[1:1 + len(distinct)] = distinct
    codes = np.where(weight == 0, 0, 1 + np.searchsorted(distinct, weight)).astype(np.uint8)
    bias = np.zeros(len(weight)) if bias is None else np.asarray(bias, np.float64)
    return SharedNetwork("one", (SharedLayer("fc1", codes, values, bias, activation),))


def same(one: QuantizedNetwork, other: QuantizedNetwork) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for a, b in
               zip(one.layers, other.layers, strict=True) for name in vars(a))


def test_a_layer_without_weights_is_quantised():
    net = sparse_network()
    net = replace(net, layers=(*net.layers[:2], replace(net.layers[2], weight=net.layers[2].weight * 0)))
    for config in (Widths(), DIRECT):
        quantized = quantize(share_weights(net, config), config, dataset().train_images)
        assert not quantized.layers[2].codes.any() and not quantized.layers[2].weights.any()
        winner = forward(quantized, quantize_inputs(quantized, dataset().test_images))[-1].argmax(axis=1)
        assert winner.tolist() == [net.layers[2].bias.argmax()] * 100


def test_the_seed_decides_every_bit():
    net, data = sparse_network(), dataset()
    settings = ShareSettings(epochs=2, batch=50)
    one, other = (quantize(share_weights(net, Widths(), data, settings, seed=3), Widths(), data.train_images)
                  for _ in range(2))
    assert same(one, other)
    third = quantize(share_weights(net, Widths(), data, settings, seed=4), Widths(), data.train_images)
    assert not same(one, third)


@pytest.mark.parametrize("config", [Widths(), Widths(act_bits=16), Widths(code_bits=6, weight_bits=12),
                                    DIRECT, Widths(weight_bits=4, code_bits=4, direct_weights=True)])
@pytest.mark.parametrize("kind", ["bytes", "signed floats", "unsigned floats"])
def test_integers_follow_the_floats(config, kind):
    images = dataset().train_images
    if kind != "bytes":
        images = (images / 40 - (3 if kind == "signed floats" else 0)).astype(np.float32)
    shared = share_weights(sparse_network(), config)
    quantized = quantize(shared, config, images)
    acts = quantize_inputs(quantized, images)
    expected = float_outputs(shared.layers, acts * quantized.input_scale)
    assert quantized.input_signed == (kind == "signed floats") == quantized.layers[0].input_signed
    results = forward(quantized, acts)
    for layer, ours, outputs in list(zip(quantized.layers, results, expected, strict=True))[:-1]:
        error = np.sqrt(np.mean((ours * layer.output_scale - outputs) ** 2)) / np.std(outputs)
        assert error < 0.03
    assert (results[-1].argmax(axis=1) == expected[-1].argmax(axis=1)).mean() > 0.97


def test_a_layer_takes_the_scale_that_the_one_before_gives():
    quantized = quantize(share_weights(sparse_network(), Widths()), Widths(), dataset().train_images)
    assert quantized.input_scale == quantized.layers[0].input_scale == 1 / 255
    for layer, following in zip(quantized.layers[:-1], quantized.layers[1:], strict=True):
        assert following.input_scale == layer.output_scale and following.input_signed == layer.activation.signed
    for layer in quantized.layers:
        ratio = layer.input_scale * layer.weight_scale / layer.output_scale
        assert layer.multiplier / 2 ** (19 + layer.pre_shift) == pytest.approx(ratio, rel=1e-3)
        assert np.array_equal(layer.weights, layer.codebook[layer.codes])
    assert (quantized.inputs, quantized.outputs) == (49, 3)
    assert quantized.weights_kept == sparse_network().weights_kept and quantized.weights_total == 2820


def test_bytes_are_the_activations_themselves():
    quantized = QuantizedNetwork("any", (), 1 / 255, False, 8)
    pixels = np.arange(256, dtype=np.uint8).reshape(2, 8, 16)
    assert np.array_equal(quantize_inputs(quantized, pixels), pixels.reshape(2, 128))
    floats = pixels.astype(np.float32) / np.float32(255)
    assert np.array_equal(quantize_inputs(quantized, floats), pixels.reshape(2, 128))
    assert quantize_inputs(quantized, pixels).dtype == np.int64


@pytest.mark.parametrize(("low", "high", "limits"), [(-2.0, 1.0, (-127, 64)), (0.0, 3.0, (0, 255)),
                                                     (0.0, 0.0, (0, 0))])
def test_float_inputs_are_scaled_by_their_greatest(low, high, limits):
    images = np.array([[low, high], [high, low]], np.float32)
    quantized = quantize(shared_network([[1.0, 0.5]]), Widths(), images)
    acts = quantize_inputs(quantized, images)
    assert (acts.min(), acts.max()) == limits
    beyond = quantize_inputs(quantized, images * 0 + 1e9)
    assert beyond.tolist() == [[127 if low < 0 else 255] * 2] * 2


def test_a_weight_that_rounds_to_zero_is_dropped():
    quantized = quantize(shared_network([[1.0, 0.001, -0.5, 0.0]]), Widths(), np.full((1, 4), 255, np.uint8))
    (layer,) = quantized.layers
    assert layer.weights.tolist() == [[127, 0, -64, 0]]
    assert (layer.codes > 0).tolist() == [[True, False, True, False]] and quantized.weights_kept == 2


def test_direct_codes_are_the_weights():
    assert direct_values(4).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1]
    net = sparse_network()
    config = Widths(weight_bits=4, code_bits=4, direct_weights=True)
    quantized = quantize(share_weights(net, config), config, dataset().train_images)
    for layer, before in zip(quantized.layers, net.layers, strict=True):
        assert layer.codebook.tolist() == direct_values(4).tolist()
        assert np.array_equal(layer.weights == 0, layer.codes == 0)
        kept = layer.codes > 0
        assert kept.sum() <= before.weights_kept and layer.weights.min() >= -8 and layer.weights.max() <= 7
        error = layer.weights * layer.weight_scale - before.weight
        assert np.sqrt(np.mean(error[kept] ** 2)) < 0.3 * layer.weight_scale * 1.2


def test_the_last_scale_agrees_best_with_the_floats():
    """Two classes are often equal after rounding unless the rest of the range is given up."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4000, 2), np.uint8)
    weight = [[1.0, 0.0], [0.0, 1.0], [-3.0, -3.0]]
    quantized = quantize(shared_network(weight), Widths(), images)
    outputs = forward(quantized, quantize_inputs(quantized, images))[-1]
    wrong = (outputs.argmax(axis=1) != images.argmax(axis=1)).mean()
    assert quantized.layers[0].output_scale < 6 / 128 / 2 and wrong < 0.01


def test_rare_great_outputs_are_clipped():
    rng = np.random.default_rng(0)
    images = np.abs(rng.normal(size=(9000, 8))).astype(np.float32)
    shared = shared_network(np.round(3 * rng.normal(size=(4, 8))) / 3, activation=Activation.RELU)
    quantized = quantize(shared, Widths(), images)
    (layer,), acts = quantized.layers, quantize_inputs(quantized, images)
    outputs = np.maximum(acts @ layer.weights.T, 0) * layer.input_scale * layer.weight_scale
    assert 0.3 < 255 * layer.output_scale / outputs.max() < 0.97
    ours = forward(quantized, acts)[0] * layer.output_scale
    unclipped = np.rint(outputs / outputs.max() * 255) * outputs.max() / 255
    assert np.square(ours - outputs).mean() < np.square(unclipped - outputs).mean()


def test_accumulator_bounds_are_reached_and_never_exceeded():
    rng = np.random.default_rng(2)
    for signed in (False, True):
        weights, bias = rng.integers(-128, 128, (6, 4)), rng.integers(-3000, 3000, 6)
        least, greatest = accumulator_bounds(weights, bias, 8, input_signed=signed)
        low, high = (-128, 127) if signed else (0, 255)
        corners = np.stack(np.meshgrid(*[[low, 0, high]] * 4), -1).reshape(-1, 4)
        sums = np.stack([corners @ weights.T, corners @ weights.T + bias])
        assert np.array_equal(sums.min(axis=(0, 1)), least)
        assert np.array_equal(sums.max(axis=(0, 1)), greatest)


def test_overflow_is_refused_by_any_order_of_sums():
    """The sum is 0, but half of it, added first, is too much for 24 bits."""
    weight = np.concatenate([np.full(300, 1.0), np.full(300, -1.0)])[None]
    images = np.full((1, 600), 255, np.uint8)
    assert quantize(shared_network(weight), Widths(), images)
    with pytest.raises(UserError) as caught:
        quantize(shared_network(weight), Widths(acc_bits=24), images)
    assert str(caught.value) == (
        "layer 'fc1': the sum of row 0 can reach -9715500 to 9715500, but an accumulator of 24 bits holds "
        "-8388608 to 8388607 (1 rows are too large); use an engine with a greater acc_bits or a smaller "
        "weight_bits, or prune more")


def test_bias_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"layer 'fc1': the bias of row 1 \(-1e\+09\) must fit 32 bits"):
        quantize(shared_network([[1.0], [1.0]], [0, -1e9]), Widths(), np.full((1, 1), 255, np.uint8))


@pytest.mark.parametrize("act_bits", [8, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_requant_constants_are_as_good_as_exact_arithmetic(act_bits, signed):
    rng = np.random.default_rng(3)
    low, high = (-2 ** (act_bits - 1), 2 ** (act_bits - 1) - 1) if signed else (0, 2 ** act_bits - 1)
    for size in (3000, 100_000, 5_000_000, 2 ** 31 - 1):
        ratio = min(high / size * 1.3, 65535 / 2 ** (27 - act_bits))
        multiplier, pre_shift = requant_constants("fc1", ratio, (-size, size), act_bits, signed=signed)
        sums = rng.integers(-size, size, 5000)
        ours = requantize(sums, multiplier=multiplier, pre_shift=pre_shift, signed=signed, act_bits=act_bits,
                          clamp=np.clip)
        exact = np.clip(sums * ratio, low, high)
        assert np.abs(ours - exact).max() < 0.75 + high * 2.0 ** -10


def test_requant_constants_take_the_smallest_pre_shift():
    assert requant_constants("fc1", 0.01, (-9**9, 9**9), 8, signed=False) == (5243, 0)
    assert requant_constants("fc1", 0.0019, (-9**9, 9**9), 8, signed=False)[1] == 5
    for signed in (False, True):
        assert requant_constants("fc1", 0.0009, (-131072, 131071), 8, signed=signed)[1] == 0
        assert requant_constants("fc1", 0.0009, (-131072, 131072), 8, signed=signed)[1] == 5
        assert requant_constants("fc1", 0.0009, (-131073, 131071), 8, signed=signed)[1] == (5 if signed else 0)


@pytest.mark.parametrize("ratio", [0.125, 1.0, 1e-12])
def test_ratio_without_constants_is_refused(ratio):
    with pytest.raises(UserError, match=r"layer 'fc1' cannot be requantised: a ratio of .* \(-9 to 9\)"):
        requant_constants("fc1", ratio, (-9, 9), 8, signed=False)


def test_small_sums_get_the_greatest_ratio():
    config = Widths(weight_bits=4, code_bits=4, direct_weights=True)
    layers = share_weights(Network("one", (Linear("fc1", np.float32([[1.0, -0.5]]), np.float32([0]),
                                                         Activation.RELU),)), config)
    quantized = quantize(layers, config, np.arange(20, dtype=np.uint8).reshape(10, 2))
    assert (quantized.layers[0].multiplier, quantized.layers[0].pre_shift) == (65535, 0)


def test_calibration_images_that_do_not_fit_are_refused():
    with pytest.raises(UserError) as caught:
        quantize(shared_network([[1.0, 2.0]]), Widths(), np.full((3, 4), np.nan, np.float32))
    assert caught.value.problems == [
        "calibration images must be at least one, of 2 values each, not 3 of 4",
        "calibration images must be finite; remove infinities and NaN"]
    with pytest.raises(UserError, match="at least one, of 2 values each, not 0 of 2"):
        quantize(shared_network([[1.0, 2.0]]), Widths(), np.zeros((0, 2), np.uint8))
