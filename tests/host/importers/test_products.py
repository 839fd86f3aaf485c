# SPDX-License-Identifier: Apache-2.0
"""Products of two values, gates and squeeze-and-excite: read as what torch computes, packed, or refused by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from host.importers.load_network import load_network
from host.quantization.even_products import even_products
from host.quantization.losses import float_values, last_values
from rtl.config import PRESETS
from tests.support.model_files import check, problems, write
from tests.support.packed_models import packed_error
from tests.support.torch_models import Branches

SHAPE = (3, 6, 5)
CONFIG = replace(PRESETS["conv"], acc_depth=512, program_depth=8192, act_table=True, code_bits=8, direct_weights=True)
PRODUCT = ["mul[0]", "mul[1]", "mul"]


def conv(inputs=3, outputs=3):
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def excited(m, x):
    """Squeeze-and-excite."""
    y = m.a(x).relu()
    return m.c(y * m.e(m.d(functional.adaptive_avg_pool2d(y, 1)).relu()).sigmoid())


MODELS = {
    # name: the function, layers, names of the layers
    "gate": (lambda m, x: m.c(m.a(x).relu() * m.b(x).sigmoid()), {"a": conv(), "b": conv(), "c": conv(3, 2)},
             ["a", "b", *PRODUCT, "c"]),
    "of either sign": (lambda m, x: m.c(m.a(x) * m.b(x)), {"a": conv(), "b": conv(), "c": conv(3, 2)},
                       ["a", "b", *PRODUCT, "c"]),
    "squeeze and excite": (excited, {"a": conv(3, 4), "c": conv(4, 2), "d": nn.Conv2d(4, 2, 1),
                                     "e": nn.Conv2d(2, 4, 1)}, None),
    "square": (lambda m, x: (lambda y: m.c(y * y))(m.a(x)), {"a": conv(), "c": conv(3, 2)}, ["a", "mul", "c"]),
    "flat": (lambda m, x: (lambda y: m.c(m.a(y).relu() * m.b(y).tanh()))(x.flatten(1)),
             {"a": nn.Linear(90, 5), "b": nn.Linear(90, 5), "c": nn.Linear(5, 3)}, ["a", "b", *PRODUCT, "c"]),
    "of the input": (lambda m, x: m.c(x * m.a(x).sigmoid()), {"a": conv(), "c": conv(3, 2)}, ["a", *PRODUCT, "c"]),
    "output": (lambda m, x: m.a(x) * m.b(x).sigmoid(), {"a": conv(), "b": conv()}, ["a", "b", *PRODUCT]),
}


def model_of(name):
    torch.manual_seed(0)
    function, layers, wanted = MODELS[name]
    model = Branches(function, **layers).eval()
    with torch.no_grad():
        for one in model.parameters():
            one.copy_(torch.randn_like(one) * (0.3 if one.dim() > 1 else 0.1))
    return model, wanted


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize("name", MODELS)
def test_products_are_read(tmp_path, name, kind):
    model, wanted = model_of(name)
    network = load_network(write(tmp_path, kind, model, SHAPE))
    check(network, model, SHAPE)
    if wanted is not None and kind == "pt2":
        assert [layer.name for layer in network.layers] == wanted


@pytest.mark.parametrize("name", MODELS)
def test_an_image_holds_what_golden_computes(tmp_path, name):
    model, _ = model_of(name)
    assert packed_error(tmp_path, model, SHAPE, CONFIG) < 0.1


def test_factors_of_unequal_ranges_are_made_alike(tmp_path):
    """A gate of 0 to 1 on values a hundred times as great: without that, the product is lost in rounding."""
    model, _ = model_of("gate")
    with torch.no_grad():
        model.a.weight.mul_(300)
    network = load_network(write(tmp_path, "pt2", model, SHAPE))
    images = np.random.default_rng(0).normal(size=(30, *SHAPE)).astype(np.float32)
    even = even_products(network, images)
    values = [last_values(float_values(one), images) for one in (network, even)]
    assert np.allclose(*values, rtol=1e-4, atol=1e-3 * np.abs(values[0]).max())
    first, second = (next(layer for layer in even.layers if layer.name == name) for name in PRODUCT[:2])
    assert 0 < first.weight[0, 0] == -second.weight[0, 0] < 0.05
    assert first.activation.kind == "square" and first.fixed and second.fixed
    assert first.activation.parameters[0] == pytest.approx(1 / (4 * float(first.weight[0, 0])), rel=1e-6)
    assert packed_error(tmp_path, model, SHAPE, CONFIG) < 0.1


def test_a_network_without_products_stays_as_it_is(tmp_path):
    network = load_network(write(tmp_path, "pt2", nn.Sequential(conv(), nn.ReLU(), conv()), SHAPE))
    assert even_products(network, np.zeros((2, *SHAPE), np.float32)) is network


def test_factors_of_other_shapes_are_refused(tmp_path):
    model = Branches(lambda m, x: m.a(x) * m.a(x).mean(1, keepdim=True), a=conv()).eval()
    assert any("is a mean over other axes" in one for one in problems(write(tmp_path, "pt2", model, SHAPE)))
    model = Branches(lambda m, x: m.a(x) * m.b(functional.adaptive_avg_pool2d(x, 1)), a=conv(3, 1),
                     b=nn.Conv2d(3, 3, 1)).eval()
    told = problems(write(tmp_path, "pt2", model, SHAPE))
    assert any("multiplies 1 x 6 x 5 values by 3 x 1 x 1; only values of one shape are multiplied, or a map by a value "
               "for each of its channels" in one for one in told)
