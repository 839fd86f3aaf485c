# SPDX-License-Identifier: Apache-2.0
"""Labelled images for training, pruning and testing, and bare inputs: MNIST from this package, or the user's files."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from host.datasets.checks import checked_dataset, image_problems, stored
from host.datasets.cifar10 import read_cifar10
from host.datasets.dataset import Dataset, as_inputs
from host.datasets.files import FileProblem, read_idx, read_npy, read_npz
from nonzero.errors import UserError

__all__ = ["INPUT_SPECS", "SPECS", "Dataset", "as_inputs", "load_dataset", "load_inputs"]

SPECS = "mnist, cifar10:PATH, idx:DIRECTORY, npz:FILE or PACKAGE.MODULE:FUNCTION"
"""Names that `load_dataset` takes, for messages and the commands' help."""

FUNCTION = re.compile(r"(?!(?:cifar10|idx|npz|npy):)[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")

INPUT_SPECS = "mnist, cifar10:PATH, idx:DIRECTORY, idx:FILE, npz:FILE or npy:FILE"
"""Names that `load_inputs` takes, for messages and the commands' help."""

REINSTALL = "reinstall the package"

MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "train-labels-idx1-ubyte.gz": "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte.gz": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}

IDX_STEMS = {
    "train_images": ("train-images-idx3-ubyte", "train-images.idx3-ubyte"),
    "train_labels": ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte"),
    "test_images": ("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"),
    "test_labels": ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte"),
}

NPZ_KEYS: dict[str, tuple[str, ...]] = {
    "train_images": ("train_images", "x_train"),
    "train_labels": ("train_labels", "y_train"),
    "test_images": ("test_images", "x_test"),
    "test_labels": ("test_labels", "y_test"),
}

NPZ_TARGETS = {"train_labels": "train_targets", "test_labels": "test_targets"}
"""Arrays that stand in the place of labels: values that the outputs should have."""

INPUT_KEYS = (*NPZ_KEYS["train_images"], "inputs", "images", "arr_0")
"""Names of bare inputs in an npz file; ``arr_0`` is what `numpy.savez` calls an array without a name."""


def load_dataset(spec: str) -> Dataset:
    """Loads a dataset.

    Parameters
    ----------
    spec : str
        ``mnist`` (in this package), ``cifar10:PATH`` (the published archive, or the directory of its files:
        `host.datasets.cifar10`), ``idx:DIRECTORY`` (four IDX files under their usual names, plain or
        ``.gz``) or ``npz:FILE`` (arrays ``train_images``, ``train_labels``, ``test_images``,
        ``test_labels``, or ``x_train``, ``y_train``, ``x_test``, ``y_test``; or ``train_targets`` and
        ``test_targets`` in the place of labels); or ``PACKAGE.MODULE:FUNCTION``, a
        function of the user's that returns loaders, which is imported and called: `host.datasets.loaders`.

    Raises
    ------
    UserError
        Naming every problem: missing or damaged files, impossible sizes, labels that do not fit the images.
    """
    kind, _, where = spec.partition(":")
    try:
        if spec == "mnist":
            arrays = _read_all(_mnist_readers())
        elif kind == "cifar10" and where:
            arrays = read_cifar10(Path(where))
        elif kind == "idx" and where:
            arrays = _read_all(_idx_readers(Path(where)))
        elif kind == "npz" and where:
            arrays = read_npz(Path(where), NPZ_KEYS, NPZ_TARGETS)
        elif FUNCTION.fullmatch(spec):
            from host.datasets.loaders import read_loaders  # imports torch, which takes seconds
            arrays = read_loaders(spec)
        else:
            raise UserError(f"dataset must be {SPECS}, not '{spec}'")
    except FileProblem as problem:
        raise UserError(problem.problems) from None
    dataset = checked_dataset(spec, arrays)
    return replace(dataset, augmentation="shift-flip") if kind == "cifar10" else dataset


def load_inputs(spec: str) -> np.ndarray:
    """Loads inputs without labels.

    Parameters
    ----------
    spec : str
        ``npy:FILE``; ``npz:FILE`` with an array of one of the names in `INPUT_KEYS`; ``idx:FILE``, an IDX file of
        images, plain or ``.gz``; ``idx:DIRECTORY``, where such a file has its usual name for training images; or
        ``mnist`` or ``cifar10:PATH``, the training images.

    Returns
    -------
    uint8 or float32 array, shape ``[n, ...]``
        At least one input; floats are finite.

    Raises
    ------
    UserError
        For a missing or damaged file, an impossible size, or an array that cannot be inputs.
    """
    kind, _, where = spec.partition(":")
    path, stems = Path(where), IDX_STEMS["train_images"]
    try:
        if spec == "mnist":
            images = _read_mnist(f"{stems[0]}.gz")
        elif kind == "idx" and where:
            images = _read_found(path, stems) if path.is_dir() else read_idx(path)
        elif kind == "npz" and where:
            images = read_npz(path, {"inputs": INPUT_KEYS})["inputs"]
        elif kind == "npy" and where:
            images = read_npy(path)
        elif kind == "cifar10" and where:
            images = read_cifar10(path)["train_images"]
        else:
            raise UserError(f"inputs must be {INPUT_SPECS}, not '{spec}'")
    except FileProblem as problem:
        raise UserError(problem.problems) from None
    if problems := image_problems(f"inputs '{spec}'", images):
        raise UserError(problems)
    return stored(images)


def _read_all(readers: dict[str, Callable[[], np.ndarray]]) -> dict[str, np.ndarray]:
    arrays, problems = {}, []
    for role, read in readers.items():
        try:
            arrays[role] = read()
        except FileProblem as problem:
            problems += problem.problems
    if problems:
        raise FileProblem(*problems)
    return arrays


def _mnist_readers() -> dict[str, Callable[[], np.ndarray]]:
    return {role: partial(_read_mnist, f"{stems[0]}.gz") for role, stems in IDX_STEMS.items()}


def _read_mnist(file: str) -> np.ndarray:
    path = Path(__file__).parent / file
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FileProblem(f"MNIST file '{path}' cannot be read ({error.strerror}); {REINSTALL}") from None
    if digest != MNIST_SHA256[file]:
        raise FileProblem(f"MNIST file '{path}' is damaged: its SHA-256 must be {MNIST_SHA256[file]}, "
                          f"not {digest}; {REINSTALL}")
    return read_idx(path)


def _idx_readers(directory: Path) -> dict[str, Callable[[], np.ndarray]]:
    return {role: partial(_read_found, directory, stems) for role, stems in IDX_STEMS.items()}


def _read_found(directory: Path, stems: tuple[str, ...]) -> np.ndarray:
    for stem in stems:
        for path in (directory / stem, directory / f"{stem}.gz"):
            if path.is_file():
                return read_idx(path)
    raise FileProblem(f"directory '{directory}' must hold '{stems[0]}' or '{stems[0]}.gz', but does not")
