# SPDX-License-Identifier: Apache-2.0
"""Reads files of torch.save, in the current zip format and in the legacy format, without executing anything in them.

Every claim that a file makes about sizes is checked against the file before it is followed.
"""

import io
import mmap
import os
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from host.importers.stored_tensor import StoredTensor, decode, dtype_problem, shape_problem, view_problem
from nonzero.errors import UserError
from nonzero.safe_pickle import DamagedPickleError, Name, Persistent, Pickle, Record, read_pickle

PICKLE_LIMIT = 1 << 23
"""Greatest size of the pickle that describes the tensors, in bytes."""

ENTRIES_LIMIT = 20_000
"""Greatest number of files in a zip file; torch.save writes one for each tensor and a few more."""

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of a legacy file (torch.serialization.MAGIC_NUMBER)."""

EXPORT = 'program = torch.export.export(model.eval(), (example,)); torch.export.save(program, "model.pt2")'
"""Python code that saves a model's computation, whatever its class."""

SAVE_AGAIN = f"save the model again, as .pt2: {EXPORT}"

STORAGES = {
    "Half": ("float16", 2), "BFloat16": ("bfloat16", 2), "Float": ("float32", 4), "Double": ("float64", 8),
    "Long": ("int64", 8), "Int": ("int32", 4), "Short": ("int16", 2), "Char": ("int8", 1),
    "Byte": ("uint8", 1), "Bool": ("bool", 1), "ComplexFloat": ("complex64", 8),
    "ComplexDouble": ("complex128", 16),
}
"""Number format and bytes per value of the storage class ``torch.<key>Storage``."""

OTHER_TENSORS = {
    "torch._utils._rebuild_sparse_tensor": "is sparse; save it .to_dense(), the compiler skips zeros itself",
    "torch._utils._rebuild_meta_tensor_no_storage": "is on the device 'meta', without values; load them",
    "torch._utils._rebuild_qtensor": "is quantised; save the float weights, the compiler quantises by itself",
    "torch._utils._rebuild_tensor_v3": "has an unsupported number format; save it as float32",
    "torch._utils._rebuild_nested_tensor": "is a nested tensor; save a plain float32 tensor",
    "torch._utils._rebuild_wrapper_subclass": "is of a subclass of Tensor; save a plain float32 tensor",
    "torch._tensor._rebuild_from_type_v2": "is of a subclass of Tensor; save a plain float32 tensor",
}
"""Functions that rebuild unsupported tensors, and the message for the user."""

_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")

ZIP_START = b"PK\x03\x04"
_DIRECTORY_ENTRY = b"PK\x01\x02"

ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OverflowError, OSError,
              EOFError, struct.error)
"""All that zipfile raises for damaged files; RuntimeError stands for encryption, NotImplementedError for a compression
that it does not know."""

Fetch = Callable[[str, int], bytes]
"""Reads the storage with this key; raises if its size is not the given number of bytes."""


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a file of torch.save.

    Attributes
    ----------
    root : object
        The saved object; see `nonzero.safe_pickle.read_pickle` for the types in it.
    names : tuple of str
        All classes and functions that the file refers to, for instance ``torch.Size``.
    fetch : callable
        Reads a storage, as long as the file is open.
    """

    root: Any
    names: tuple[str, ...]
    fetch: Fetch

    def tensor(self, value: Any) -> StoredTensor | None:
        """``value``, a part of ``root``, as a tensor; None if it is something else."""
        for _ in range(2):  # a parameter may wrap a tensor, nothing wraps a parameter
            if type(value) is Record and value.name in _PARAMETERS and value.args:
                value = value.args[0]
        if type(value) is Record and value.name == "torch._utils._rebuild_tensor_v2":
            return self._dense(value.args)
        if type(value) is Record and value.name in OTHER_TENSORS:
            return StoredTensor((), problem=OTHER_TENSORS[value.name])
        return None

    def _dense(self, args: tuple) -> StoredTensor:
        """For torch._utils._rebuild_tensor_v2: storage, offset, size, stride, grad, hooks[, metadata]."""
        storage = _storage(args[0]) if len(args) >= 4 else None
        if storage is None or not all(map(_are_sizes, ((args[1],), args[2], args[3]))):
            return StoredTensor((), problem="is described in a garbled way")
        offset, shape, strides = args[1:4]
        problem = dtype_problem(storage.dtype) or shape_problem(shape)
        if len(args) > 6 and args[6]:
            problem = problem or "is a conjugate or negative view; save .resolve_neg()"
        problem = problem or view_problem(storage.values, offset, shape, strides)
        if problem:
            return StoredTensor(shape, problem=problem)

        def load() -> np.ndarray:
            flat = decode(self.fetch(storage.key, storage.values * storage.value_bytes), storage.dtype)
            byte_strides = [stride * flat.itemsize for stride in strides]
            return np.lib.stride_tricks.as_strided(flat[offset:], shape, byte_strides, writeable=False)
        return StoredTensor(shape, storage.values, load)


@dataclass(frozen=True)
class _Storage:
    dtype: str
    value_bytes: int
    key: str
    values: int


def _storage(reference: Any) -> _Storage | None:
    """Checks a storage reference: ("storage", class, key, device, values[, view]); None if garbled."""
    identity = reference.identity if type(reference) is Persistent else None
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[5:] not in ((), (None,)):
        return None
    tag, kind, key, _, values = identity[:5]
    if tag != "storage" or type(kind) is not Name or type(key) is not str or not _are_sizes((values,)):
        return None
    name = kind.text.removeprefix("torch.").removesuffix("Storage")
    return _Storage(*STORAGES.get(name, (name, 0)), key, values)


def _are_sizes(values: Any) -> bool:
    return (type(values) is tuple and len(values) <= 8
            and all(type(value) is int and 0 <= value < 1 << 48 for value in values))


def read_checkpoint(file: IO[bytes]) -> Checkpoint:
    """Describes the contents of a file of torch.save; ``file`` is open at its start and stays in use.

    Raises
    ------
    UserError
        For a file that is no such file, or damaged, or larger inside than outside.
    """
    start = file.read(512)
    file.seek(0)
    if start.startswith(ZIP_START):
        return _read_zip(file)
    if start[257:262] == b"ustar":
        raise UserError(f"it is in the tar format of PyTorch 0.1, which can hide code; {SAVE_AGAIN}")
    if start.startswith(b"\x80"):
        return _read_legacy(file)
    raise UserError("it is not a model file: it starts neither like a file of torch.save nor like a "
                    f"safetensors file; {SAVE_AGAIN}")


def _read_zip(file: IO[bytes]) -> Checkpoint:
    archive = open_zip(file)
    entries = {entry.filename: entry for entry in archive.infolist()}
    folders = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise UserError(f"it is a zip file, but not one of torch.save or torch.export.save; {SAVE_AGAIN}")

    def read(name: str, size: int) -> bytes:
        entry = entries.get(folders[0] + name)
        if entry is None or entry.file_size != size:
            raise UserError(f"its part {name[:40]!r} is missing or not {size:,} bytes long; {SAVE_AGAIN}")
        try:
            return archive.read(entry)
        except ZIP_ERRORS as error:
            raise UserError(f"its part {name[:40]!r} is damaged ({error}); {SAVE_AGAIN}") from None

    order = entries.get(folders[0] + "byteorder")
    if order and (order.file_size != 6 or read("byteorder", 6) != b"little"):
        raise UserError(f"it was written on a big-endian machine; there, {SAVE_AGAIN}")
    size = entries[folders[0] + "data.pkl"].file_size
    if size > PICKLE_LIMIT:
        raise UserError(f"its data.pkl has {size:,} bytes, more than {PICKLE_LIMIT:,}; {SAVE_AGAIN}")
    pickle = _read_pickle(io.BytesIO(read("data.pkl", size)))
    return Checkpoint(pickle.root, _names(pickle), lambda key, size: read(f"data/{key}", size))


def open_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """Opens the zip file ``file``, which must be a file of the operating system, since it is mapped into memory.

    Raises
    ------
    UserError
        For a damaged, compressed or TorchScript archive, too many entries, two entries of one name, or entries that
        claim to be larger than the file.
    """
    try:
        # Python reads the whole directory, at ten times its size: count its entries beforehand.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            position = -1
            for _ in range(ENTRIES_LIMIT):
                if (position := view.find(_DIRECTORY_ENTRY, position + 1)) < 0:
                    break
            else:
                raise UserError(f"it is a zip file with more than {ENTRIES_LIMIT:,} entries; {SAVE_AGAIN}")
        archive = zipfile.ZipFile(file)
    except ZIP_ERRORS as error:
        raise UserError(f"it is a damaged or cut-off zip file ({error}); {SAVE_AGAIN}") from None
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise UserError(f"it is a zip file with two entries named {twice[:80]!r}; {SAVE_AGAIN}")
    if any(name.endswith("/constants.pkl") for name in names):
        raise UserError(f"it is a TorchScript archive of torch.jit.save, which holds code; {SAVE_AGAIN}")
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size
           for entry in entries):
        raise UserError("it is a compressed zip file, which may grow without bound when read; torch.save never "
                        f"compresses: {SAVE_AGAIN}")
    if sum(entry.file_size for entry in entries) > os.fstat(file.fileno()).st_size:
        raise UserError(f"it is a zip file whose entries claim to be larger than the file; {SAVE_AGAIN}")
    return archive


def _read_legacy(file: IO[bytes]) -> Checkpoint:
    """Magic number, version, system, object, storage keys: five pickles; then the storages in that order."""
    head = io.BytesIO(file.read(PICKLE_LIMIT))
    if _read_pickle(head).root != LEGACY_MAGIC:
        raise UserError(f"it is a plain pickle, not a file of torch.save; {SAVE_AGAIN}")
    _read_pickle(head)
    system, pickle, keys = (_read_pickle(head) for _ in range(3))
    if type(system.root) is not dict or system.root.get("little_endian") is not True:
        raise UserError(f"it was written on a big-endian machine; there, {SAVE_AGAIN}")
    storages = {storage.key: storage for storage in map(_storage, pickle.persistents) if storage}
    size, position = os.fstat(file.fileno()).st_size, head.tell()
    positions: dict[str, tuple[int, int]] = {}
    for key in keys.root if type(keys.root) is list else []:
        if (storage := storages.get(key) if type(key) is str else None) is None or not storage.value_bytes:
            raise UserError(f"it holds tensors of an unknown kind; {SAVE_AGAIN}")
        file.seek(position)
        length = storage.values * storage.value_bytes
        if file.read(8) != storage.values.to_bytes(8, "little") or position + 8 + length > size:
            raise UserError(f"it is damaged or cut off: {length:,} bytes of values are missing; {SAVE_AGAIN}")
        positions[key] = position + 8, length
        position += 8 + length

    def fetch(key: str, length: int) -> bytes:
        if positions.get(key, (0, -1))[1] != length:
            raise UserError(f"it is damaged: the values {key[:40]!r} are missing; {SAVE_AGAIN}")
        file.seek(positions[key][0])
        return file.read(length)

    return Checkpoint(pickle.root, _names(pickle), fetch)


def _read_pickle(file: IO[bytes]) -> Pickle:
    try:
        return read_pickle(file)
    except DamagedPickleError as error:
        raise UserError(f"the description of its tensors cannot be read: {error}; {SAVE_AGAIN}") from None


def _names(pickle: Pickle) -> tuple[str, ...]:
    return tuple(sorted(set(pickle.names)))
