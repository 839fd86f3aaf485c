# SPDX-License-Identifier: Apache-2.0
"""Models with branches that meet again in a sum: read as what torch computes, or refused by name."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from host.importers.fold_normalization import fold_normalization
from host.importers.load_network import load_network
from host.importers.safetensors_file import safetensors_file
from nonzero.errors import UserError
from rtl.config import PRESETS
from tests.support.model_files import check, refusal, write
from tests.support.packed_models import packed_error
from tests.support.torch_models import Branches, normalized

SHAPE = (3, 6, 5)


def conv(inputs=3, outputs=3, **options):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def blind(layer):
    """The layer, which does without its second input channel."""
    with torch.no_grad():
        layer.weight[:, 1] = 0
    return layer


torch.manual_seed(0)  # the layers are drawn here, whatever was imported before
MODELS = {
    # name: the function, layers, (name, source, added) of each layer
    "of the input": (lambda m, x: m.last((m.a(x) + x).relu().flatten(1)), {"a": conv(), "last": nn.Linear(90, 4)},
                     [("a", None, ""), ("last", None, None)]),
    "of an input that it does not weigh itself": (lambda m, x: (m.a(x) + x).relu(), {"a": blind(conv())},
                                                  [("a", None, "")]),
    "residual": (lambda m, x: (lambda y: m.c((m.b(y) + y).relu()))(m.a(x).relu()),
                 {"a": conv(), "b": conv(), "c": conv(3, 2)},
                 [("a", None, None), ("b", None, "a"), ("c", None, None)]),
    "norms before the sum": (lambda m, x: (lambda y: (m.n(m.b(y)) + y).relu())(m.m(m.a(x)).relu()),
                             {"a": conv(), "b": conv(), "m": normalized(nn.BatchNorm2d(3)),
                              "n": normalized(nn.BatchNorm2d(3))},
                             [("a", None, None), ("b", None, "a")]),
    "projected": (lambda m, x: (lambda y: (m.b(y) + m.s(y)).relu())(m.a(x).relu()),
                  {"a": conv(), "b": conv(3, 4, stride=2), "s": nn.Conv2d(3, 4, 1, stride=2)},
                  [("a", None, None), ("b", None, None), ("s", "a", "b")]),
    "sum of two activations": (lambda m, x: m.last((m.a(x).relu() + m.b(x).relu()).flatten(1)),
                               {"a": conv(), "b": conv(), "last": nn.Linear(90, 4)},
                               [("a", None, None), ("b", "", None), ("add", "a", "b"), ("last", None, None)]),
    "before its activation": (lambda m, x: (lambda y: m.b(y.relu()) + y)(m.a(x)), {"a": conv(), "b": conv()},
                              [("a", None, None), ("relu", None, None), ("b", None, "a")]),
    "pooled after the sum": (lambda m, x: functional.max_pool2d((m.a(x) + x).relu(), 2), {"a": conv()},
                             [("a", None, "")]),
    "three sums": (lambda m, x: (lambda y: (lambda z: m.d(z).relu() + z)((m.b(y) + y + m.c(y)).relu()))(m.a(x)),
                   {"a": conv(), "b": conv(), "c": conv(), "d": conv()}, None),
    "linear": (lambda m, x: m.c((lambda y: (m.b(y) + y).relu())(m.a(x.flatten(1)).relu())),
               {"a": nn.Linear(90, 7), "b": nn.Linear(7, 7), "c": nn.Linear(7, 3)},
               [("a", None, None), ("b", None, "a"), ("c", None, None)]),
    "a vector and a flattened map": (lambda m, x: m.c(x.flatten(1)) + m.a(x).flatten(1),
                                     {"a": conv(), "c": nn.Linear(90, 90)}, [("c", None, None), ("a", "", "c")]),
    "padded": (lambda m, x: m.b(functional.pad(x, (1, 1)) + functional.pad(m.a(x), (1, 1))),
               {"a": conv(), "b": conv()}, None),
    "difference": (lambda m, x: (lambda y: m.b((y - m.c(y)).relu()))(m.a(x).relu()),
                   {"a": conv(), "b": conv(), "c": conv()},
                   [("a", None, None), ("c", None, "a"), ("b", None, None)]),
    "difference of two activations": (lambda m, x: m.c((m.a(x).relu() - m.b(x).relu()).relu()),
                                      {"a": conv(), "b": conv(), "c": conv()}, None),
    "less itself": (lambda m, x: (lambda y: m.b(y) + (y - y))(m.a(x)), {"a": conv(), "b": conv()}, None),
    "doubled": (lambda m, x: (lambda y: m.b(y + y))(m.a(x)), {"a": conv(), "b": conv()},
                [("a", None, None), ("b", None, None)]),
    "flattened twice": (lambda m, x: (lambda y: m.c(y.flatten(1).relu()) + m.d(y.flatten(1)))(m.a(x)),
                        {"a": conv(), "c": nn.Linear(90, 4), "d": nn.Linear(90, 4)}, None),
    "the input flattened twice": (lambda m, x: m.c(x.flatten(1) * 3) + m.d(x.flatten(1)),
                                  {"c": nn.Linear(90, 4), "d": nn.Linear(90, 4)}, None),
    "the same layer twice": (lambda m, x: (lambda y: (m.a(y) + x).relu())(m.a(x).relu()), {"a": conv()},
                             [("a", None, None), ("a_2", None, "")]),
}


def model_of(name):
    torch.manual_seed(0)
    function, layers, wanted = MODELS[name]
    return Branches(function, **layers).eval(), wanted


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize("name", MODELS)
def test_branches_are_read(tmp_path, name, kind):
    model, wanted = model_of(name)
    network = load_network(write(tmp_path, kind, model, SHAPE))
    check(network, model, SHAPE)
    if wanted is not None and kind == "pt2":
        assert [(layer.name.split(".")[0], layer.source, layer.added) for layer in network.layers] == wanted


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_an_image_holds_what_golden_computes(tmp_path, name, direct):
    """Weights, sources and sums come back from the image, and every layer of it computes the same."""
    model, _ = model_of(name)
    weights = {"code_bits": 8, "direct_weights": True} if direct else {}
    config = replace(PRESETS["conv"], acc_depth=512, program_depth=4096, **weights)
    assert packed_error(tmp_path, model, SHAPE, config) < (0.05 if direct else 0.35)


TWO = "of those that take two, only sums, differences, products and concatenations run: retrain without it"
REFUSED = {
    "quotient": (lambda m, x: (lambda y: m.b(y / m.a(x)))(m.a(x)),
                 f"is torch.ops.aten.div.Tensor of several values; {TWO}"),
    "sizes": (lambda m, x: (lambda y: m.b(y + y.mean((2, 3), keepdim=True)))(m.a(x).relu()),
              "adds 3 x 1 x 1 values to 3 x 6 x 5; only values of one shape are added"),
    "flattened": (lambda m, x: m.a(x).flatten(1) + m.d(x).flatten(1),
                  "adds 90 values of a flattened map to others; add before it is flattened"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_branches_are_refused(tmp_path, name):
    function, problem = REFUSED[name]
    model = Branches(function, a=conv(), b=conv(), d=conv(3, 6, stride=(2, 1))).eval()
    told = refusal(write(tmp_path, "pt2", model, SHAPE))
    assert problem in told


def test_what_works_on_chains_says_so(tmp_path):
    network = load_network(write(tmp_path, "pt2", model_of("of the input")[0], SHAPE))
    with pytest.raises(UserError, match="its input goes to several layers, and a normalisation is folded into one"):
        fold_normalization(network, 0.5, 0.25)
    with pytest.raises(UserError, match="--save writes chains of layers, and this network has branches; leave it out"):
        safetensors_file(network)
