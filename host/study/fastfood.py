# SPDX-License-Identifier: Apache-2.0
"""Fastfood layers: a matrix made of diagonals, a permutation and Hadamard transforms.

Z. Yang et al., "Deep Fried Convnets", ICCV 2015, section 3: ``S H G P H B`` with the diagonals S, G and B learned.
"""

import math

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Fastfood", "fry"]


def _hadamard(bits: int) -> torch.Tensor:
    """The orthonormal Hadamard matrix of ``2**bits`` rows."""
    matrix = torch.ones(1, 1)
    for _ in range(bits):
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)]) / math.sqrt(2)
    return matrix


class Fastfood(nn.Module):
    """A replacement of ``nn.Linear(inputs, outputs)``: float32 ``[n, inputs]`` to ``[n, outputs]``.

    Inputs are padded with zeros to a power of two, d; for every d outputs there is one block of three diagonals.

    Attributes
    ----------
    sign, gauss, scale : float32, shape ``[blocks, d]``
        The diagonals B, G and S: random signs, normal values, and a constant that gives the outputs the variance
        of He's initialisation; all are trained.
    order : int64, shape ``[blocks, d]``
        The permutations P, which are not.
    bias : float32, shape ``[outputs]``
    """

    order: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        bits = max(1, (inputs - 1).bit_length())
        self.inputs, self.outputs, self.size = inputs, outputs, 1 << bits
        shape = (-(-outputs // self.size), self.size)
        self.sign = nn.Parameter(torch.randint(0, 2, shape) * 2.0 - 1)
        self.gauss = nn.Parameter(torch.randn(shape))
        self.scale = nn.Parameter(torch.full(shape, math.sqrt(2 * self.size / inputs)))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("order", torch.stack([torch.randperm(self.size) for _ in range(shape[0])]))
        # The transform of 2**(a + b) values is one of 2**a rows and one of 2**b columns: two small products.
        self.register_buffer("left", _hadamard(bits // 2), persistent=False)
        self.register_buffer("right", _hadamard(bits - bits // 2), persistent=False)

    def _transform(self, values: torch.Tensor) -> torch.Tensor:
        grid = values.unflatten(-1, (len(self.left), len(self.right)))
        return (self.left @ grid @ self.right).flatten(-2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        padded = functional.pad(inputs, (0, self.size - self.inputs)).unsqueeze(1)
        mixed = self._transform(padded * self.sign)
        mixed = mixed.gather(2, self.order.expand(len(inputs), -1, -1)) * self.gauss
        blocks = self._transform(mixed) * self.scale
        return blocks.flatten(1)[:, :self.outputs] + self.bias


def fry(model: nn.Module, count: int) -> nn.Module:
    """Puts new `Fastfood` layers in place of the first ``count`` fully connected ones of ``model``; returns it."""
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for name in linears[:count]:
        parent, _, child = name.rpartition(".")
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        setattr(model.get_submodule(parent), child, Fastfood(linear.in_features, linear.out_features))
    return model
