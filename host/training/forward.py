# SPDX-License-Identifier: Apache-2.0
"""The layers of a network in torch: sums, activations, outputs, loss and error, for training and for testing."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from host.datasets import as_inputs
from host.network.graph import sources
from host.network.layers import Geometry, Network
from host.network.pad_images import pad_images
from host.training.metrics import error_percent, mean_squared_error
from rtl.numbers import Activation

__all__ = [
    "Layers", "TorchLayer", "activations", "complete", "error_of", "layer_sums", "logits", "loss_of",
    "outputs_of", "tensors", "weighted_sums",
]

FUNCTIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    Activation.IDENTITY: lambda sums: sums, Activation.RELU: functional.relu}
"""Each activation function, for tensors of sums."""


class TorchLayer(NamedTuple):
    """A layer in torch.

    Attributes
    ----------
    weight : tensor, shape ``[rows, cols]``
    bias : tensor, shape ``[rows]``
    activation : Activation
    geometry : Geometry or None
        Geometry of a convolution.
    source : int
        Number of the layer whose outputs it takes; -1 for the network's input.
    added : int or None
        Number of the layer whose outputs are added to its sums.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    activation: Activation
    geometry: Geometry | None
    source: int
    added: int | None = None


Layers = Sequence[TorchLayer]
"""The layers of a network, in the order of computation."""


def tensors(network: Network) -> list[TorchLayer]:
    """The layers of ``network`` as `logits` takes them; they share its memory."""
    return [TorchLayer(torch.from_numpy(layer.weight), torch.from_numpy(layer.bias), layer.activation, layer.geometry,
                       *wires) for layer, wires in zip(network.layers, sources(network.layers), strict=True)]


def weighted_sums(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor,
                  geometry: Geometry | None) -> torch.Tensor:
    """A layer's sums before its activation function: ``[n, rows]``, of a convolution ``[n, channels, height, width]``.

    Parameters
    ----------
    inputs : tensor, shape ``[n, inputs]``
        For a convolution, in the order channel, row, column.
    weight : tensor, shape ``[rows, cols]``
    bias : tensor, shape ``[rows]``
    geometry : Geometry or None
        Geometry of a convolution.
    """
    if geometry is None:
        return functional.linear(inputs, weight, bias)
    kernel = weight.view(len(weight), geometry.in_shape[0] // geometry.groups, *geometry.kernel)
    planes, padding = pad_images(inputs.view(len(inputs), *geometry.in_shape), geometry)
    # Channels last takes a third less time.
    return functional.conv2d(planes.contiguous(memory_format=torch.channels_last),
                             kernel.contiguous(memory_format=torch.channels_last), bias, geometry.stride,
                             padding, groups=geometry.groups)


def activations(sums: torch.Tensor, activation: Activation, geometry: Geometry | None) -> torch.Tensor:
    """Outputs ``[n, outputs]`` of a layer, after its activation function and max pooling.

    Parameters
    ----------
    sums : tensor
        Result of `weighted_sums`.
    activation : Activation
        The layer's.
    geometry : Geometry or None
        Geometry of a convolution, with its pooling.
    """
    outputs = FUNCTIONS[activation](sums)
    if geometry is not None and geometry.pool > 1:
        outputs = functional.max_pool2d(outputs, geometry.pool, geometry.pool_stride)
    return outputs.flatten(1)


def layer_sums(layer: TorchLayer, values: Sequence[torch.Tensor]) -> torch.Tensor:
    """A layer's sums, as `weighted_sums`, with what is added to them.

    Parameters
    ----------
    layer : TorchLayer
    values : sequence of tensor, shape ``[n, outputs]`` each
        The network's input, and the outputs of the layers before this one.
    """
    sums = weighted_sums(values[layer.source + 1], layer.weight, layer.bias, layer.geometry)
    return sums if layer.added is None else sums + values[layer.added + 1].view(sums.shape)


def logits(layers: Layers, inputs: torch.Tensor, dropout: Sequence[float] = (),
           generator: torch.Generator | None = None, hidden: list[torch.Tensor] | None = None) -> torch.Tensor:
    """Outputs ``[n, rows]`` of the last layer for inputs ``[n, cols]``.

    Parameters
    ----------
    layers : Layers
    inputs : float32 tensor, shape ``[n, cols]``
    dropout : sequence of float
        For each of the first layers the rate at which its outputs are dropped, at random from ``generator``.
    generator : torch.Generator, optional
        Torch's own by default.
    hidden : list, optional
        Takes up the outputs of each layer but the last.
    """
    values = [inputs]
    for layer, rate in zip(layers, itertools.chain(dropout, itertools.repeat(0.0)), strict=False):
        if hidden is not None and len(values) > 1:
            hidden.append(values[-1])
        outputs = activations(layer_sums(layer, values), layer.activation, layer.geometry)
        if rate:
            outputs = outputs * (torch.rand(outputs.shape, generator=generator) >= rate) / (1 - rate)
        values.append(outputs)
    return values[-1]


def complete(layers: Layers, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The network's input and the outputs of all layers, of which the first are given.

    Parameters
    ----------
    layers : Layers
    values : sequence of tensor, shape ``[n, outputs]`` each
        The network's input, and the outputs of the first layers.
    """
    found = list(values)
    for layer in layers[len(values) - 1:]:
        found.append(activations(layer_sums(layer, found), layer.activation, layer.geometry))
    return found


@torch.no_grad()
def outputs_of(forward: Callable[[torch.Tensor], torch.Tensor], images: np.ndarray) -> np.ndarray:
    """Outputs of a network for images, float32 ``[n, outputs]``.

    Parameters
    ----------
    forward : callable
        Maps float32 inputs ``[n, ...]`` to outputs ``[n, outputs]``.
    images : uint8 or float32 array, shape ``[n, ...]``
    """
    return np.concatenate([forward(torch.from_numpy(as_inputs(images[start:start + 4096]))).numpy()
                           for start in range(0, len(images), 4096)])


def error_of(forward: Callable[[torch.Tensor], torch.Tensor], images: np.ndarray, labels: np.ndarray) -> float:
    """Error by which training judges a network: of classes in percent, of targets the mean squared error.

    Parameters
    ----------
    forward : callable
        As of `outputs_of`.
    images : uint8 or float32 array, shape ``[n, ...]``
    labels : int64 array, shape ``[n]``, or float32 array, shape ``[n, outputs]``
        Classes, or targets.
    """
    outputs = outputs_of(forward, images)
    return mean_squared_error(outputs, labels) if labels.dtype.kind == "f" else error_percent(outputs, labels)


def loss_of(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss by which training corrects a network: of classes the cross-entropy, of targets the mean squared error.

    Parameters
    ----------
    outputs : float32 tensor, shape ``[n, outputs]``
    labels : int64 tensor, shape ``[n]``, or float32 tensor, shape ``[n, outputs]``
    """
    return functional.mse_loss(outputs, labels) if labels.is_floating_point() \
        else functional.cross_entropy(outputs, labels)
