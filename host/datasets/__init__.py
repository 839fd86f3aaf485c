# SPDX-License-Identifier: Apache-2.0
"""Labelled images for training, pruning and testing, and bare inputs: MNIST from this package, or the user's own."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from host.datasets.axes import fit_axes, flattened_note
from host.datasets.files import FileProblem, read_idx, read_npy, read_npz
from nonzero.errors import UserError

__all__ = ["SPECS", "Dataset", "load_dataset", "load_inputs"]

SPECS = "mnist, idx:DIRECTORY, npz:FILE or PACKAGE.MODULE:FUNCTION"
"""Names that `load_dataset` takes, for messages and the commands' help."""

FUNCTION = re.compile(r"(?!(?:idx|npz|npy):)[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")

INPUT_SPECS = "mnist, idx:DIRECTORY, idx:FILE, npz:FILE or npy:FILE"
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

INPUT_KEYS = (*NPZ_KEYS["train_images"], "inputs", "images", "arr_0")
"""Names of bare inputs in an npz file; ``arr_0`` is what `numpy.savez` calls an array without a name."""


@dataclass(frozen=True)
class Dataset:
    """Images and labels, split into training and test.

    Attributes
    ----------
    name : str
        The specification it was loaded from.
    train_images, test_images : uint8 or float32 array, shape ``[n, ...]``
        Images of one shape; floats are finite.
    train_labels, test_labels : int64 array, shape ``[n]``
        Classes, from 0.
    notes : tuple of str
        Assumptions about the images, a sentence each, for the user.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    notes: tuple[str, ...] = ()

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
    def class_count(self) -> int:
        """One more than the greatest label."""
        return int(max(self.train_labels.max(), self.test_labels.max())) + 1

    @property
    def train_inputs(self) -> np.ndarray:
        """The training images as a network sees them: float32 ``[n, inputs]``."""
        return as_inputs(self.train_images)

    @property
    def test_inputs(self) -> np.ndarray:
        """The test images as a network sees them: float32 ``[n, inputs]``."""
        return as_inputs(self.test_images)

    def fitted(self, axes: Sequence[int] | None) -> "Dataset":
        """The dataset with its images in the order in which a network of these input axes takes them.

        None for axes that are not known. Raises `UserError` for images of other axes: `host.datasets.axes`.
        """
        if axes is None:
            note = flattened_note(f"dataset '{self.name}'", self.train_images)
            return replace(self, notes=(*self.notes, note)) if note else self
        (train, note), (test, _) = (
            fit_axes(f"dataset '{self.name}'", images, axes, way_out="give images of these axes, channels first")
            for images in (self.train_images, self.test_images))
        return replace(self, train_images=train, test_images=test, notes=(*self.notes, note) if note else self.notes)

    def require(self, inputs: int, outputs: int) -> None:
        """Raises `UserError` unless a network of these sizes can learn this data."""
        problems = []
        if self.input_count != inputs:
            problems.append(f"dataset '{self.name}' has {self.input_count} values for each image, but the "
                            f"network has {inputs} inputs; give a dataset whose images have {inputs} values")
        if self.class_count > outputs:
            problems.append(f"dataset '{self.name}' has labels up to {self.class_count - 1}, but the network "
                            f"has only {outputs} outputs; give a dataset with labels below {outputs}")
        if problems:
            raise UserError(problems)


def as_inputs(images: np.ndarray) -> np.ndarray:
    """Float inputs ``[n, inputs]``, float32: uint8 images divided by 255, floats as they are."""
    flat = images.reshape(len(images), -1)
    return flat.astype(np.float32) / np.float32(255) if flat.dtype == np.uint8 else flat.astype(np.float32)


def load_dataset(spec: str) -> Dataset:
    """Loads a dataset.

    Parameters
    ----------
    spec : str
        ``mnist`` (in this package), ``idx:DIRECTORY`` (four IDX files under their usual names, plain or
        ``.gz``) or ``npz:FILE`` (arrays ``train_images``, ``train_labels``, ``test_images``,
        ``test_labels``, or ``x_train``, ``y_train``, ``x_test``, ``y_test``); or ``PACKAGE.MODULE:FUNCTION``, a
        function of the user's that returns loaders, which is imported and called: `host.datasets.loaders`.

    Raises
    ------
    UserError
        Naming every problem: missing or damaged files, impossible sizes, labels that do not fit the images.
    """
    kind, _, where = spec.partition(":")
    if spec == "mnist":
        arrays = _read_all(_mnist_readers())
    elif kind == "idx" and where:
        arrays = _read_all(_idx_readers(Path(where)))
    elif kind == "npz" and where:
        arrays = _read_npz(Path(where))
    elif FUNCTION.fullmatch(spec):
        from host.datasets.loaders import read_loaders  # imports torch, which takes seconds
        arrays = read_loaders(spec)
    else:
        raise UserError(f"dataset must be {SPECS}, not '{spec}'")
    return _checked(spec, arrays)


def load_inputs(spec: str) -> np.ndarray:
    """Loads inputs without labels.

    Parameters
    ----------
    spec : str
        ``npy:FILE``; ``npz:FILE`` with an array of one of the names in `INPUT_KEYS`; ``idx:FILE``, an IDX file of
        images, plain or ``.gz``; ``idx:DIRECTORY``, where such a file has its usual name for training images; or
        ``mnist``, the training images.

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
        else:
            raise UserError(f"inputs must be {INPUT_SPECS}, not '{spec}'")
    except FileProblem as problem:
        raise UserError(problem.problems) from None
    if problems := _image_problems(f"inputs '{spec}'", images):
        raise UserError(problems)
    return _stored(images)


def _read_all(readers: dict[str, Callable[[], np.ndarray]]) -> dict[str, np.ndarray]:
    arrays, problems = {}, []
    for role, read in readers.items():
        try:
            arrays[role] = read()
        except FileProblem as problem:
            problems.append(str(problem))
    if problems:
        raise UserError(problems)
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


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        return read_npz(path, NPZ_KEYS)
    except FileProblem as problem:
        raise UserError(problem.problems) from None


def _checked(name: str, arrays: dict[str, np.ndarray]) -> Dataset:
    problems = []
    arrays |= {role: values[:, 0] for role, values in arrays.items()
               if role.endswith("labels") and values.ndim == 2 and values.shape[1] == 1}
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        problems += _image_problems(f"dataset '{name}': {split} images", images)
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
    return Dataset(name, _stored(arrays["train_images"]), arrays["train_labels"].astype(np.int64),
                   _stored(arrays["test_images"]), arrays["test_labels"].astype(np.int64))


def _stored(images: np.ndarray) -> np.ndarray:
    # A copy, since arrays read from files are read-only and torch wants them writable.
    return np.array(images, dtype=np.uint8 if images.dtype == np.uint8 else np.float32, order="C")


def _image_problems(what: str, images: np.ndarray) -> list[str]:
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
