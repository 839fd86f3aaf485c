# SPDX-License-Identifier: Apache-2.0
"""Checks arrays that are to be a dataset or inputs, and brings them into the form that torch wants."""

import numpy as np

from host.datasets.dataset import Dataset
from nonzero.errors import UserError

__all__ = ["checked_dataset", "image_problems", "stored", "target_problems"]


def checked_dataset(name: str, arrays: dict[str, np.ndarray]) -> Dataset:
    """The dataset of these arrays.

    Parameters
    ----------
    name : str
        The specification that they were loaded from.
    arrays : dict of array
        ``train_images`` and ``test_images``; with ``train_labels`` and ``test_labels``, ``[n]`` or ``[n, 1]``, or with
        ``train_targets`` and ``test_targets``, ``[n]`` or ``[n, ...]``.

    Raises
    ------
    UserError
        With all that is wrong with the arrays.
    """
    problems, labels, kinds = [], {}, []
    for split in ("train", "test"):
        images = arrays[f"{split}_images"]
        kind = "targets" if f"{split}_targets" in arrays else "labels"
        found = arrays[f"{split}_{kind}"]
        if kind == "labels" and found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        problems += image_problems(f"dataset '{name}': {split} images", images)
        problems += (target_problems if kind == "targets" else _label_problems)(f"dataset '{name}': {split} {kind}",
                                                                                found)
        if images.ndim and found.ndim and len(images) != len(found):
            problems.append(f"dataset '{name}': {split} images and {kind} must be as many, not {len(images)} "
                            f"images and {len(found)} {kind}")
        labels[split] = found
        kinds.append(kind)
    if kinds[0] != kinds[1]:
        problems.append(f"dataset '{name}': train and test must both have labels, or both targets, not {kinds[0]} and "
                        f"{kinds[1]}")
    pairs = [("images", arrays["train_images"], arrays["test_images"])]
    pairs += [("targets", labels["train"], labels["test"])] if kinds == ["targets", "targets"] else []
    for what, train, test in pairs:
        if train.shape[1:] != test.shape[1:]:
            problems.append(f"dataset '{name}': train and test {what} must have one shape, not "
                            f"{list(train.shape[1:])} and {list(test.shape[1:])}")
    if problems:
        raise UserError(problems)
    train, test = (one.astype(np.int64) if kind == "labels" else np.array(one.reshape(len(one), -1), np.float32)
                   for one, kind in zip(labels.values(), kinds, strict=True))
    return Dataset(name, stored(arrays["train_images"]), train, stored(arrays["test_images"]), test)


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
    return _not_finite(what, images)


def _not_finite(what: str, values: np.ndarray) -> list[str]:
    if values.dtype.kind != "f":
        return []
    wrong = values.size - np.count_nonzero(np.abs(values) <= np.finfo(np.float32).max)
    return [f"{what} must be finite in float32, but {wrong} values are not; remove them"] if wrong else []


def target_problems(what: str, targets: np.ndarray) -> list[str]:
    """Problems of an array that is to hold outputs or what they should be: a sentence each, or an empty list.

    Parameters
    ----------
    what : str
        Name of the array in the sentences.
    targets : array, shape ``[n]`` or ``[n, ...]``
        Must be numbers, finite in float32, and not empty.
    """
    if targets.ndim < 1 or targets.size == 0:
        return [(f"{what} must have the shape [count] or [count, values...] with nothing zero, not "
                 f"{list(targets.shape)}")]
    if targets.dtype.kind not in "iuf":
        return [f"{what} must be numbers, not {targets.dtype}; convert them first"]
    return _not_finite(what, targets)


def _label_problems(what: str, labels: np.ndarray) -> list[str]:
    if labels.ndim != 1 or labels.size == 0:
        return [f"{what} must have the shape [count] with at least one label, or [count, 1], not {list(labels.shape)}"]
    if labels.dtype.kind not in "iu":
        return [(f"{what} must be integers, not {labels.dtype}; if they are values that the outputs should have, call "
                 "them train_targets and test_targets in an npz file, or give them as [n, values] from loaders")]
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > 65535:
        return [f"{what} must be 0 to 65535, not {low if low < 0 else high}"]
    return []
