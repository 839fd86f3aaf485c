# SPDX-License-Identifier: Apache-2.0
"""Activation functions that exporters write as several ONNX nodes: read as what they compute, or refused by name."""

import warnings

import numpy as np
import pytest
import torch
from onnx import helper, load
from torch import nn
from torch.nn import functional

from host.importers.load_network import load_network
from host.network.activations import gelu, hard_swish, silu
from tests.support.model_files import Own, check, onnx_file, problems

WRITTEN = {
    "gelu": (functional.gelu, gelu()), "gelu of tanh": (nn.GELU("tanh"), gelu(approximate=True)),
    "gelu of tanh by a power": (lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x ** 3))),
                                gelu(approximate=True)),
    "gelu by hand": (lambda x: x * (0.5 * (torch.erf(x * 0.70710678) + 1)), gelu()),
    "hard swish": (nn.Hardswish(), hard_swish()), "hard swish by relu6": (lambda x: x * functional.relu6(x + 3) / 6,
                                                                          hard_swish()),
    "hard swish by sixths": (lambda x: functional.relu6(x + 3) * (x / 6), hard_swish()), "silu": (nn.SiLU(), silu()),
}


def exported(directory, function, opset, model=None):
    """A file of operators of this set, and its model."""
    torch.manual_seed(4)
    model = model or Own(lambda net, x: net.b(function(net.a(x))), a=nn.Linear(6, 8), b=nn.Linear(8, 3))
    path = directory / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (torch.rand(3, 6),), str(path), dynamo=False, opset_version=opset)
    return path, model


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("name", WRITTEN)
def test_functions_of_several_nodes(tmp_path, name, opset):
    function, wanted = WRITTEN[name]
    path, model = exported(tmp_path, function, opset)
    network = check(load_network(path), model, (6,))
    assert network.layers[0].activation == wanted and len(network.layers) == 2
    if name == "gelu":
        assert "Erf" in {node.op_type for node in load(path).graph.node}


def test_two_functions_and_one_behind_a_sum(tmp_path):
    model = Own(lambda net, x: (lambda y: net.b(functional.gelu(y + net.c(y))))(functional.gelu(net.a(x))),
                a=nn.Linear(6, 8), b=nn.Linear(8, 3), c=nn.Linear(8, 8))
    path, model = exported(tmp_path, None, 13, model)
    assert [layer.activation for layer in check(load_network(path), model, (6,)).layers].count(gelu()) == 2


TWO = "of those that take two, only sums, differences, products and concatenations run: retrain without it"


@pytest.mark.parametrize(("function", "told"), [
    (lambda x: x / torch.sigmoid(1.702 * x), ["layer '/Div' is Div of several values; " + TWO]),
    (lambda x: x * (1 + torch.erf(x)), [
        "layer '/Erf' is the operation Erf, which the engine does not run; see the supported layers in the README"]),
])
def test_others_are_refused(tmp_path, function, told):
    path, _ = exported(tmp_path, function, 13)
    assert problems(path) == told


def nodes(*, inner=(), product="x"):
    made = [("Div", ["x", "root"], "d"), ("Erf", ["d"], "e"), ("Add", ["e", "one"], "s"), ("Mul", [product, "s"], "p"),
            ("Mul", ["p", "half"], "out")]
    return [helper.make_node("MatMul", ["in", "m"], ["x"]), *(helper.make_node(kind, taken, [gives])
                                                              for kind, taken, gives in made), *inner]


def gelu_file(directory, **options):
    rng = np.random.default_rng(0)
    constants = {"m": rng.normal(size=(6, 6)).astype(np.float32), **{
        name: np.array([value], np.float32) for name, value in (("root", 2 ** 0.5), ("one", 1), ("half", 0.5))}}
    output = options.pop("output", "out")
    return onnx_file(directory, nodes(**options), constants, output=output, opset=13), torch.from_numpy(constants["m"])


def test_a_value_inside_that_is_read_elsewhere_is_no_function(tmp_path):
    path, matrix = gelu_file(tmp_path)
    check(load_network(path), lambda inputs: functional.gelu(inputs @ matrix), (6,))
    path, _ = gelu_file(tmp_path, inner=[helper.make_node("Add", ["e", "out"], ["more"])], output="more")
    assert any("is the operation Erf" in one for one in problems(path))
    path, _ = gelu_file(tmp_path, output="s")
    assert any("is the operation Erf" in one for one in problems(path))
    path, _ = gelu_file(tmp_path, product="in")
    assert any("is the operation Erf" in one for one in problems(path))
