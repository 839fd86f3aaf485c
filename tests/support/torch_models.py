# SPDX-License-Identifier: Apache-2.0
"""Small models of torch, and whether the networks that are read of their files compute the same."""

from itertools import pairwise

import numpy as np
import torch
from torch import nn

from host.network.activate import activate
from host.network.layers import Network
from host.training.forward import logits, tensors


def trained(*layers: nn.Module) -> nn.Sequential:
    """A Sequential in inference mode, whose batch normalisations have seen data."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d) and module.running_mean is not None:
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.1)
                if module.affine:
                    module.weight.copy_(torch.randn(module.num_features, generator=generator))
                    module.bias.copy_(torch.randn(module.num_features, generator=generator))
    return model


def plain() -> nn.Sequential:
    """A Sequential of three linear layers with six inputs."""
    return trained(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def computed(network: Network, inputs: np.ndarray) -> np.ndarray:
    """The outputs of ``network``, in float64."""
    acts = inputs.astype(np.float64)
    for layer in network.layers:
        acts = acts @ layer.weight.T.astype(np.float64) + layer.bias
        acts = activate(acts, layer.activation)
    return acts


def assert_same(network: Network, model: nn.Module, inputs: int = 6) -> None:
    """Compares outputs of inputs from 0 to 1, in float64."""
    samples = np.random.default_rng(2).random((20, inputs), np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(samples)).numpy()
    np.testing.assert_allclose(computed(network, samples), expected, rtol=1e-4, atol=1e-5)


def mlp(*sizes):
    """Linear layers with a ReLU between, in a Sequential."""
    layers = []
    for size, following in pairwise(sizes):
        layers += [nn.Linear(size, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def prefixed(prefix, model):
    """The model's state dictionary with this before each key."""
    return {prefix + key: value for key, value in model.state_dict().items()}


def assert_computes(network, model, inputs=6):
    """Compares outputs of inputs around 0, in float32."""
    given = torch.rand(20, inputs, generator=torch.Generator().manual_seed(0)) - 0.5
    with torch.no_grad():
        assert torch.allclose(logits(tensors(network), given), model(given), atol=1e-5)


class Branches(nn.Module):
    """A model of one function of its layers."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function(self, x)


def normalized(norm, first=1.5):
    """The batch normalisation with random statistics and factors, of which the ``first`` is given."""
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    nn.init.uniform_(norm.weight, 0.2, 2)
    nn.init.normal_(norm.bias)
    with torch.no_grad():
        norm.weight[0] = first
    return norm


class Behind(nn.Module):
    """The outputs of a model one behind the other."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        outputs = self.model(inputs)
        return torch.cat([one.flatten(1) for one in outputs], 1) if isinstance(outputs, tuple) else outputs
