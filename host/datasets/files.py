# SPDX-License-Identifier: Apache-2.0
"""Reads IDX, npz and npy files that may be damaged or hostile: sizes are bounded before memory is taken."""

import gzip
import math
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

__all__ = ["MAX_BYTES", "FileProblem", "open_file", "read_idx", "read_npy", "read_npz"]

MAX_BYTES = 1 << 30
"""The most bytes that one array may take."""

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""Type byte of an IDX file; from http://yann.lecun.com/exdb/mnist, "The IDX file format"."""

MAX_DIMENSIONS = 8
MAX_HEADER = 4096
NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class FileProblem(Exception):
    """One or more problems of a file, in words for the user."""

    def __init__(self, *problems: str) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(problems))


def open_file(path: Path) -> IO[bytes]:
    """Opens the file ``path``. Raises `FileProblem` for a directory, a device or a pipe: reading these may never end.
    """
    if path.exists() and not path.is_file():
        raise FileProblem(f"'{path}' must be a file, but is a directory or a device")
    return open(path, "rb")


def read_idx(path: Path) -> np.ndarray:
    """Reads the array of the IDX file ``path``, decompressing a name in ``.gz``. Raises `FileProblem` for a bad file.

    The header is read first, and then no more than it promises, so a decompression bomb costs nothing.
    """
    try:
        with open_file(path) as plain:
            if path.suffix != ".gz":
                return _read_idx(path, plain)
            with gzip.GzipFile(fileobj=plain) as unpacked:
                return _read_idx(path, unpacked)
    except OSError as error:
        raise FileProblem(f"IDX file '{path}' cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error) as error:
        raise FileProblem(f"IDX file '{path}' is truncated or damaged: {error}") from None


def _read_idx(path: Path, file: IO[bytes] | gzip.GzipFile) -> np.ndarray:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or not 1 <= magic[3] <= 8:
        raise FileProblem(f"'{path}' is not an IDX file: it must start with 00 00, a type and 1 to 8 "
                          f"dimensions, not with {magic.hex(' ') or 'nothing'}")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise FileProblem(f"IDX file '{path}' is truncated: {magic[3]} dimensions take {4 * magic[3]} bytes, "
                          f"but it has {len(sizes)}")
    shape = [int(size) for size in np.frombuffer(sizes, ">u4")]
    dtype = np.dtype(IDX_TYPES[magic[2]])
    expected = _size(f"IDX file '{path}'", shape, dtype)
    data = file.read(expected + 1)
    if len(data) != expected:
        found = f"more than {expected}" if len(data) > expected else str(len(data))
        raise FileProblem(f"IDX file '{path}' must hold {expected} bytes for its shape {shape}, not {found}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _size(what: str, shape: Sequence[int], dtype: np.dtype) -> int:
    """Bytes of an array of this shape; raises `FileProblem` for one that is too large or that numpy cannot make."""
    # numpy counts an axis of length 0 as 1 when it looks whether an array is too large.
    if not all(type(size) is int and size >= 0 for size in shape) or len(shape) > MAX_DIMENSIONS \
            or math.prod(max(1, size) for size in shape) * dtype.itemsize > MAX_BYTES:
        raise FileProblem(f"{what} must take at most {MAX_BYTES} bytes, in at most {MAX_DIMENSIONS} dimensions, but "
                          f"its shape is {list(shape)}")
    return math.prod(shape) * dtype.itemsize


def read_npz(path: Path, keys: dict[str, tuple[str, ...]],
             instead: dict[str, str] | None = None) -> dict[str, np.ndarray]:
    """Reads one array for each role from an npz file.

    Parameters
    ----------
    path : Path
    keys : dict
        For each role the array names that can stand for it; the first one found counts.
    instead : dict, optional
        For some roles another role, which is read in its place if there is an array of that name.

    Raises
    ------
    FileProblem
        With all problems: the file cannot be read, is damaged, or lacks a role.
    """
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            return _read_members(path, archive, keys, instead or {})
    except OSError as error:
        raise FileProblem(f"npz file '{path}' cannot be read: {error.strerror or error}") from None
    except FileProblem:
        raise
    except Exception as error:  # zipfile and the decompressors raise whatever the damage leads to
        raise FileProblem(f"npz file '{path}' is damaged or no npz file: {error}") from None


def _read_members(path: Path, archive: zipfile.ZipFile, keys: dict[str, tuple[str, ...]],
                  instead: dict[str, str]) -> dict[str, np.ndarray]:
    members = {info.filename: info for info in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise FileProblem(f"npz file '{path}' must hold each array once, but holds one twice; save it again")
    arrays, problems = {}, []
    for role, names in keys.items():
        if role in instead and f"{instead[role]}.npy" in members:
            role, names = instead[role], (instead[role],)
        found = [name for name in names if f"{name}.npy" in members]
        if not found:
            wanted = " or ".join(f"'{name}'" for name in names)
            held = ", ".join(sorted(name.removesuffix(".npy") for name in members)[:20]) or "nothing"
            problems.append(f"npz file '{path}' must hold an array {wanted}, but holds {held}")
            continue
        try:
            with archive.open(members[f"{found[0]}.npy"]) as member:
                arrays[role] = _read_array(f"array '{found[0]}' of npz file '{path}'", member)
        except FileProblem as problem:
            problems += problem.problems
    if problems:
        raise FileProblem(*problems)
    return arrays


def read_npy(path: Path) -> np.ndarray:
    """Reads the array of the npy file ``path``. Raises `FileProblem` if it cannot be read or is damaged."""
    try:
        with open_file(path) as file:
            return _read_array(f"npy file '{path}'", file)
    except OSError as error:
        raise FileProblem(f"npy file '{path}' cannot be read: {error.strerror or error}") from None


def _read_array(what: str, member: IO[bytes]) -> np.ndarray:
    try:
        version = np.lib.format.read_magic(member)
        if version not in NPY_HEADERS:
            raise ValueError(f"version {version[0]}.{version[1]} instead of 1.0 or 2.0")
        with warnings.catch_warnings(action="error"):
            shape, fortran, dtype = NPY_HEADERS[version](member, max_header_size=MAX_HEADER)
    except Exception as error:  # numpy evaluates the header and raises whatever that happens to raise
        raise FileProblem(f"{what} has a damaged header: {error}") from None
    if dtype.hasobject or dtype.kind not in "biuf":
        raise FileProblem(f"{what} must hold numbers, not {dtype}; pickled objects are never loaded")
    expected = _size(what, shape, dtype)
    data = member.read(expected + 1)
    if len(data) != expected:
        raise FileProblem(f"{what} must hold {expected} bytes for its shape {list(shape)}, not "
                          f"{'more' if len(data) > expected else len(data)}")
    values = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return values.astype(dtype.newbyteorder("="), copy=False)
