# SPDX-License-Identifier: Apache-2.0
"""Reads CIFAR-10 as it is published: the binary or the python version, as a directory or as the archive.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; the formats are described at
https://www.cs.toronto.edu/~kriz/cifar.html. Nothing is unpacked to disk, no pickle is run, and sizes are bounded before
memory is taken.
"""

import gzip
import io
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from host.datasets.files import FileProblem, open_file
from nonzero.safe_pickle import DamagedPickleError, Record, read_pickle

__all__ = ["read_cifar10"]

IMAGE_SHAPE = (3, 32, 32)
"""Red, green and blue, each 32 rows of 32 pixels."""

IMAGE_BYTES = 3 * 32 * 32
RECORD_BYTES = 1 + IMAGE_BYTES
"""A record of the binary version: the label, then the image."""

MOST_IMAGES = 10_000
"""Images in one file; the published files have that many."""

CLASSES = 10
MOST_PICKLE_BYTES = 32 << 20
"""A file of the python version; the published ones have 31 MB."""

MOST_ARCHIVE_BYTES = 256 << 20
"""An archive, unpacked; the published ones have 186 MB."""

MOST_ENTRIES = 1000
"""In an archive; the published ones have 9."""

STEMS = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
NAMES = {"cifar-10-batches-bin": tuple(f"{stem}.bin" for stem in STEMS), "cifar-10-batches-py": STEMS}
"""The files of the binary and of the python version, by the folder that they have in the archive."""

AGAIN = "take it from the archive again"
BLOCK = 512
"""Bytes of a tar file's unit."""

Part = tuple[np.ndarray, np.ndarray]
"""Images uint8 ``[n, 3, 32, 32]`` and labels uint8 ``[n]`` of one file."""


def read_cifar10(path: Path) -> dict[str, np.ndarray]:
    """Reads CIFAR-10, or a part of it: each of its six files may hold 1 to 10,000 images.

    Parameters
    ----------
    path : Path
        The directory of ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, or of the same without
        ``.bin``, which are pickles; or the archive of either, ``cifar-10-binary.tar.gz`` or
        ``cifar-10-python.tar.gz``. In a directory of both, the binary version counts.

    Returns
    -------
    dict
        ``train_images`` and ``test_images``, uint8 ``[n, 3, 32, 32]``; ``train_labels`` and ``test_labels``, uint8
        ``[n]``, 0 to 9.

    Raises
    ------
    FileProblem
        With the problems of all files.
    """
    found = _Found()
    try:
        if path.is_dir():
            _read_directory(path, found)
        else:
            _read_archive(path, found)
    except OSError as error:
        raise FileProblem(f"CIFAR-10 '{path}' cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error) as error:
        raise FileProblem(f"CIFAR-10 archive '{path}' is truncated or damaged: {error}; download it again") from None
    names = next((names for names in NAMES.values() if found.names.intersection(names)), ())
    if not names:
        raise FileProblem(f"'{path}' must hold '{STEMS[0]}.bin' to '{STEMS[-1]}.bin' of CIFAR-10, or the same without "
                          "'.bin', but holds none of them; give the archive as it was downloaded, or the directory of "
                          "these files")
    found.problems += [f"'{path}' must hold '{name}', but does not; {AGAIN}"
                       for name in names if name not in found.names]
    if found.problems:
        raise FileProblem(*found.problems)
    *train, test = (found.parts[name] for name in names)
    return {"train_images": np.concatenate([images for images, _ in train]),
            "train_labels": np.concatenate([labels for _, labels in train]),
            "test_images": test[0], "test_labels": test[1]}


class _Found:
    """Files of the dataset: the names of those that there are, their images and labels, and their problems."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.parts: dict[str, Part] = {}
        self.problems: list[str] = []

    def read(self, what: str, name: str, size: int, stream: IO[bytes] | gzip.GzipFile) -> None:
        """Reads the file ``name`` of ``size`` bytes, at which the stream stands; ``what`` is its name in errors."""
        try:
            if name in self.names:
                raise FileProblem(f"{what} must be there once, but is there twice; download the archive again")
            self.names.add(name)
            self.parts[name] = (_read_binary if name.endswith(".bin") else _read_python)(what, size, stream)
        except FileProblem as problem:
            self.problems += problem.problems


def _read_directory(path: Path, found: _Found) -> None:
    """Reads the files of the first version of which there is one."""
    there = next((some for names in NAMES.values() if (some := [one for one in names if (path / one).exists()])), [])
    for name in there:
        what = f"CIFAR-10 file '{path / name}'"
        try:
            with open_file(path / name) as stream:
                found.read(what, name, os.fstat(stream.fileno()).st_size, stream)
        except FileProblem as problem:
            found.problems += problem.problems
        except OSError as error:
            found.problems.append(f"{what} cannot be read: {error.strerror or error}")
        found.names.add(name)


def _read_archive(path: Path, found: _Found) -> None:
    """Reads the files of an archive; links and all else in it are passed over.

    Of the tar format (POSIX.1-2017, pax, "ustar Interchange Format") no more is read than these archives use. What
    would stretch a name or a size is one of the entries that are passed over.
    """
    with open_file(path) as packed, gzip.GzipFile(fileobj=packed) as stream:
        entries = 0
        while (header := stream.read(BLOCK)).strip(b"\0"):
            name, kind, size = _tar_entry(path, header)
            entries += 1
            if entries > MOST_ENTRIES:
                raise FileProblem(f"CIFAR-10 archive '{path}' must have at most {MOST_ENTRIES} entries, but has more; "
                                  "download it again")
            end = stream.tell() + -(-size // BLOCK) * BLOCK
            if end > MOST_ARCHIVE_BYTES:
                raise FileProblem(f"CIFAR-10 archive '{path}' must unpack to at most {MOST_ARCHIVE_BYTES} bytes, but "
                                  f"has {end} and more; download it again")
            folder, _, file = name.partition("/")
            if kind in (b"0", b"\0") and file in NAMES.get(folder, ()):
                found.read(f"'{name}' of CIFAR-10 archive '{path}'", file, size, stream)
            while (left := end - stream.tell()) > 0:
                if not stream.read(min(left, 1 << 20)):
                    raise EOFError("it ends within a file")


def _tar_entry(path: Path, header: bytes) -> tuple[str, bytes, int]:
    """Name, kind and size of an entry; the names that are wanted fit into the first field."""
    total, size = (re.fullmatch(rb" *([0-7]+)[ \0]*", header[place]) for place in (slice(148, 156), slice(124, 136)))
    if len(header) < BLOCK or not total or not size \
            or int(total[1], 8) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise FileProblem(f"CIFAR-10 archive '{path}' is damaged, or no tar archive in gzip; download it again")
    return header[:100].split(b"\0")[0].decode("latin-1"), header[156:157], int(size[1], 8)


def _read_binary(what: str, size: int, stream: IO[bytes] | gzip.GzipFile) -> Part:
    count, rest = divmod(size, RECORD_BYTES)
    if rest or not 1 <= count <= MOST_IMAGES:
        raise FileProblem(f"{what} must hold 1 to {MOST_IMAGES} records of {RECORD_BYTES} bytes, not {size} bytes; "
                          f"{AGAIN}")
    records = np.frombuffer(_read_whole(what, size, stream), np.uint8).reshape(count, RECORD_BYTES)
    return records[:, 1:].reshape(count, *IMAGE_SHAPE), _labels(what, records[:, 0].tolist())


def _read_python(what: str, size: int, stream: IO[bytes] | gzip.GzipFile) -> Part:
    """A dictionary with the images under ``data``, uint8 ``[n, 3072]``, and a list of labels under ``labels``."""
    if not 1 <= size <= MOST_PICKLE_BYTES:
        raise FileProblem(f"{what} must have 1 to {MOST_PICKLE_BYTES} bytes, not {size}; {AGAIN}")
    try:
        root = read_pickle(io.BytesIO(_read_whole(what, size, stream))).root
    except DamagedPickleError as error:
        raise FileProblem(f"{what} must be a pickle as it was published, but {error}; {AGAIN}") from None
    images, labels = (_array(root.get("data")), root.get("labels")) if type(root) is dict else (None, None)
    if images is None or type(labels) is not list or len(labels) != len(images):
        raise FileProblem(f"{what} must hold 'data', an array of 1 to {MOST_IMAGES} x {IMAGE_BYTES} bytes, and "
                          f"'labels', a list of as many, but does not; {AGAIN}, or give the binary version")
    return images.reshape(-1, *IMAGE_SHAPE), _labels(what, labels)


def _read_whole(what: str, size: int, stream: IO[bytes] | gzip.GzipFile) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise FileProblem(f"{what} must have {size} bytes, but has only {len(content)}; {AGAIN}")
    return content


def _array(value: Any) -> np.ndarray | None:
    """The array of bytes ``[n, 3072]`` that numpy of Python 2 has pickled; None for anything else."""
    match value:
        case Record("numpy.core.multiarray._reconstruct", _,
                    (1, (count, 3072), Record("numpy.dtype", ("u1", *_)), fortran, str(text))) if (
                type(count) is int and 1 <= count <= MOST_IMAGES and len(text) == count * IMAGE_BYTES):
            # Bytes of Python 2, which were read as Latin-1. A text of other characters is no image, whatever it gives.
            values = np.frombuffer(text.encode("latin-1", "replace"), np.uint8)
            return values.reshape(count, IMAGE_BYTES, order="F" if fortran else "C")
    return None


def _labels(what: str, labels: Sequence[Any]) -> np.ndarray:
    for number, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < CLASSES:
            shown = label if type(label) is int and abs(label) < 1 << 63 else "something else"
            raise FileProblem(f"{what} must have labels 0 to {CLASSES - 1}, but label {number} is {shown}; {AGAIN}")
    return np.array(labels, np.uint8)
