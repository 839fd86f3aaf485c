# SPDX-License-Identifier: Apache-2.0
"""Files in the formats of CIFAR-10, written byte by byte, with any claims about their size."""

import gzip
import struct
from pathlib import Path

import numpy as np

STEMS = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
COUNTS = (3, 1, 2, 4, 2, 5)
"""Images of each file."""


def images_of(number: int) -> np.ndarray:
    """The images of a file, uint8 ``[n, 3, 32, 32]``."""
    return np.random.default_rng(number).integers(0, 256, (COUNTS[number], 3, 32, 32), np.uint8)


def labels_of(number: int) -> list[int]:
    """The labels of a file."""
    return [(number + 3 * place) % 10 for place in range(COUNTS[number])]


def binary_files() -> dict[str, bytes]:
    """The six files of the binary version."""
    return {f"{stem}.bin": b"".join(bytes([label]) + image.tobytes() for label, image in
                                    zip(labels_of(number), images_of(number), strict=True))
            for number, stem in enumerate(STEMS)}


def python_files(**changed: bytes) -> dict[str, bytes]:
    """The six files of the python version; ``changed`` are arguments of `pickled` for the test batch."""
    files = {stem: pickled(images_of(number).tobytes(), labels_of(number)) for number, stem in enumerate(STEMS)}
    if changed:
        files["test_batch"] = pickled(images_of(5).tobytes(), labels_of(5), **changed)
    return files


def short(value: bytes) -> bytes:
    """The instruction by which Python 2 pushes a string."""
    return b"U" + bytes([len(value)]) + value


def pickled(data: bytes, labels: list[int], *, count: bytes = b"", dtype: bytes = b"u1", function: bytes = b"",
            order: bytes = b"\x89", label_code: bytes = b"", text: bytes = b"") -> bytes:
    """A file of the python version as cPickle of Python 2 writes it, protocol 2.

    The other arguments replace: the instruction of the number of images, the array's type and its function, the
    instruction that says whether it is in Fortran's order, those of the labels, and the one of the image's bytes.
    """
    count = count or b"M" + struct.pack("<H", len(data) // 3072)
    function = function or b"numpy.core.multiarray\n_reconstruct"
    label_code = label_code or b"]q\x05(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    text = text or b"T" + struct.pack("<i", len(data)) + data
    array = (b"c" + function + b"\nq\x07cnumpy\nndarray\nq\x08K\x00\x85" + short(b"b") + b"\x87Rq\x09(K\x01" + count
             + b"M\x00\x0c\x86cnumpy\ndtype\nq\x0a" + short(dtype) + b"K\x00K\x01\x87Rq\x0b(K\x03" + short(b"|")
             + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" + order + text + b"tb")
    names = b"]q\x0d(" + b"".join(short(b"image_s_%06d.png" % number) for number in range(len(labels))) + b"e"
    return (b"\x80\x02}q\x01(" + short(b"batch_label") + b"q\x02" + short(b"testing batch 1 of 1") + b"q\x03"
            + short(b"labels") + b"q\x04" + label_code + short(b"data") + b"q\x06" + array
            + short(b"filenames") + b"q\x0c" + names + b"u.")


def entry(name: str, content: bytes = b"", *, kind: bytes = b"0", size: int | None = None) -> bytes:
    """A tar entry; the header says ``size``."""
    length = len(content) if size is None else size
    header = bytearray(struct.pack("100s8s8s8s12s12s8s1s100s8s247x", name.encode(), b"0000644\0", b"0000001\0",
                                   b"0000001\0", b"%011o\0" % length, b"11146637560\0", b" " * 8, kind, b"",
                                   b"ustar  \0"))
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + bytes(-len(content) % 512)


def archive(files: dict[str, bytes], folder: str) -> bytes:
    """A tar archive like the published ones, not yet compressed: with its folder, and files that are no images."""
    entries = [entry(f"{folder}/", kind=b"5"), *(entry(f"{folder}/{name}", content) for name, content in
                                                 files.items()), entry(f"{folder}/readme.html", b"<html>" * 700)]
    return b"".join(entries) + bytes(1024)


def write_directory(path: Path, files: dict[str, bytes]) -> str:
    """Writes the files; returns what ``--data`` calls them."""
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return f"cifar10:{path}"


def write_archive(path: Path, content: bytes) -> str:
    """Writes an archive, compressed; returns what ``--data`` calls it."""
    path.write_bytes(gzip.compress(content, 1))
    return f"cifar10:{path}"
