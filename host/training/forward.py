# SPDX-License-Identifier: Apache-2.0
"""The layers of a network in torch: sums, activations, outputs, loss and error, for training and for testing."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch.nn import functional

from host.datasets import as_inputs
from host.network.activations import apply
from host.network.function import AnyActivation
from host.network.graph import sources
from host.network.layers import Geometry, Network
from host.network.pad_images import pad_images
from host.training.metrics import error_percent, mean_squared_error

__all__ = [
    "Layers", "TorchLayer", "activations", "complete", "each_output", "ends_of", "error_of", "layer_outputs",
    "layer_sums", "logits", "loss_of", "outputs_of", "tensors", "weighted_sums",
]


class TorchLayer(NamedTuple):
    """A layer in torch.

    Attributes
    ----------
    weight : tensor, shape ``[rows, cols]``
    bias : tensor, shape ``[rows]``
    activation : AnyActivation
    geometry : Geometry or None
        Geometry of a convolution.
    source : int
        Number of the layer whose outputs it takes; -1 for the network's input.
    added : int or None
        Number of the layer whose outputs are added to its sums.
    scale, offset : tensor, shape ``[rows]``, or None
        What its outputs are multiplied by, and what is added then.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    activation: AnyActivation
    geometry: Geometry | None
    source: int
    added: int | None = None
    scale: torch.Tensor | None = None
    offset: torch.Tensor | None = None


Layers = Sequence[TorchLayer]
"""The layers of a network, in the order of computation."""


def tensors(network: Network) -> list[TorchLayer]:
    """The layers of ``network`` as `logits` takes them; they share its memory."""
    return [TorchLayer(torch.from_numpy(layer.weight), torch.from_numpy(layer.bias), layer.activation, layer.geometry,
                       *wires, *ends_of(layer))
            for layer, wires in zip(network.layers, sources(network.layers), strict=True)]


class _Scaled(Protocol):
    @property
    def output_scale(self) -> np.ndarray | None: ...

    @property
    def output_offset(self) -> np.ndarray | None: ...


def ends_of(layer: _Scaled) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Scale and offset of a `TorchLayer`, of a ``layer`` of a `Network`, or with shared weights."""
    if layer.output_scale is None or layer.output_offset is None:
        return None, None
    return torch.from_numpy(layer.output_scale), torch.from_numpy(layer.output_offset)


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


def activations(sums: torch.Tensor, activation: AnyActivation, geometry: Geometry | None) -> torch.Tensor:
    """Outputs ``[n, outputs]`` of a layer, after its activation function and max pooling.

    Parameters
    ----------
    sums : tensor
        Result of `weighted_sums`.
    activation : AnyActivation
        The layer's.
    geometry : Geometry or None
        Geometry of a convolution, with its pooling.
    """
    outputs = apply(sums, activation)
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


def layer_outputs(layer: TorchLayer, sums: torch.Tensor) -> torch.Tensor:
    """The outputs, ``[n, outputs]``, of a ``layer`` with these ``sums``, from `layer_sums`."""
    outputs = activations(sums, layer.activation, layer.geometry)
    if layer.scale is None or layer.offset is None:
        return outputs
    return outputs * each_output(layer.scale, outputs) + each_output(layer.offset, outputs)


def each_output(values: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """``values`` ``[rows]`` for each of a layer's ``outputs`` ``[n, outputs]``, row by row."""
    return values.repeat_interleave(outputs.shape[1] // len(values))


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
        outputs = layer_outputs(layer, layer_sums(layer, values))
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
        found.append(layer_outputs(layer, layer_sums(layer, found)))
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
