# SPDX-License-Identifier: Apache-2.0
"""Images and labels, split into training and test."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from host.datasets.axes import fit_axes, flattened_note
from nonzero.errors import UserError

__all__ = ["Dataset", "as_inputs"]


@dataclass(frozen=True)
class Dataset:
    """Images and labels, split into training and test.

    Attributes
    ----------
    name : str
        The specification it was loaded from.
    train_images, test_images : uint8 or float32 array, shape ``[n, ...]``
        Images of one shape; floats are finite.
    train_labels, test_labels : int64 array, shape ``[n]``, or float32 array, shape ``[n, outputs]``
        Classes, from 0; or targets: the values that the outputs should have.
    notes : tuple of str
        Assumptions about the images, a sentence each, for the user.
    augmentation : str
        Random changes that leave an image's class as it is, one of `host.training.augment.AUGMENTATIONS`; whether
        there are any, and how strong they are, is for the training to say.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    notes: tuple[str, ...] = ()
    augmentation: str = "deform"

    @property
    def input_count(self) -> int:
        """Values in one image."""
        return int(np.prod(self.train_images.shape[1:]))

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width of an image; None if its axes do not tell. Two axes are those of one channel."""
        shape = self.train_images.shape[1:]
        return (1, *shape)[-3:] if len(shape) in (2, 3) else None

    @property
    def has_targets(self) -> bool:
        """Whether the labels are targets, not classes."""
        return self.train_labels.dtype.kind == "f"

    @property
    def class_count(self) -> int:
        """One more than the greatest label, if the labels are classes."""
        return int(max(self.train_labels.max(), self.test_labels.max())) + 1

    def fitted(self, axes: Sequence[int] | None) -> "Dataset":
        """The dataset with its images in the order in which a network with the input axes ``axes`` takes them.

        ``axes`` are sizes without the batch's; None if they are not known. Raises `UserError` for images of other axes:
        `host.datasets.axes`.
        """
        if axes is None:
            note = flattened_note(f"dataset '{self.name}'", self.train_images)
            return replace(self, notes=(*self.notes, note)) if note else self
        (train, note), (test, _) = (
            fit_axes(f"dataset '{self.name}'", images, axes, way_out="give images of these axes, channels first")
            for images in (self.train_images, self.test_images))
        return replace(self, train_images=train, test_images=test, notes=(*self.notes, note) if note else self.notes)

    def require(self, inputs: int, outputs: int) -> None:
        """Checks that a network can learn this data.

        Parameters
        ----------
        inputs : int
            Inputs of the network, which must be the values of an image.
        outputs : int
            Outputs of the network, at least the number of classes.

        Raises
        ------
        UserError
            With all that does not fit.
        """
        problems = []
        if self.input_count != inputs:
            problems.append(f"dataset '{self.name}' has {self.input_count} values for each image, but the "
                            f"network has {inputs} inputs; give a dataset whose images have {inputs} values")
        if self.has_targets and self.train_labels.shape[1] != outputs:
            problems.append(f"dataset '{self.name}' has {self.train_labels.shape[1]} targets for each image, but the "
                            f"network has {outputs} outputs; give a dataset with {outputs} targets")
        elif not self.has_targets and self.class_count > outputs:
            problems.append(f"dataset '{self.name}' has labels up to {self.class_count - 1}, but the network "
                            f"has only {outputs} outputs; give a dataset with labels below {outputs}")
        if problems:
            raise UserError(problems)

    def require_classes(self, what: str) -> None:
        """Raises `UserError` if the labels are targets; ``what`` needs classes."""
        if self.has_targets:
            raise UserError(f"{what} needs labels that are classes, but dataset '{self.name}' has targets; give labels")

    def require_targets(self, what: str) -> None:
        """Raises `UserError` if the labels are classes; ``what`` needs targets."""
        if not self.has_targets:
            raise UserError(f"{what} needs targets, but the labels of dataset '{self.name}' are classes; give an npz "
                            "file with train_targets and test_targets, float [n, outputs]")


def as_inputs(images: np.ndarray) -> np.ndarray:
    """Float inputs ``[n, inputs]``, float32, of ``images`` ``[n, ...]``: uint8 divided by 255, floats as they are."""
    flat = images.reshape(len(images), -1)
    return flat.astype(np.float32) / np.float32(255) if flat.dtype == np.uint8 else flat.astype(np.float32)
