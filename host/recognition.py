# SPDX-License-Identifier: Apache-2.0
"""Recognises state dictionaries of the zoo's convolutional networks, which alone do not say how tensors are applied."""

from collections.abc import Mapping

import torch
from torch import nn

from host.parts import AdaptivePoolPart, ConvPart, FlattenPart, LinearPart, Part, PoolPart, ReluPart
from host.tensors import StoredTensor
from host.zoo import NETWORKS

__all__ = ["recognise"]


def recognise(tensors: Mapping[str, StoredTensor]) -> tuple[list[Part], tuple[int, ...]] | None:
    """The parts, and the shape of an input, of the convolutional network of the zoo that has tensors of these names and
    shapes, or had them before neurons and channels were removed; None if there is none."""
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    for network in NETWORKS.values():
        with torch.device("meta"):
            model = network()
        if _fits(shapes, {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}) \
                and any(isinstance(module, nn.Conv2d) for module in model.modules()):
            parts = [_part(name, module, tensors) for name, module in model.named_modules()
                     if not any(module.children())]
            return [part for part in parts if part], model.input_shape  # type: ignore[return-value]
    return None


def _fits(shapes: dict[str, tuple[int, ...]], whole: dict[str, tuple[int, ...]]) -> bool:
    """Whether tensors are those of a network, but for rows and columns that it has lost; kernels stay whole."""
    return shapes.keys() == whole.keys() and all(
        len(shape) == len(whole[key]) and shape[2:] == whole[key][2:]
        and all(left <= size for left, size in zip(shape, whole[key], strict=True)) for key, shape in shapes.items())


def _part(name: str, module: nn.Module, tensors: Mapping[str, StoredTensor]) -> Part | None:
    """A leaf of a zoo network, whose options are of these kinds alone."""
    weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
    if isinstance(module, nn.Linear):
        assert weight is not None
        return LinearPart(name, weight, bias)
    if isinstance(module, nn.Conv2d):
        assert weight is not None
        return ConvPart(name, weight, bias, _pair(module.stride), _pair(module.padding), _pair(module.dilation),
                        module.groups)
    if isinstance(module, nn.MaxPool2d):
        return PoolPart(name, "max", _pair(module.kernel_size), _pair(module.stride), _pair(module.padding))
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return AdaptivePoolPart(name, "average", _pair(module.output_size))
    if isinstance(module, nn.Flatten):
        return FlattenPart(name)
    if isinstance(module, nn.ReLU):
        return ReluPart(name)
    assert isinstance(module, nn.Dropout), name
    return None


def _pair(value: object) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else value
    assert isinstance(pair, tuple)
    return pair[0], pair[1]
