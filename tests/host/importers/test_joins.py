# SPDX-License-Identifier: Apache-2.0
"""Models that join values, torch.cat, or give several outputs: read as what torch computes, or refused by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from host.importers.build_network import assemble
from host.importers.load_network import load_network
from host.importers.source_layers import ConvPart, JoinPart, Step
from host.importers.stored_tensor import StoredTensor
from nonzero.errors import UserError
from rtl.config import PRESETS
from tests.support.model_files import check, problems, write
from tests.support.packed_models import packed_error
from tests.support.torch_models import Behind, Branches, normalized

SHAPE = (3, 6, 5)
CONFIG = replace(PRESETS["conv"], acc_depth=512, program_depth=16384, act_table=True)


def conv(inputs=3, outputs=3, **options):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def norm(channels):
    return normalized(nn.BatchNorm2d(channels))


def cat(*values):
    return torch.cat(values, 1)


def dense(m, x):
    """Two layers of a DenseNet block."""
    y = m.s(x)
    z = cat(y, m.a(m.m(y).relu()))
    return m.last(cat(z, m.b(m.n(z).relu())).mean((2, 3)))


TWO = {"a": conv(), "b": conv(3, 4)}
JOINED = [("a", None, None), ("b", "", None)]
HEADS = {"a": nn.Linear(90, 5), "b": nn.Linear(90, 2)}
MODELS = {
    # name: the function, layers, (name, source, added) of each layer
    "convolution": (lambda m, x: m.c(cat(m.a(x).relu(), m.b(x).relu())), {**TWO, "c": conv(7, 2)},
                    [*JOINED, ("c[0]", "a", None), ("c", "b", "c[0]")]),
    "ReLU and pooling": (lambda m, x: m.c(functional.max_pool2d(cat(m.a(x), m.b(x)).relu(), 2).flatten(1)),
                         {**TWO, "c": nn.Linear(42, 3)}, [*JOINED, ("c[0]", "a", None), ("c", "b", "c[0]")]),
    "norm": (lambda m, x: m.n(m.c(cat(m.a(x).relu(), m.b(x).relu()))).relu(),
             {**TWO, "c": conv(7, 2), "n": norm(2)}, [*JOINED, ("c[0]", "a", None), ("c", "b", "c[0]")]),
    "dense block": (dense, {"s": conv(), "a": conv(3, 2), "b": conv(5, 2), "m": norm(3), "n": norm(5),
                            "last": nn.Linear(7, 3)}, None),
    "input": (lambda m, x: m.c(cat(x, m.a(x).relu())), {"a": conv(), "c": conv(6, 2)},
              [("a", None, None), ("c[0]", "", None), ("c", "a", "c[0]")]),
    "twice the same": (lambda m, x: (lambda y: m.c(cat(y, y)))(m.a(x).relu()), {"a": conv(), "c": conv(6, 2)}, None),
    "flat": (lambda m, x: (lambda y: m.c(cat(m.a(y).relu(), m.b(y).tanh())))(x.flatten(1)),
             {"a": nn.Linear(90, 5), "b": nn.Linear(90, 4), "c": nn.Linear(9, 3)}, None),
    "depthwise": (lambda m, x: m.c(m.d(cat(m.a(x).relu(), m.b(x).relu())).relu()),
                  {**TWO, "d": conv(7, 14, groups=7), "c": conv(14, 2)},
                  [*JOINED, ("d[0]", "a", None), ("d[1]", "b", None), ("c[0]", "d[0]", None), ("c", "d[1]", "c[0]")]),
    "groups": (lambda m, x: m.c(cat(m.a(x).relu(), m.b(x).relu())), {"a": conv(), "b": conv(3, 5),
                                                                    "c": conv(8, 4, groups=2)}, None),
    "residual behind": (lambda m, x: (lambda y: (m.c(cat(m.a(y).relu(), m.b(y).relu())) + y).relu())(m.s(x).relu()),
                        {**TWO, "s": conv(), "c": conv(7, 3)}, None),
    "added": (lambda m, x: (cat(m.a(x), m.b(x)) + m.c(x)).relu(), {**TWO, "c": conv(3, 7)}, None),
    "sum of two": (lambda m, x: m.e((cat(m.a(x), m.b(x)) + cat(m.c(x), m.d(x))).relu()),
                   {**TWO, "c": conv(), "d": conv(3, 4), "e": conv(7, 2)}, None),
    "of joined values": (lambda m, x: m.d(cat(cat(m.a(x), m.b(x)).relu(), m.c(x))),
                         {**TWO, "c": conv(3, 2), "d": conv(9, 2)}, None),
    "constant": (lambda m, x: m.c(cat(m.a(x).relu(), m.b(x).relu()) * 0.5 + 0.25), {**TWO, "c": nn.Conv2d(7, 2, 3)},
                 [*JOINED, ("c[0]", "a", None), ("c", "b", "c[0]")]),
    "mean": (lambda m, x: m.c(functional.adaptive_avg_pool2d(cat(m.a(x).relu(), m.b(x)), 1).flatten(1)),
             {**TWO, "c": nn.Linear(7, 2)}, None),
    "zeros around": (lambda m, x: m.c(cat(functional.pad(m.a(x), (1, 1)), functional.pad(m.b(x), (1, 1)))),
                     {**TWO, "c": conv(7, 2)}, None),
    "zeros around, joined twice": (lambda m, x: (lambda y: m.c(cat(y, cat(functional.pad(m.b(x), (1, 1)), y))))(
        functional.pad(m.a(x), (1, 1))), {**TWO, "c": conv(10, 2)}, None),
    "zeros around all": (lambda m, x: functional.pad(cat(m.a(x), m.b(x).relu()), (1, 0, 0, 2)), TWO, None),
    "upsampled": (lambda m, x: m.c(functional.interpolate(cat(m.a(x), m.b(x)).relu(), scale_factor=2)),
                  {**TWO, "c": conv(7, 2)}, None),
    "upsampled and the other": (lambda m, x: m.c(cat(functional.interpolate(functional.max_pool2d(m.a(
        m.s(x).relu()), 2), scale_factor=2).relu(), m.b(m.s(x).relu()))),
        {**TWO, "s": nn.Conv2d(3, 3, (3, 2), padding=(1, 0)), "c": conv(7, 2)}, None),
    "transposed convolution": (lambda m, x: m.t(cat(m.a(x), m.b(x).relu())),
                               {**TWO, "t": nn.ConvTranspose2d(7, 2, 2, 2)}, None),
    "rows as columns": (lambda m, x: m.c(cat(m.a(x), m.b(x)).relu().transpose(2, 3)), {**TWO, "c": conv(7, 2)}, None),
    "other axes": (lambda m, x: m.c(cat(m.a(x), m.b(x)).relu().view(-1, 7, 5, 6)), {**TWO, "c": conv(7, 2)}, None),
    "channels and rows": (lambda m, x: m.c(cat(m.a(x), m.b(x)).relu().view(-1, 6, 7, 5)), {**TWO, "c": conv(6, 2)},
                          None),
    "vectors as a map": (lambda m, x: (lambda y: m.c(cat(m.a(y), m.b(y)).relu().view(-1, 7, 2, 3)))(x.flatten(1)),
                         {"a": nn.Linear(90, 24), "b": nn.Linear(90, 18), "c": conv(7, 2)}, None),
    "a layer's outputs as a map": (lambda m, x: (lambda y: m.c(m.d(cat(m.a(y).relu(), m.b(y))).view(-1, 3, 2, 2)))(
        x.flatten(1)), {"a": nn.Linear(90, 5), "b": nn.Linear(90, 4), "d": nn.Linear(9, 12), "c": conv()}, None),
    "output": (lambda m, x: cat(m.a(x), m.b(x).relu()), TWO,
               [*JOINED, ("outputs[0]", "a", None), ("outputs", "b", "outputs[0]")]),
    "outputs of one value": (lambda m, x: (lambda y: (m.a(y), m.b(y)))(m.s(x).relu().flatten(1)),
                             {**HEADS, "s": conv()}, [("s", None, None), ("a+b", None, None)]),
    "outputs of two values": (lambda m, x: (lambda y: (m.a(y), m.b(m.t(y).relu())))(m.s(x).relu().flatten(1)),
                              {"s": conv(), "a": nn.Linear(90, 5), "t": nn.Linear(90, 6), "b": nn.Linear(6, 2)},
                              [("s", None, None), ("a", None, None), ("t", "s", None), ("b", None, "a")]),
    "outputs, one with a function": (lambda m, x: (lambda y: (m.b(y).sigmoid(), m.a(y)))(m.s(x).relu().flatten(1)),
                                     {**HEADS, "s": conv()}, None),
    "outputs that are maps": (lambda m, x: (lambda y: (m.a(y), m.b(y)))(m.s(x).relu()),
                              {"s": conv(), "a": conv(3, 5), "b": conv(3, 2)}, None),
}


def model_of(name):
    torch.manual_seed(0)
    function, layers, wanted = MODELS[name]
    model = Branches(function, **layers).eval()
    with torch.no_grad():
        for one in model.parameters():
            one.copy_(torch.rand_like(one) - 0.4)
    return model, wanted


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize("name", MODELS)
def test_joined_values_are_read(tmp_path, name, kind):
    model, wanted = model_of(name)
    network = load_network(write(tmp_path, kind, model, SHAPE))
    check(network, Behind(model), SHAPE)
    if wanted is not None and kind == "pt2":
        assert [(layer.name, layer.source, layer.added) for layer in network.layers] == wanted


ONE_AXIS = {
    "convolution": lambda m, x: m.b(cat(m.a(x).relu(), x)),
    "output": lambda m, x: cat(m.a(x), x),
    "permuted": lambda m, x: m.c(cat(x, m.a(x).tanh()).transpose(1, 2)),
    "mean": lambda m, x: m.d(cat(m.a(x).relu(), x).mean(2)),
    "a row more": lambda m, x: m.e(cat(m.a(x).relu(), x).unsqueeze(2)),
}


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize("name", ONE_AXIS)
def test_values_over_one_axis_are_joined(tmp_path, name, kind):
    torch.manual_seed(3)
    model = Branches(ONE_AXIS[name], a=nn.Conv1d(2, 4, 3, padding=1), b=nn.Conv1d(6, 2, 3), c=nn.Conv1d(12, 2, 1),
                     d=nn.Linear(6, 3), e=nn.Conv2d(6, 2, (1, 3))).eval()
    check(load_network(write(tmp_path, kind, model, (2, 12))), Behind(model), (2, 12))


@pytest.mark.parametrize("name", MODELS)
def test_an_image_holds_what_golden_computes(tmp_path, name):
    model, _ = model_of(name)
    config = replace(CONFIG, code_bits=8, direct_weights=True) if name != "dense block" else CONFIG
    assert packed_error(tmp_path, model, SHAPE, config) < (0.05 if config.direct_weights else 0.35)


def test_the_order_of_several_outputs_is_told(tmp_path):
    model, _ = model_of("outputs of two values")
    network = load_network(write(tmp_path, "pt2", model, SHAPE))
    assert network.assumptions == ("its 2 outputs 'linear', 'linear_2' are given one behind the other, in this order",)


JOINS = "only channels, or the values of flat vectors, are joined: use torch.cat(values, dim=1)"
CONSTANT = ("layer 'cat' joins values with some that do not depend on the input; give the layer that takes them a bias "
            "instead")
RELU = ("layer 'relu[1]' comes before the first linear layer or convolution; only torch.nn.Flatten, Dropout, Identity, "
        "padding, upsampling and pooling may: leave it out, and give the data as it comes out of it")
REFUSED = {
    "rows": (lambda m, x: m.a(torch.cat([m.a(x), m.a(x)], 2)), f"layer 'cat' joins values along axis 2; {JOINS}"),
    "a function of the input": (lambda m, x: m.d(cat(m.a(x), x).relu()), RELU),
    "a constant": (lambda m, x: m.c(cat(m.a(x), m.k.expand(3, 4, 6, 5))), CONSTANT),
}


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused(tmp_path, name):
    function, told = REFUSED[name]
    model = Branches(function, **TWO, c=conv(7, 2), d=conv(6, 2)).eval()
    model.register_buffer("k", torch.ones(1, 4, 1, 1))
    assert told in problems(write(tmp_path, "pt2", model, SHAPE))


def test_values_of_different_sizes_are_refused():
    """Torch exports none."""
    weight = StoredTensor((4, 3, 2, 2), 48, lambda: np.ones((4, 3, 2, 2), np.float32))
    steps = [Step(ConvPart("a", weight, None), ("",), "1"), Step(JoinPart("cat"), ("", "1"), "2")]
    with pytest.raises(UserError) as caught:
        assemble("a network", steps, SHAPE)
    assert caught.value.problems == [("layer 'cat' joins values of 3 x 6 x 5 and 4 x 5 x 4; only channels of maps of "
                                      "one size, or flat values, are joined")]
