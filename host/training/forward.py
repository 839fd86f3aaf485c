# SPDX-License-Identifier: Apache-2.0
"""What training, retraining and fine-tuning share: samples, batches, the learning rate, the error."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional

from host.datasets import Dataset, as_inputs
from host.network.layers import Geometry, Network
from host.training.augment import ALL, Augmenter, image_plane
from nonzero.errors import UserError

__all__ = ["Layers", "Samples", "activations", "error_percent", "logits", "one_cycle", "settle_torch", "split",
           "tensors", "weighted_sums"]

HELD_OUT = 1 / 12
"""Fraction of the training images that nothing is trained on: 5,000 of MNIST's 60,000."""

Layers = Sequence[tuple[torch.Tensor, torch.Tensor, bool, Geometry | None]]
"""Weight ``[rows, cols]``, bias ``[rows]``, whether a ReLU follows, and a convolution's geometry, for each layer."""


def settle_torch() -> None:
    """Makes torch's results on this machine depend on nothing but the seed; sets its global state.

    One thread: sums are then always added in one order, networks this small hardly gain from a second one,
    and ``set_flush_denormal`` only reaches the thread that calls it. Without flushing, the optimiser's
    states of pixels that are never lit decay into denormals, and an epoch takes ten times as long.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


class Samples:
    """Labelled images in random batches.

    Parameters
    ----------
    images : uint8 or float32 array, shape ``[n, ...]``
    labels : int64 array, shape ``[n]``
    augment : float
        Strength of the random deformation of every batch, 0 for none. Images that are no planes
        (`host.training.augment.image_plane`) are never deformed.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, *, augment: float) -> None:
        # uint8 images stay uint8: a float copy of MNIST would take 188 MB.
        self.images = torch.from_numpy(images.reshape(len(images), -1))
        self.labels = torch.from_numpy(labels)
        plane = image_plane(images) if augment else None
        self.augmenter = Augmenter(*plane, augment) if plane else None
        self.wanted: torch.Tensor | None = None

    def want(self, places: np.ndarray | None) -> None:
        """From here on yields only these inputs of an image; None for all."""
        self.wanted = None if places is None else torch.from_numpy(places)
        if self.augmenter:
            self.augmenter.want(self.wanted)

    @classmethod
    def for_training(cls, dataset: Dataset, *, augment: float) -> "Samples":
        """Those that are not held out (`split`)."""
        (images, labels), _ = split(dataset)
        return cls(images, labels, augment=augment)

    def batch_count(self, batch: int) -> int:
        return max(1, len(self.images) // batch)

    def batches(self, batch: int, generator: torch.Generator,
                part: slice = ALL) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One epoch of inputs float32 ``[batch, inputs]`` and labels ``[batch]``; the rest is left out.

        With ``part`` only those images of each batch; ``generator`` gives the same batches whatever part that is.
        """
        order = torch.randperm(len(self.images), generator=generator)
        for chosen in order[:self.batch_count(batch) * batch].split(batch):
            inputs = self.images[chosen]
            inputs = inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs
            if self.augmenter:
                yield self.augmenter(inputs, generator, part), self.labels[chosen[part]]
            else:
                yield inputs[part] if self.wanted is None else inputs[part][:, self.wanted], self.labels[chosen[part]]


Labelled = tuple[np.ndarray, np.ndarray]
"""Images ``[n, ...]`` and their labels ``[n]``."""


def split(dataset: Dataset) -> tuple[Labelled, Labelled]:
    """Splits the training images into those to train on and those held out, `HELD_OUT` of them, at least one of each.

    The split depends on nothing but the number of images: training, pruning and weight sharing hold out the same
    ones, whatever their seed. Only the held-out ones end a phase or choose between recipes, never the test images.

    Raises `UserError` for a single training image.
    """
    if len(dataset.train_labels) < 2:
        raise UserError(f"dataset '{dataset.name}' must have at least 2 training images, one to train on and one to "
                        "judge by, not 1; give more, or use --no-prune")
    order = np.random.default_rng(0).permutation(len(dataset.train_labels))
    count = max(1, round(HELD_OUT * len(order)))
    train, held = np.sort(order[count:]), np.sort(order[:count])
    return ((dataset.train_images[train], dataset.train_labels[train]),
            (dataset.train_images[held], dataset.train_labels[held]))


def one_cycle(peak: float, progress: float, *, warm_up: float = 0.15) -> float:
    """Learning rate at ``progress`` (0 to 1): a cosine up from 4% to ``peak``, then one down to 0.

    L. Smith and N. Topin, "Super-convergence", arXiv 1708.07120.
    """
    if progress < warm_up:
        return peak * (0.52 - 0.48 * math.cos(math.pi * progress / warm_up))
    return peak * (0.5 + 0.5 * math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def tensors(network: Network) -> list[tuple[torch.Tensor, torch.Tensor, bool, Geometry | None]]:
    """The layers of a network as `logits` takes them; they share its memory."""
    return [(torch.from_numpy(layer.weight), torch.from_numpy(layer.bias), layer.relu, layer.geometry)
            for layer in network.layers]


def weighted_sums(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor,
                  geometry: Geometry | None) -> torch.Tensor:
    """A layer's sums before its ReLU: ``[n, rows]``, of a convolution ``[n, channels, height, width]``.

    Parameters
    ----------
    inputs : tensor, shape ``[n, inputs]``
        In the order channel, row, column for a convolution.
    """
    if geometry is None:
        return functional.linear(inputs, weight, bias)
    kernel = weight.view(len(weight), geometry.in_shape[0] // geometry.groups, *geometry.kernel)
    planes = inputs.view(len(inputs), *geometry.in_shape)
    # Channels last takes a third less time.
    return functional.conv2d(planes.contiguous(memory_format=torch.channels_last),
                             kernel.contiguous(memory_format=torch.channels_last), bias, geometry.stride,
                             geometry.padding, groups=geometry.groups)


def activations(sums: torch.Tensor, relu: bool, geometry: Geometry | None) -> torch.Tensor:
    """Outputs ``[n, outputs]`` of a layer from its `weighted_sums`, after ReLU and max pooling."""
    outputs = functional.relu(sums) if relu else sums
    if geometry is not None and geometry.pool > 1:
        outputs = functional.max_pool2d(outputs, geometry.pool, geometry.pool_stride)
    return outputs.flatten(1)


def logits(layers: Layers, inputs: torch.Tensor, dropout: Sequence[float] = (),
           generator: torch.Generator | None = None, hidden: list[torch.Tensor] | None = None) -> torch.Tensor:
    """Outputs ``[n, rows]`` of a chain of layers for inputs ``[n, cols]``.

    Parameters
    ----------
    dropout : sequence of float
        For each of the first layers the rate at which its outputs are dropped, at random from ``generator``.
    hidden : list, optional
        Takes up what goes into each layer but the first.
    """
    for number, (layer, rate) in enumerate(zip(layers, itertools.chain(dropout, itertools.repeat(0.0)), strict=False)):
        weight, bias, relu, geometry = layer
        if hidden is not None and number:
            hidden.append(inputs)
        inputs = activations(weighted_sums(inputs, weight, bias, geometry), relu, geometry)
        if rate:
            inputs = inputs * (torch.rand(inputs.shape, generator=generator) >= rate) / (1 - rate)
    return inputs


@torch.no_grad()
def error_percent(forward: Callable[[torch.Tensor], torch.Tensor],
                  images: np.ndarray, labels: np.ndarray) -> float:
    """Percentage of images whose greatest output is not their label; ``forward`` maps inputs to outputs."""
    wrong = 0
    for start in range(0, len(images), 4096):
        outputs = forward(torch.from_numpy(as_inputs(images[start:start + 4096])))
        wrong += int((outputs.argmax(1) != torch.from_numpy(labels[start:start + 4096])).sum())
    return 100 * wrong / len(images)
