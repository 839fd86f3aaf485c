# SPDX-License-Identifier: Apache-2.0
"""Files of data, byte by byte, with any claims about their size."""

import struct

import numpy as np

from host.datasets.files import MAX_BYTES

TOO_LARGE = f"must take at most {MAX_BYTES} bytes, in at most 8 dimensions, but its shape is"


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file."""
    types = {"u1": 8, "i1": 9, "i4": 12, "f4": 13}
    header = bytes([0, 0, types[array.dtype.str[1:]], array.ndim])
    return (header + struct.pack(f">{array.ndim}I", *array.shape)
            + array.astype(array.dtype.newbyteorder(">")).tobytes())


def npy(shape: str, dtype: str = "'|u1'", data: bytes = b"") -> bytes:
    """An npy file whose header says so."""
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data
