# SPDX-License-Identifier: Apache-2.0
"""Activation functions: their values, and what the compiler has to know of each."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from host.network.activate import activate
from host.network.activations import (
    apply,
    at_zero,
    clamp,
    elu,
    engine_activation,
    function_of,
    gelu,
    hard_sigmoid,
    hard_swish,
    is_monotone,
    joined_activations,
    leaky_relu,
    needs_table,
    sigmoid,
    silu,
    softplus,
    tanh,
    upper_bound,
)
from host.network.function import Function
from rtl.numbers import Activation

SUMS = np.linspace(-8, 8, 4001)

FUNCTIONS = {
    "relu6": (clamp(0, 6), nn.ReLU6()), "hardtanh": (clamp(-1, 1), nn.Hardtanh()),
    "clamp": (clamp(0.5, 2), lambda x: x.clamp(0.5, 2)), "clamp from below": (clamp(1, math.inf), lambda x: x.clamp(1)),
    "leaky relu": (leaky_relu(0.1), nn.LeakyReLU(0.1)), "falling": (leaky_relu(-0.5), nn.LeakyReLU(-0.5)),
    "sigmoid": (sigmoid(), nn.Sigmoid()), "tanh": (tanh(), nn.Tanh()),
    "hard sigmoid": (hard_sigmoid(), nn.Hardsigmoid()),
    "hard sigmoid of ONNX": (hard_sigmoid(0.2, 0.5), lambda x: (0.2 * x + 0.5).clamp(0, 1)),
    "hard swish": (hard_swish(), nn.Hardswish()), "silu": (silu(), nn.SiLU()), "gelu": (gelu(), nn.GELU()),
    "gelu tanh": (gelu(approximate=True), nn.GELU("tanh")), "elu": (elu(0.7), nn.ELU(0.7)),
    "softplus": (softplus(2, 10), nn.Softplus(2, 10)), "relu": (Activation.RELU, nn.ReLU()),
    "identity": (Activation.IDENTITY, nn.Identity()),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_values_are_those_of_torch(name):
    function, module = FUNCTIONS[name]
    expected = module(torch.from_numpy(SUMS)).numpy()
    np.testing.assert_allclose(activate(SUMS, function), expected, rtol=1e-12, atol=1e-15)
    assert np.array_equal(apply(torch.from_numpy(SUMS), function).numpy(), activate(SUMS, function))
    assert activate(SUMS.astype(np.float32), function).dtype == np.float32


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_said_of_a_function_is_true(name):
    function, _ = FUNCTIONS[name]
    values = activate(SUMS, function)
    assert function.signed == bool((values < 0).any())
    assert is_monotone(function) == bool((np.diff(values) >= 0).all())
    assert at_zero(function) == activate(np.zeros(1), function)[0]
    assert engine_activation(function) is (Activation.IDENTITY if function.signed else Activation.RELU)
    assert upper_bound(function) == (6 if name == "relu6" else math.inf)
    assert needs_table(function) == (name not in ("relu6", "relu", "identity"))


def test_torch_differentiates_through_them():
    for function, module in FUNCTIONS.values():
        sums = torch.linspace(-3.05, 3.05, 62, requires_grad=True)
        ours, = torch.autograd.grad(apply(sums, function).sum(), sums)
        theirs, = torch.autograd.grad(module(sums).sum(), sums)
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_what_is_a_relu_or_nothing_is_no_function():
    assert clamp(0, math.inf) is Activation.RELU and clamp(-math.inf, math.inf) is Activation.IDENTITY
    assert leaky_relu(0) is Activation.RELU and leaky_relu(1) is Activation.IDENTITY


def test_functions_of_functions():
    relu, identity = Activation.RELU, Activation.IDENTITY
    assert joined_activations(identity, tanh()) == tanh() == joined_activations(tanh(), identity)
    assert joined_activations(relu, relu) is relu and joined_activations(sigmoid(), relu) == sigmoid()
    assert joined_activations(relu, clamp(-1, 4)) == clamp(0, 4)
    assert joined_activations(relu, clamp(1, 4)) == clamp(1, 4)
    assert joined_activations(tanh(), relu) is None and joined_activations(relu, tanh()) is None
    for first, then in ((relu, clamp(-1, 4)), (relu, clamp(1, 4)), (sigmoid(), relu)):
        both = joined_activations(first, then)
        assert np.array_equal(activate(SUMS, both), activate(activate(SUMS, first), then))


def test_a_function_by_its_attributes():
    for function, _ in FUNCTIONS.values():
        if isinstance(function, Function):
            assert function_of(function.kind, function.parameters) == function
    assert leaky_relu(0.25).name == "leaky ReLU(0.25)" and gelu().name == "GELU"
    for kind, parameters in (("softmax", ()), ("tanh", (1.0,)), ("ELU", ()), ("ELU", (math.inf,)), ("ELU", (math.nan,)),
                             ("ELU", (1e7,))):
        with pytest.raises(ValueError, match="no activation function is called"):
            function_of(kind, parameters)
