# SPDX-License-Identifier: Apache-2.0
"""Tensors of an ONNX file, stored in it or in a file beside it, as torch.onnx.export does by default.

The name of that file comes from the model: only a plain file in the model's own directory is opened, no link, and only
the bytes of the tensor are read.
"""

import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from host.importers.source_layers import shown
from host.importers.stored_tensor import FLOAT_BYTES, StoredTensor, TensorError, decode, dtype_problem, shape_problem

__all__ = ["stored_tensor"]

DTYPES = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
"""Values of onnx.TensorProto.DataType that weights can have."""

ONE_FILE = "save all in one file: onnx.save(onnx.load(path), new_path, save_as_external_data=False)"


def stored_tensor(stored: Any, folder: Path) -> StoredTensor:
    """An initialiser, which is read when it is needed.

    Parameters
    ----------
    stored : onnx.TensorProto
        The initialiser.
    folder : Path
        Directory of the model, for values in a file of their own.
    """
    from onnx import TensorProto, numpy_helper
    shape, dtype = tuple(stored.dims), DTYPES.get(stored.data_type, f"number {stored.data_type} of ONNX")
    if not all(0 <= size < 1 << 48 for size in shape):
        return StoredTensor((), problem="is described in a garbled way")
    if problem := dtype_problem(dtype) or shape_problem(shape):
        return StoredTensor(shape, problem=problem)
    if stored.data_location == TensorProto.EXTERNAL or stored.external_data:
        return _external(folder, {one.key: one.value for one in stored.external_data}, shape, dtype)
    count, held = math.prod(shape), len(stored.raw_data) // FLOAT_BYTES[dtype]
    given = held if stored.raw_data else len(stored.float_data) + len(stored.double_data) + len(stored.int32_data)
    if given != count or len(stored.raw_data) % FLOAT_BYTES[dtype]:
        return StoredTensor(shape, problem=f"claims {count:,} values, but the file holds {given:,} for it")

    def load() -> np.ndarray:
        values: np.ndarray = numpy_helper.to_array(stored)
        return values.astype(np.float32) if dtype == "bfloat16" else values
    return StoredTensor(shape, count, load)


def _external(folder: Path, entries: Mapping[str, str], shape: tuple[int, ...], dtype: str) -> StoredTensor:
    """The tensor of this shape and number format that is stored in a file of its own.

    ``entries`` give the file (``location``), ``offset`` and ``length`` in bytes; ``folder`` is the model's. If they are
    wrong, the tensor has a `problem`. The file is checked now and again when it is read.
    """
    location = entries.get("location", "")
    if location in ("", ".", "..") or any(one in "/\\\0" for one in location) or len(location) > 255:
        return StoredTensor(shape, problem=f"is said to lie in {shown(location)}, but only a file beside the model, "
                                           f"named without a directory, is read; {ONE_FILE}")
    size = math.prod(shape) * FLOAT_BYTES[dtype]
    numbers = entries.get("offset", "0"), entries.get("length", str(size))
    if not all(one.isascii() and one.isdigit() and len(one) < 19 for one in numbers):
        return StoredTensor(shape, problem="has a garbled place in the file beside the model")
    offset, length = map(int, numbers)
    if length != size:
        return StoredTensor(shape, problem=f"has {length:,} bytes in {shown(location)}, but its shape "
                                           f"{list(shape)} takes {size:,}")
    path = folder / location
    try:
        _opened(path, offset + size).close()
    except TensorError as error:
        return StoredTensor(shape, problem=str(error))

    def load() -> np.ndarray:
        with _opened(path, offset + size) as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) != size:
            raise TensorError(f"is cut off in {shown(location)}")
        return decode(data, dtype).reshape(shape)
    return StoredTensor(shape, math.prod(shape), load)


def _opened(path: Path, needed: int) -> IO[bytes]:
    """The file, to be closed; raises `TensorError` unless it is a plain file of at least ``needed`` bytes."""
    name = shown(path.name)
    try:
        # A pipe would block, a link could lead anywhere.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise TensorError(f"lies in {name}, which is not beside the model; copy it there, or {ONE_FILE}") from None
    except OSError as error:
        reason = "it is a link" if path.is_symlink() else error.strerror
        raise TensorError(f"lies in {name}, which cannot be opened: {reason}; copy the file itself there, or "
                          f"{ONE_FILE}") from None
    about = os.fstat(number)
    problem = "which is not a plain file with this name alone; copy the file itself there" \
        if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1 else \
        f"which has {about.st_size:,} bytes, but {needed:,} are needed; copy it whole, or export the model again" \
        if about.st_size < needed else ""
    if problem:
        os.close(number)
        raise TensorError(f"lies in {name}, {problem}")
    return os.fdopen(number, "rb")
