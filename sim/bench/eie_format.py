# SPDX-License-Identifier: Apache-2.0
"""EIE's own format (Han et al., ISCA 2016, section III), to compare sizes with."""

from dataclasses import dataclass

import numpy as np

__all__ = ["EieFormat", "encode_eie"]

INDEX_BITS = 4
POINTER_BITS = 16


@dataclass(frozen=True)
class EieFormat:
    """A matrix in interleaved compressed columns.

    Attributes
    ----------
    codes, zeros : uint8 arrays
        Entries by PE and column: weight code (0 for a padding zero) and zeros before it, of 4 bits.
    pointers : int64 array, shape ``[pes, cols + 1]``
        Place among all entries where each column of a PE begins; the last is where the PE's entries end.
    code_bits : int
    """

    codes: np.ndarray
    zeros: np.ndarray
    pointers: np.ndarray
    code_bits: int

    @property
    def bits(self) -> int:
        """Entries and pointers of 16 bits; neither unused ends of words nor codebook and biases count."""
        return len(self.codes) * (self.code_bits + INDEX_BITS) + self.pointers.size * POINTER_BITS


def encode_eie(codes: np.ndarray, pes: int, code_bits: int = 4) -> EieFormat:
    """Encodes weight codes; row ``r`` lives in PE ``r % pes``.

    More than 15 zeros before a weight take a padding zero for each 16 rows.

    Parameters
    ----------
    codes : uint8 array, shape ``[rows, cols]``
        Weight codes; 0 is no weight.
    pes : int
    code_bits : int
        Bits of a code.
    """
    cols = codes.shape[1]
    rows, at = np.nonzero(codes)
    number = rows % pes * cols + at
    order = np.argsort(number, kind="stable")
    number, place, found = number[order], rows[order] // pes, codes[rows[order], at[order]]
    first = np.diff(number, prepend=-1) != 0
    gap = place - np.where(first, 0, np.roll(place, 1) + 1)
    paddings = gap >> INDEX_BITS
    ends = np.cumsum(paddings + 1)
    total = int(ends[-1]) if len(ends) else 0
    entries, zeros = np.zeros(total, np.uint8), np.full(total, (1 << INDEX_BITS) - 1, np.uint8)
    entries[ends - 1] = found
    zeros[ends - 1] = gap & ((1 << INDEX_BITS) - 1)
    lengths = np.bincount(number, weights=paddings + 1, minlength=pes * cols).astype(np.int64)
    begins = np.concatenate([[0], np.cumsum(lengths)])
    pointers = begins[np.arange(pes)[:, None] * cols + np.arange(cols + 1)]
    return EieFormat(entries, zeros, pointers, code_bits)
