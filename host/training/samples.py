# SPDX-License-Identifier: Apache-2.0
"""Labelled images in random batches, and which of them are held out."""

from collections.abc import Iterator

import numpy as np
import torch

from host.datasets import Dataset
from host.training.augment import ALL, augmenter
from nonzero.errors import UserError

__all__ = ["Samples", "split"]

HELD_OUT = 1 / 12
"""Fraction of the training images that are held out: 5,000 of MNIST's 60,000."""


class Samples:
    """Labelled images in random batches.

    Parameters
    ----------
    images : uint8 or float32 array, shape ``[n, ...]``
    labels : int64 array, shape ``[n]``
    augment : float
        Strength of the random augmentation of every batch, 0 for none. Images whose axes do not allow it
        (`host.training.augment.augmenter`) stay as they are.
    augmentation : str
        How, one of `host.training.augment.AUGMENTATIONS`.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, *, augment: float,
                 augmentation: str = "deform") -> None:
        # uint8 images stay uint8: a float copy of MNIST would take 188 MB.
        self.images = torch.from_numpy(images.reshape(len(images), -1))
        self.labels = torch.from_numpy(labels)
        self.augmenter = augmenter(images, augmentation, augment)
        self.wanted: torch.Tensor | None = None

    def want(self, places: np.ndarray | None) -> None:
        """Yields only the inputs ``places`` of an image from now on; None for all."""
        self.wanted = None if places is None else torch.from_numpy(places)
        if self.augmenter:
            self.augmenter.want(self.wanted)

    def batch_count(self, batch: int) -> int:
        """Batches of ``batch`` images in an epoch, at least one."""
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
    """Splits the training images of ``dataset`` into those to train on and those held out.

    `HELD_OUT` is the share held out; each part has at least one.

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
