# SPDX-License-Identifier: Apache-2.0
"""Activation functions of TensorFlow Lite, fused into a layer and alone."""

import numpy as np
import pytest
import torch
from torch import nn

from host.importers.load_network import load_network
from host.network.activations import silu
from tests.support.model_files import check, refusal
from tests.support.tflite_models import LiteModel

WEIGHT = 6 * np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)


def linear(fused=0):
    """A model with a linear layer, its input and its output."""
    model = LiteModel()
    given, sums = model.tensor((1, 6)), model.tensor((1, 4))
    model.node("FULLY_CONNECTED", [given, model.tensor(WEIGHT.shape, WEIGHT)], [sums], "FullyConnectedOptions",
               FusedActivationFunction=fused)
    return model, given, sums


def saved(directory, model, given, out):
    path = directory / "model.tflite"
    path.write_bytes(bytes(model.finish([given], [out])))
    return path


def sums_of(inputs):
    return inputs @ torch.from_numpy(WEIGHT).T


ALONE = {
    "RELU6": ("", {}, nn.ReLU6()), "RELU_N1_TO_1": ("", {}, nn.Hardtanh()),
    "RELU_0_TO_1": ("", {}, lambda x: x.clamp(0, 1)), "LOGISTIC": ("", {}, nn.Sigmoid()), "TANH": ("", {}, nn.Tanh()),
    "LEAKY_RELU": ("LeakyReluOptions", {"Alpha": 0.3}, nn.LeakyReLU(0.3)), "ELU": ("", {}, nn.ELU()),
    "HARD_SWISH": ("", {}, nn.Hardswish()), "GELU": ("GeluOptions", {"Approximate": True}, nn.GELU("tanh")),
}


@pytest.mark.parametrize("kind", ALONE)
def test_operators(tmp_path, kind):
    options, values, function = ALONE[kind]
    model, given, sums = linear()
    out = model.tensor((1, 4))
    model.node(kind, [sums], [out], options, **values)
    check(load_network(saved(tmp_path, model, given, out)), lambda inputs: function(sums_of(inputs)), (6,))


@pytest.mark.parametrize(("number", "function"), [(1, nn.ReLU()), (2, nn.Hardtanh()), (3, nn.ReLU6()), (4, nn.Tanh())])
def test_fused_functions(tmp_path, number, function):
    check(load_network(saved(tmp_path, *linear(number))), lambda inputs: function(sums_of(inputs)), (6,))


def test_slopes_of_a_prelu(tmp_path):
    for slopes in ([0.2] * 4, [0.2, 0.2, 0.1, 0.2]):
        model, given, sums = linear()
        out = model.tensor((1, 4))
        model.node("PRELU", [sums, model.tensor((4,), slopes)], [out])
        path = saved(tmp_path, model, given, out)
        if len(set(slopes)) == 1:
            check(load_network(path), lambda inputs: nn.LeakyReLU(0.2)(sums_of(inputs)), (6,))
        else:
            assert "is a PReLU of 4 slopes; only one for all channels runs: use torch.nn.PReLU()" in refusal(path)


@pytest.mark.parametrize("fused", [0, 1])
def test_a_product_with_its_own_sigmoid_is_a_silu(tmp_path, fused):
    model, given, sums = linear()
    gate, out = model.tensor((1, 4)), model.tensor((1, 4))
    model.node("LOGISTIC", [sums], [gate])
    model.node("MUL", [sums, gate], [out], "MulOptions", FusedActivationFunction=fused)
    path = saved(tmp_path, model, given, out)
    after = nn.ReLU() if fused else nn.Identity()   # a product with a function behind it is none that is known
    network = check(load_network(path), lambda inputs: after(nn.SiLU()(sums_of(inputs))), (6,))
    assert (network.layers[0].activation == silu()) is not bool(fused)
