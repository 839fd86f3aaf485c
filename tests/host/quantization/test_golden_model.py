# SPDX-License-Identifier: Apache-2.0
"""The golden model equals a loop over plain Python integers, to the bit."""

import numpy as np
import pytest

from host.quantization import golden_model
from host.quantization.golden_model import forward, totals
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from rtl.numbers import Activation


def plain_forward(quantized, acts):
    """The contract of rtl/numbers.py once more, written apart from it, for one list of ints."""
    bits = quantized.act_bits
    shift = 27 - bits
    for layer in quantized.layers:
        low, high = (-2 ** (bits - 1), 2 ** (bits - 1) - 1) if layer.activation.signed else (0, 2 ** bits - 1)
        outputs = []
        for row in range(layer.rows):
            total = int(layer.bias[row])
            for col, code in enumerate(layer.codes[row].tolist()):
                total += int(layer.codebook[code]) * acts[col]
            narrow = min(max(total // 2 ** layer.pre_shift, -2 ** 17), 2 ** 17 - 1)
            scaled = (narrow * layer.multiplier + 2 ** (shift - 1)) // 2 ** shift
            outputs.append(min(max(scaled, low), high))
        acts = outputs
        yield acts


def random_network(seed, act_bits, input_signed):
    rng = np.random.default_rng(seed)
    sizes, layers, signed = rng.integers(1, 9, 4), [], input_signed
    for index in range(3):
        rows, cols = sizes[index + 1], sizes[index]
        codes = rng.integers(0, 16, (rows, cols), np.uint8) * rng.integers(0, 2, (rows, cols), np.uint8)
        codebook = np.concatenate([[0], rng.integers(-128, 128, 15)])
        # Biases of all sizes, so that every clamp is reached.
        bias = (rng.normal(size=rows) * 2.0 ** rng.integers(0, 30, rows)).astype(np.int64)
        layers.append(QuantizedLayer(f"fc{index}", codes, codebook, bias, int(rng.integers(1, 1 << 16)),
                                     int(rng.choice([0, 5, 10, 15])), Activation(int(rng.integers(2))), signed,
                                     1.0, 1.0, 1.0))
        signed = layers[-1].activation.signed
    return QuantizedNetwork("random", tuple(layers), 1.0, input_signed, act_bits)


@pytest.mark.parametrize("act_bits", [8, 16])
@pytest.mark.parametrize("input_signed", [False, True])
@pytest.mark.parametrize("block_weights", [golden_model.BLOCK_WEIGHTS, 10])
def test_equals_plain_integers(act_bits, input_signed, block_weights, monkeypatch):
    monkeypatch.setattr(golden_model, "BLOCK_WEIGHTS", block_weights)
    low, high = (-1 << (act_bits - 1), 1 << (act_bits - 1)) if input_signed else (0, 1 << act_bits)
    for seed in range(20):
        network = random_network(seed, act_bits, input_signed)
        acts = np.random.default_rng(seed).integers(low, high, (5, network.inputs))
        results = forward(network, acts)
        assert all(result.dtype == np.int64 for result in results)
        for index, one in enumerate(acts.tolist()):
            expected = list(plain_forward(network, one))
            assert [result[index].tolist() for result in results] == expected


def test_sums_are_exact_where_float32_is_not():
    weights, acts = np.full((1, 300), 127), np.full((2, 300), 65535)
    weights[0, 0] = 1
    assert totals(weights, np.array([5]), acts).tolist() == [[(299 * 127 + 1) * 65535 + 5]] * 2
    assert (299 * 127 + 1) * 65535 + 5 > 1 << 31


def test_sums_that_float64_cannot_hold_are_refused():
    with pytest.raises(ValueError, match=r"sums must stay below 2\*\*53"):
        totals(np.array([[1 << 26]]), np.array([0]), np.array([[1 << 27]]))
    with pytest.raises(ValueError, match=r"sums must stay below 2\*\*53"):
        totals(np.array([[1]]), np.array([-1 << 53]), np.array([[1]]))


@pytest.mark.parametrize(("signed", "act", "message"), [
    (False, -1, "input activations of layer 'fc0' must be 0 to 255, not -1 to -1"),
    (False, 256, "input activations of layer 'fc0' must be 0 to 255, not 256 to 256"),
    (True, 128, "input activations of layer 'fc0' must be -128 to 127, not 128 to 128"),
])
def test_activations_out_of_range_are_refused(signed, act, message):
    network = random_network(0, 8, signed)
    with pytest.raises(ValueError, match=message):
        forward(network, np.full((1, network.inputs), act))
