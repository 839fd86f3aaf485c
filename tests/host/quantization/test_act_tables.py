# SPDX-License-Identifier: Apache-2.0
"""Tables of activation functions: close to the function on the calibration inputs, whatever its form."""

from dataclasses import replace

import numpy as np
import pytest

from host.compression.shared_network import SharedLayer, SharedNetwork
from host.network.activate import activate
from host.network.activations import (
    clamp,
    elu,
    gelu,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from host.network.layers import Geometry
from host.quantization.golden_model import convolve, forward, max_pooled
from host.quantization.integer_network import quantize_inputs
from host.quantization.quantize import quantize
from nonzero.errors import UserError
from rtl.config import EngineConfig
from rtl.numbers import Activation

CONFIG = EngineConfig(act_table=True)

FUNCTIONS = [sigmoid(), tanh(), hard_sigmoid(), hard_swish(), silu(), gelu(), gelu(approximate=True), elu(0.7),
             softplus(), leaky_relu(0.1), leaky_relu(-0.3), clamp(-1, 2), clamp(0.5, 3), clamp(-np.inf, 1)]


def shared(function, spread, rows=12, geometry=None, bias=0.0):
    """A layer whose sums of random inputs have about this spread."""
    rng = np.random.default_rng(0)
    values = np.array([0.0, *np.linspace(-1, 1, 14)])
    cols = 25 if geometry is None else geometry.in_shape[0] * geometry.kernel[0] * geometry.kernel[1]
    values *= spread / np.sqrt(cols / 3) / 0.6
    layer = SharedLayer("fc1", rng.integers(1, 15, (rows, cols)).astype(np.uint8), values, np.full(rows, bias),
                        function, geometry)
    return SharedNetwork("one", (layer,))


INPUTS = np.random.default_rng(1).normal(size=(400, 25)).clip(-2.5, 2.5).astype(np.float32)


def error(network, inputs, *, classes=False, config=CONFIG):
    """Quantised network, its float outputs, and the root mean square of the error over that of the outputs."""
    layer, = network.layers
    quantized = quantize(network, config, inputs, classes=classes)
    acts = quantize_inputs(quantized, inputs)
    outputs = forward(quantized, acts)[-1]
    if layer.geometry is None:
        exact = activate(inputs.astype(float) @ layer.weight.T + layer.bias, layer.activation)
    else:
        exact = activate(convolve(layer.weight, layer.bias, inputs.astype(float),
                                  replace(layer.geometry, pool=1, pool_stride=1)), layer.activation)
        exact = max_pooled(exact, layer.geometry) if layer.geometry.pool > 1 else exact
    found = outputs * quantized.layers[0].output_scale
    return quantized.layers[0], exact, float(np.sqrt(np.square(found - exact).mean() / np.square(exact).mean()))


@pytest.mark.parametrize("spread", [0.5, 3, 30])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda one: one.name)
def test_outputs_are_close_to_those_of_the_float_network(function, spread):
    layer, exact, relative = error(shared(function, spread), INPUTS)
    assert layer.table is not None and layer.table.shape == (256,)
    low, high = (-128, 127) if function.signed else (0, 255)
    assert low <= layer.table.min() <= layer.table.max() <= high
    assert (layer.activation is Activation.IDENTITY) == function.signed
    # The inputs have 8 bits as well: a function that is steep as seen from them shows their rounding.
    assert relative < (0.04 if spread == 30 else 0.025) * max(1, float(np.abs(exact).max() / np.abs(exact).std() / 4))


def test_the_table_begins_where_the_sums_do():
    """Sums around 40 use the whole table as well as those around 0."""
    layer, _, relative = error(shared(clamp(-np.inf, 42), 2, bias=40), INPUTS)
    assert relative < 0.003 and len(np.unique(layer.table)) > 20
    near, _, _ = error(shared(clamp(-np.inf, 2), 2), INPUTS)
    assert near.bias.mean() != layer.bias.mean()


def test_ends_that_hardly_matter_are_cut_off():
    """A sigmoid of sums up to 100 is a step: the table covers its slope."""
    layer, _, relative = error(shared(sigmoid(), 30), INPUTS)
    assert relative < 0.03 and np.count_nonzero((layer.table > 5) & (layer.table < 250)) > 10


def test_values_that_matter_are_not_cut_off():
    layer, exact, _ = error(shared(leaky_relu(0.1), 3), INPUTS)
    assert layer.table.max() * layer.output_scale >= exact.max() * 0.99
    assert layer.table.min() * layer.output_scale <= exact.min() * 0.97


def test_the_greatest_output_stays_the_greatest():
    network = shared(tanh(), 0.5, rows=10)
    layer, exact, _ = error(network, INPUTS, classes=True)
    quantized = quantize(network, CONFIG, INPUTS, classes=True)
    outputs = forward(quantized, quantize_inputs(quantized, INPUTS))[-1]
    assert layer.table is not None and (outputs.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.85


@pytest.mark.parametrize("function", [silu(), tanh(), clamp(0, 0.8)], ids=lambda one: one.name)
def test_pooling_behind_any_function(function):
    geometry = Geometry((2, 6, 6), (3, 3), pool=2, pool_stride=2)
    inputs = np.random.default_rng(2).normal(size=(60, 72)).astype(np.float32)
    _, exact, relative = error(shared(function, 1, rows=4, geometry=geometry), inputs,
                               config=replace(CONFIG, tap_bits=3))
    assert exact.shape == (60, 16) and relative < 0.02


def test_a_clamp_from_zero_takes_no_table():
    layer, exact, relative = error(shared(clamp(0, 6), 5), INPUTS, config=EngineConfig())
    assert layer.table is None and layer.activation is Activation.RELU and exact.max() == 6
    assert layer.output_scale == 6 / 255 and relative < 0.01
    below, exact, _ = error(shared(clamp(0, 100), 5), INPUTS, config=EngineConfig())
    assert below.output_scale == pytest.approx(exact.max() / 255, rel=0.01)


def test_without_tables_or_room_for_the_clamp_the_layer_is_refused():
    with pytest.raises(UserError) as caught:
        quantize(shared(gelu(), 1), EngineConfig(), INPUTS)
    assert caught.value.problems == [("layer 'fc1' has the activation function GELU, which takes a table; use a "
                                      "configuration with act_table = true")]
    with pytest.raises(UserError, match=r"^layer 'fc1' is clamped to 1e-05, which is too little in units of 0\..*, "
                                        r"those of its sums; use a configuration with act_table = true$"):
        quantize(shared(clamp(0, 1e-5), 50), EngineConfig(), INPUTS)


def test_the_way_out_of_a_clamp_without_room_is_a_table():
    layer, exact, _ = error(shared(clamp(0, 0.01), 50), INPUTS, config=EngineConfig(act_table=True))
    assert layer.table is not None and layer.activation is Activation.RELU and 0 < exact.max() <= 0.01
    assert layer.output_scale == pytest.approx(0.01 / 255, rel=0.05)
