# SPDX-License-Identifier: Apache-2.0
"""Activation functions in models of every kind: what is read computes what torch computes; others are refused."""

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn
from torch.nn import functional

from host.importers.load_network import load_network
from host.importers.safetensors_file import safetensors_file
from host.network.activations import hard_swish, silu
from rtl.numbers import Activation
from tests.support.model_files import Own, check, onnx_file, problems, write

MODULES = [nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.Hardtanh(-2, 1.5), nn.ReLU6(), nn.LeakyReLU(0.2), nn.PReLU(init=0.3),
           nn.ELU(0.7), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Hardswish(), nn.Hardsigmoid()]


def chain(last):
    """Every function between two linear layers, and the last one behind all."""
    torch.manual_seed(1)
    return nn.Sequential(*(module for function in (*MODULES, last) for module in (nn.Linear(6, 6), function)))


@pytest.mark.parametrize("kind", ["pt", "pt2", "onnx"])
def test_all_functions_of_a_chain(tmp_path, kind):
    # ONNX has no other softplus.
    model = chain(nn.Softplus() if kind == "onnx" else nn.Softplus(2, 10)).eval()
    network = check(load_network(write(tmp_path, kind, model, (6,))), model, (6,))
    names = [layer.activation.name for layer in network.layers]
    assert len(set(names)) == len(names) == len(MODULES) + 1 and network.layers[0].activation is Activation.RELU


FUNCTIONAL = {
    "clamp": lambda net, x: net.b(net.a(x).clamp(-0.5, 0.8)),
    "clamp min": lambda net, x: net.b(net.a(x).clamp_min(0.1)),
    "clamp max": lambda net, x: net.b(net.a(x).clamp(max=0.2)),
    "in place": lambda net, x: net.b(functional.leaky_relu_(functional.hardtanh_(net.a(x)), 0.1).sigmoid_()),
    "silu by hand": lambda net, x: net.b((lambda y: y * y.sigmoid())(net.a(x))),
    "hard swish by hand": lambda net, x: net.b((lambda y: functional.hardsigmoid(y) * y)(net.a(x))),
    "relu6": lambda net, x: net.b(functional.relu6(net.a(x))),
}


@pytest.mark.parametrize("name", FUNCTIONAL)
@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_functional_forms(tmp_path, kind, name):
    torch.manual_seed(2)
    model = Own(FUNCTIONAL[name], a=nn.Linear(6, 8), b=nn.Linear(8, 3)).eval()
    network = check(load_network(write(tmp_path, kind, model, (6,))), model, (6,))
    if "by hand" in name:
        assert [layer.activation for layer in network.layers] == [
            silu() if name == "silu by hand" else hard_swish(), Activation.IDENTITY]


def test_a_gate_that_is_used_twice_is_no_silu(tmp_path):
    model = Own(lambda net, x: (lambda y, gate: net.b(y * gate) + net.c(gate))(net.a(x), net.a(x).sigmoid()),
                a=nn.Linear(6, 8), b=nn.Linear(8, 3), c=nn.Linear(8, 3)).eval()
    network = check(load_network(write(tmp_path, "pt2", model, (6,))), model, (6,))
    assert silu() not in [layer.activation for layer in network.layers]


def test_a_description_keeps_the_functions(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(3, 2, 2), nn.MaxPool2d(2),
                          nn.Tanh(), nn.Flatten(), nn.Linear(8, 5), nn.Softplus(), nn.Linear(5, 4), Clamp()).eval()
    network = check(load_network(write(tmp_path, "pt2", model, (1, 12, 12))), model, (1, 12, 12))
    assert len(network.layers) == 4
    (tmp_path / "again.safetensors").write_bytes(safetensors_file(network))
    again = check(load_network(tmp_path / "again.safetensors"), model, (1, 12, 12))
    assert [(one.activation, one.geometry) for one in again.layers] == [
        (one.activation, one.geometry) for one in network.layers]


class Clamp(nn.Module):
    def forward(self, values):
        return values.clamp(max=0.3)


def test_pooling_and_functions_that_fall(tmp_path):
    """The engine pools behind the function: what pools first gets a layer of its own, if the order matters."""
    for function, layers in ((nn.SiLU(), 2), (nn.Tanh(), 1)):
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), function).eval()
        network = check(load_network(write(tmp_path, "pt2", model, (1, 9, 9))), model, (1, 9, 9))
        assert len(network.layers) == layers
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.SiLU(), nn.MaxPool2d(2)).eval()
    assert len(check(load_network(write(tmp_path, "pt2", model, (1, 9, 9))), model, (1, 9, 9)).layers) == 1


def test_a_function_of_a_function_is_a_layer_of_its_own(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.ReLU(), nn.ReLU6(), nn.Conv2d(3, 2, 2)).eval()
    network = check(load_network(write(tmp_path, "pt2", model, (1, 6, 6))), model, (1, 6, 6))
    assert len(network.layers) == 3


def test_padding_before_a_function_that_moves_zero_is_a_layer(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ZeroPad2d(1), nn.Sigmoid(), nn.Conv2d(2, 1, 3)).eval()
    assert len(check(load_network(write(tmp_path, "pt2", model, (1, 6, 6))), model, (1, 6, 6)).layers) == 3
    model[2] = nn.Tanh()
    assert len(check(load_network(write(tmp_path, "pt2", model, (1, 6, 6))), model, (1, 6, 6)).layers) == 2


REFUSED = {
    "selu": (torch.selu, ("is torch.ops.aten.selu.default, which the engine does not run; see the supported layers in "
                          "the README")),
    "empty clamp": (lambda x: x.clamp(2, 1), "is a clamp from 2 to 1, which gives one value only"),
    "softplus": (lambda x: functional.softplus(x, -1), "is a softplus with a beta of -1; use one above 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path, name):
    function, problem = REFUSED[name]
    model = Own(lambda net, x: function(net.a(x)), a=nn.Linear(6, 3))
    found = problems(write(tmp_path, "pt2", model.eval(), (6,)))
    assert len(found) == 1 and found[0].endswith(problem)


def test_slopes_of_several_channels_are_refused(tmp_path):
    model = nn.Sequential(nn.Linear(6, 3), nn.PReLU(3, 0.1)).eval()
    check(load_network(write(tmp_path, "pt2", model, (6,))), model, (6,))
    with torch.no_grad():
        model[1].weight[1] = 0.5
    for kind in ("pt", "pt2", "onnx"):
        found, = problems(write(tmp_path, kind, model, (6,)))
        assert found.endswith("is a PReLU of 3 slopes; only one for all channels runs: use torch.nn.PReLU()")


def linear_onnx(directory, node, constants=(), opset=20):
    """A file of this node behind a linear layer."""
    rng = np.random.default_rng(0)
    first = helper.make_node("Gemm", ["in", "w", "b"], ["y"], transB=1)
    return onnx_file(directory, [first, node], {
        "w": rng.normal(size=(4, 6)).astype(np.float32), "b": np.zeros(4, np.float32), **dict(constants)}, opset=opset)


ONNX = {
    "Gelu": ({"approximate": "tanh"}, nn.GELU("tanh")), "HardSwish": ({}, nn.Hardswish()),
    "HardSigmoid": ({}, lambda x: (0.2 * x + 0.5).clamp(0, 1)), "LeakyRelu": ({}, nn.LeakyReLU(0.01)),
    "Elu": ({}, nn.ELU()), "Softplus": ({}, nn.Softplus()),
}


@pytest.mark.parametrize("kind", ONNX)
def test_operators_of_onnx_by_their_defaults(tmp_path, kind):
    attributes, function = ONNX[kind]
    network = load_network(linear_onnx(tmp_path, helper.make_node(kind, ["y"], ["out"], **attributes)))
    weight = torch.from_numpy(network.layers[0].weight)
    check(network, lambda inputs: function(inputs @ weight.T), (6,))


def test_clips_of_old_and_of_computed_ends(tmp_path):
    network = load_network(linear_onnx(tmp_path, helper.make_node("Clip", ["y"], ["out"], min=-1.0, max=2.0), opset=9))
    weight = torch.from_numpy(network.layers[0].weight)
    check(network, lambda inputs: (inputs @ weight.T).clamp(-1, 2), (6,))
    computed = helper.make_node("Clip", ["y", "ends"], ["out"])
    assert problems(linear_onnx(tmp_path, computed, {"ends": np.zeros(2, np.float32)})) == [
        "layer 'Clip_1' is a clamp whose ends are computed; export it with fixed ones"]
