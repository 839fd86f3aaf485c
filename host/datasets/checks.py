# SPDX-License-Identifier: Apache-2.0
"""Checks arrays that are to be a dataset or inputs, and brings them into the form that torch wants."""

import numpy as np

from host.datasets.dataset import Dataset
from nonzero.errors import UserError

__all__ = ["checked_dataset", "image_problems", "stored"]


def checked_dataset(name: str, arrays: dict[str, np.ndarray]) -> Dataset:
    """The dataset of these arrays.

    Parameters
    ----------
    name : str
        The specification that they were loaded from.
    arrays : dict of array
        ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``; labels ``[n]`` or ``[n, 1]``.

    Raises
    ------
    UserError
        With all that is wrong with the arrays.
    """
    problems = []
    arrays |= {role: values[:, 0] for role, values in arrays.items()
               if role.endswith("labels") and values.ndim == 2 and values.shape[1] == 1}
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        problems += image_problems(f"dataset '{name}': {split} images", images)
        problems += _label_problems(f"dataset '{name}': {split} labels", labels)
        if images.ndim and labels.ndim and len(images) != len(labels):
            problems.append(f"dataset '{name}': {split} images and labels must be as many, not {len(images)} "
                            f"images and {len(labels)} labels")
    train_shape, test_shape = arrays["train_images"].shape[1:], arrays["test_images"].shape[1:]
    if train_shape != test_shape:
        problems.append(f"dataset '{name}': train and test images must have one shape, not "
                        f"{list(train_shape)} and {list(test_shape)}")
    if problems:
        raise UserError(problems)
    return Dataset(name, stored(arrays["train_images"]), arrays["train_labels"].astype(np.int64),
                   stored(arrays["test_images"]), arrays["test_labels"].astype(np.int64))


def stored(images: np.ndarray) -> np.ndarray:
    """The array ``images`` as a dataset has it: uint8 or float32, in C's order and writeable."""
    # A copy, since arrays read from files are read-only and torch wants them writable.
    return np.array(images, dtype=np.uint8 if images.dtype == np.uint8 else np.float32, order="C")


def image_problems(what: str, images: np.ndarray) -> list[str]:
    """Problems of an array that is to hold images: a sentence each, or an empty list.

    Parameters
    ----------
    what : str
        Name of the array in the sentences.
    images : array, shape ``[n, ...]``
        Must be uint8 or floating point, finite in float32, and not empty.
    """
    if images.ndim < 2 or images.size == 0:
        return [f"{what} must have the shape [count, values...] with nothing zero, not {list(images.shape)}"]
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        return [f"{what} must be uint8 or floating point, not {images.dtype}; convert them first"]
    if images.dtype.kind == "f":
        limit = np.finfo(np.float32).max
        wrong = images.size - np.count_nonzero(np.abs(images) <= limit)
        if wrong:
            return [f"{what} must be finite in float32, but {wrong} values are not; remove them"]
    return []


def _label_problems(what: str, labels: np.ndarray) -> list[str]:
    if labels.ndim != 1 or labels.size == 0:
        return [f"{what} must have the shape [count] with at least one label, or [count, 1], not {list(labels.shape)}"]
    if labels.dtype.kind not in "iu":
        return [(f"{what} must be integers, not {labels.dtype}; a network whose outputs are values is compiled without "
                 "labels: --no-prune --calib npy:FILE with inputs")]
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > 65535:
        return [f"{what} must be 0 to 65535, not {low if low < 0 else high}"]
    return []
