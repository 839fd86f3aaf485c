# SPDX-License-Identifier: Apache-2.0
"""Saliency of weights, and the choice of the weights with the greatest.

A saliency estimates how much the loss would rise without the weight. With a second derivative h of the loss by the
weight w, that is ``h * w**2 / 2``, for every other weight as it is:

- magnitude: h alike for all weights of a layer (Han et al., NIPS 2015, section 3);
- obd: h by passing second derivatives back through the layers (Y. LeCun, J. Denker, S. Solla, "Optimal Brain
  Damage", NIPS 1989, section 2.2);
- fisher: h as the mean square of the gradient (L. Theis et al., arXiv 1801.05787, section 2).
"""

import numpy as np
import torch
from torch.nn import functional

from host.datasets import as_inputs
from host.network.activations import apply
from host.network.function import AnyActivation
from host.network.layers import Geometry, Network
from host.network.pad_images import pad_images
from host.training.forward import activations, each_output, layer_outputs, layer_sums, tensors, weighted_sums

__all__ = ["CRITERIA", "choose", "saliencies"]

IMAGES = 10_000
"""More images than these hardly change the second derivatives."""

BATCH = 1000

CRITERIA = {"magnitude": "the weight's magnitude", "obd": "Optimal Brain Damage: diagonal second derivatives",
            "fisher": "diagonal of the empirical Fisher matrix"}
"""The criteria by name."""


def saliencies(criterion: str, network: Network, images: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """The saliency of every weight: for each layer float64 ``[rows, cols]``, 0 or more, 0 for a weight of 0.

    Parameters
    ----------
    criterion : str
        A name of `CRITERIA`.
    network : Network
        The network before the cut.
    images : array, shape ``[n, ...]``
        Training images; those after the first `IMAGES` are left out.
    labels : int64 array, shape ``[n]``, or float32 array, shape ``[n, outputs]``
        Classes, with the cross-entropy as loss, or targets, with the mean squared error.
    """
    magnitudes = [np.abs(layer.weight.astype(np.float64)) for layer in network.layers]
    if criterion == "magnitude":
        return magnitudes
    seconds = _second_derivatives(criterion, network, images[:IMAGES], labels[:IMAGES])
    return [second * magnitude ** 2 / 2 for second, magnitude in zip(seconds, magnitudes, strict=True)]


def _second_derivatives(criterion: str, network: Network, images: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Means over the images of the second derivative of the loss by each weight."""
    layers = tensors(network)
    sums = [torch.zeros_like(weight, dtype=torch.float64) for weight, *_ in layers]
    for start in range(0, len(images), BATCH):
        acts, places = [torch.from_numpy(as_inputs(images[start:start + BATCH]))], []
        for layer in layers:
            with torch.no_grad():
                places.append(layer_sums(layer, acts))
                acts.append(layer_outputs(layer, places[-1]))
        # Derivatives by the outputs of each layer; those of several readers add up.
        backs = [torch.zeros_like(values) for values in acts]
        backs[-1] = _by_outputs(criterion, acts[-1], torch.from_numpy(labels[start:start + BATCH]))
        for number in range(len(layers) - 1, -1, -1):
            weight, _, activation, geometry, source, added, scale, _ = layers[number]
            back = backs[number + 1]
            if scale is not None:
                each = each_output(scale, back)
                back = back * (each ** 2 if criterion == "obd" else each)
            taken, back = acts[source + 1], _through_activations(places[number], activation, geometry, back,
                                                                 second=criterion == "obd")
            if added is not None:
                backs[added + 1] += back.reshape(backs[added + 1].shape)
            if geometry is None:
                # A weight's derivative is that of its output times its input: squared, for second derivatives.
                squares = back if criterion == "obd" else back ** 2
                sums[number] += squares.T @ taken ** 2
                back = back @ (weight ** 2 if criterion == "obd" else weight)
            elif criterion == "obd":
                # LeCun et al., equation 5: the sum over a shared weight's connections of their second derivatives.
                by_weight, back = _through_convolution(taken ** 2, weight ** 2, geometry, back)
                sums[number] += by_weight
            else:
                sums[number] += _squared_gradients(taken, geometry, back)
                back = _through_convolution(taken, weight, geometry, back)[1]
            backs[source + 1] += back
    return [(total / len(images)).numpy() for total in sums]


def _by_outputs(criterion: str, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Derivatives of each image's loss by its outputs: the second ones for "obd", the first ones for "fisher"."""
    if labels.is_floating_point():
        return (torch.ones_like(outputs) if criterion == "obd" else outputs - labels) * (2 / outputs.shape[1])
    chances = torch.softmax(outputs, 1)
    if criterion == "obd":
        return chances * (1 - chances)
    return chances - functional.one_hot(labels, chances.shape[1])


def _through_activations(sums: torch.Tensor, activation: AnyActivation, geometry: Geometry | None,
                         back: torch.Tensor, *, second: bool) -> torch.Tensor:
    """Derivatives by a layer's sums from those by its outputs.

    The ``second`` ones are multiplied by the square of the function's derivative (LeCun et al., equation 6, without the
    term of the function's own second derivative).
    """
    sums = sums.requires_grad_()
    found = torch.autograd.grad(activations(sums, activation, geometry), sums, back)[0]
    return found * torch.autograd.grad(apply(sums, activation).sum(), sums)[0] if second else found


def _through_convolution(inputs: torch.Tensor, weight: torch.Tensor, geometry: Geometry,
                         back: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Derivatives by the weights, summed over the images, and by the inputs, from those by the sums."""
    inputs, weight = inputs.detach().requires_grad_(), weight.detach().requires_grad_()
    sums = weighted_sums(inputs, weight, torch.zeros(len(weight)), geometry)
    by_weight, by_inputs = torch.autograd.grad(sums, (weight, inputs), back)
    return by_weight, by_inputs


def _squared_gradients(inputs: torch.Tensor, geometry: Geometry, back: torch.Tensor) -> torch.Tensor:
    """Squares of each image's derivatives by a convolution's weights, summed over the images: ``[rows, cols]``."""
    total = torch.zeros(())
    for images, derivatives in zip(inputs.split(100), back.split(100), strict=True):
        planes, padding = pad_images(images.view(-1, *geometry.in_shape), geometry)
        patches = functional.unfold(planes, geometry.kernel, padding=padding, stride=geometry.stride)
        grouped = (len(images), geometry.groups, -1, patches.shape[-1])
        gradients = derivatives.reshape(grouped) @ patches.view(grouped).transpose(2, 3)
        total = total + gradients.square().sum(0)
    return total.flatten(0, 1)


def choose(saliency: list[np.ndarray], counts: list[int] | int) -> list[np.ndarray]:
    """Masks, bool ``[rows, cols]``, of the greatest saliencies.

    Among equal ones the later are kept, so that the choice is always the same.

    Parameters
    ----------
    saliency : list of float array, shape ``[rows, cols]``
        Saliency of each weight, an array for each layer.
    counts : list of int, or int
        How many weights each layer keeps, or how many all layers together.
    """
    if isinstance(counts, int):
        chosen = _greatest(np.concatenate([layer.ravel() for layer in saliency]), counts)
        ends = np.cumsum([layer.size for layer in saliency])[:-1]
        return [mask.reshape(layer.shape) for mask, layer in zip(np.split(chosen, ends), saliency, strict=True)]
    return [_greatest(layer.ravel(), count).reshape(layer.shape) for layer, count in zip(saliency, counts, strict=True)]


def _greatest(values: np.ndarray, count: int) -> np.ndarray:
    mask = np.ones(values.size, bool)
    mask[np.argsort(values, kind="stable")[:values.size - count]] = False
    return mask
