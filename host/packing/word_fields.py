# SPDX-License-Identifier: Apache-2.0
"""Packs fields of one width into memory words."""

import numba
import numpy as np

__all__ = ["pack_words"]


def pack_words(values: np.ndarray, bits: int) -> np.ndarray:
    """Packs unsigned fields into memory words, the first in the least significant bits.

    ``[[1, 2, 3, 4]]`` of 4 bits becomes the word 0x4321, in bytes ``[[0x21, 0x43]]``.

    Parameters
    ----------
    values : integer array, shape ``[words, fields]``
    bits : int
        Width of a field; beyond 64 bits of a value there are zeros.

    Returns
    -------
    uint8 array, shape ``[words, bytes]``: little-endian words, padded to whole bytes.
    """
    return _packed(values.astype(np.uint64), bits)


# Compiled by Numba. Python's types are not what Numba sees, so it has none.
@numba.njit(cache=True)
def _packed(values, bits):  # type: ignore[no-untyped-def]
    words = np.zeros((values.shape[0], (values.shape[1] * bits + 7) // 8), np.uint8)
    for word in range(values.shape[0]):
        place = 0
        for field in range(values.shape[1]):
            rest = values[word, field]
            end = place + bits
            while place < end:
                step = min(end - place, 8 - place % 8)
                words[word, place // 8] |= np.uint8((rest & np.uint64((1 << step) - 1)) << np.uint64(place % 8))
                rest >>= np.uint64(step)
                place += step
    return words
