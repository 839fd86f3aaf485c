# SPDX-License-Identifier: Apache-2.0
"""Recognises state dictionaries of the zoo's convolutional networks, which alone do not say how tensors are applied."""

from collections.abc import Mapping

import torch
from torch import nn

from host.errors import UserError
from host.graph import Conv2d, Geometry, Linear, Network
from host.tensors import VALUES_LIMIT, StoredTensor, TensorError
from host.zoo import NETWORKS

__all__ = ["recognise"]


def recognise(name: str, tensors: Mapping[str, StoredTensor]) -> Network | None:
    """The network of the zoo with convolutions that has tensors of these names and shapes; None if there is none.

    Raises `UserError` with every tensor that cannot be read.
    """
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    for network in NETWORKS.values():
        with torch.device("meta"):
            model = network()
        if shapes == {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()} \
                and any(isinstance(module, nn.Conv2d) for module in model.children()):
            return Network(name, _layers(model, tensors))
    return None


def _layers(model: nn.Module, tensors: Mapping[str, StoredTensor]) -> tuple[Linear, ...]:
    if sum(tensor.values for tensor in tensors.values()) > VALUES_LIMIT:
        raise UserError(f"its tensors have more than {VALUES_LIMIT:,} values; the engine holds far fewer")
    arrays, problems = {}, []
    for key, tensor in tensors.items():
        try:
            arrays[key] = tensor.read()
        except TensorError as error:
            problems.append(f"its tensor '{key}' {error}")
    if problems:
        raise UserError(problems)
    layers: list[Linear] = []
    shape: tuple[int, ...] = model.input_shape  # type: ignore[assignment]
    modules = [*model.named_children(), ("", nn.Identity())]
    for number, (name, module) in enumerate(modules):
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        weight, bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
        relu = isinstance(modules[number + 1][1], nn.ReLU)
        if isinstance(module, nn.Linear):
            layers.append(Linear(name, weight, bias, relu))
            continue
        following = modules[number + 1 + relu][1]
        pool = following if isinstance(following, nn.MaxPool2d) else nn.MaxPool2d(1)
        assert isinstance(module.padding, tuple) and isinstance(pool.kernel_size, int) and isinstance(pool.stride, int)
        geometry = Geometry(shape, weight.shape[2:], module.stride, module.padding,  # type: ignore[arg-type]
                            module.groups, pool.kernel_size, pool.stride)
        layers.append(Conv2d(name, weight.reshape(len(weight), -1), bias, relu, geometry))
        shape = (len(weight), *geometry.out_shape)
    return tuple(layers)
