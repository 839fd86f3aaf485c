# SPDX-License-Identifier: Apache-2.0
"""Labelled images from the user's own Python code, which the command line names as ``PACKAGE.MODULE:FUNCTION``."""

import importlib
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from nonzero.errors import UserError

__all__ = ["read_loaders"]

WANTED = "a pair of loaders, one of training and one of test batches"


def read_loaders(spec: str) -> dict[str, np.ndarray]:
    """Calls the function that ``spec`` names, as "module:function", and reads both of its loaders once, to the end.

    It returns two iterables, such as `torch.utils.data.DataLoader`: of training and of test batches. A batch is a pair
    of images ``[n, ...]`` and labels ``[n]`` or ``[n, 1]``, or targets, which are floats ``[n, ...]`` of two axes or
    more; as tensors or arrays. Torch's global generator has the same seed at every call, so that a loader that
    shuffles gives the images in the same order: which of them are held out depends on it.

    Returns
    -------
    dict
        ``train_images``, ``test_images``, and ``train_labels`` and ``test_labels``, or ``train_targets`` and
        ``test_targets``, not checked any further.

    Raises
    ------
    UserError
        For a module or function that is not there, whatever that code raises, and what is no pair of loaders.
    """
    module_name, _, name = spec.partition(":")
    what = f"dataset '{spec}'"
    module = _run(f"{what}: module '{module_name}' must be importable from here (or give mnist, cifar10:PATH, "
                  "idx:DIRECTORY or npz:FILE), but is not",
                  lambda: importlib.import_module(module_name))
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"{what}: module '{module_name}' has no function '{name}'; define one that returns {WANTED}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = _run(f"{what}: {name}() failed", function)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise UserError(f"{what}: {name}() must return {WANTED}, not {_kind(found)}")
        names = [f"{what}: the {split} loader" for split in ("training", "test")]
        train, test = (_run(f"{one} failed", partial(_joined, one, loader))
                       for one, loader in zip(names, found, strict=True))
    return {f"{split}_{kind}": array for split, (images, labels) in (("train", train), ("test", test))
            for kind, array in (("images", images), ("targets" if labels.ndim > 1 else "labels", labels))}


def _joined(what: str, loader: Any) -> tuple[np.ndarray, np.ndarray]:
    """The images and the labels of all batches."""
    if not hasattr(loader, "__iter__"):
        raise UserError(f"{what} must be an iterable of batches, not {_kind(loader)}")
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for number, batch in enumerate(loader, 1):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise UserError(f"{what} must give pairs of images and labels, but batch {number} is {_kind(batch)}")
        one, its_labels = map(_array, batch)
        are_targets = its_labels.dtype.kind == "f" and its_labels.ndim > 1 and its_labels.shape[:1] == one.shape[:1]
        if not one.ndim or not (are_targets or its_labels.shape in (one.shape[:1], (*one.shape[:1], 1))):
            raise UserError(f"{what} must give images [n, values...] and labels [n], but batch {number} has the shapes "
                            f"{list(one.shape)} and {list(its_labels.shape)}")
        if images and one.shape[1:] != images[0].shape[1:]:
            raise UserError(f"{what} must give images of one shape, but those of batch 1 have "
                            f"{list(images[0].shape[1:])} and those of batch {number} {list(one.shape[1:])}")
        images.append(one)
        labels.append(its_labels if are_targets else its_labels.reshape(-1))
    if not images:
        raise UserError(f"{what} must give at least one batch, but is empty")
    return np.concatenate(images), np.concatenate(labels)


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"a {name} of {len(value)}" if isinstance(value, tuple | list | dict) else f"a {name}"


def _run(what: str, call: Callable[[], Any]) -> Any:
    """The result of the user's code; where that raises, a `UserError` says so and where."""
    try:
        return call()
    except (UserError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        places = [f" ({frame.filename}, line {frame.lineno})" for frame in traceback.extract_tb(error.__traceback__)
                  if frame.filename not in (__file__, importlib.__file__) and not frame.filename.startswith("<frozen")]
        raise UserError(f"{what}: {type(error).__name__}: {error}{''.join(places[-1:])}") from None
