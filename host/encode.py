# SPDX-License-Identifier: Apache-2.0
"""Encodes a layer for the engine: rows to PEs, non-zero weights to entries, slices to lengths.

The form follows EIE (Han et al., ISCA 2016, section III): interleaved rows, compressed columns, relative row indices.
It differs in three points. Rows go to PEs by their work instead of round robin. A gap too long for the index takes
a skip entry (code 0), not a zero weight. Slices have lengths and no pointers, see `rtl.slices`.
"""

import heapq
from dataclasses import dataclass

import numpy as np

from rtl.config import EngineConfig
from rtl.layouts import long_slice

__all__ = ["Assignment", "EncodedPass", "assign_rows", "encode_pass", "pack_words"]


@dataclass(frozen=True)
class Assignment:
    """Where each row of a layer lives.

    Attributes
    ----------
    pe, slot : int64 arrays, shape ``[rows]``
        The row's PE, and its place among that PE's rows.
    pes : int
    """

    pe: np.ndarray
    slot: np.ndarray
    pes: int

    @property
    def words(self) -> int:
        """Activation words of the layer's output: rows of the PE that has most."""
        return int(self.slot.max(initial=-1)) + 1

    @property
    def position(self) -> np.ndarray:
        """Place of each row's activation in the output, int64 ``[rows]``: word times PEs plus lane."""
        return self.slot * self.pes + self.pe


def assign_rows(work: np.ndarray, pes: int) -> Assignment:
    """Shares rows out over PEs: the row with most work first, to the PE that has least (and still has a place).

    Every PE gets at most ``ceil(rows / pes)`` rows, so that the drain is no longer than it must be.

    Parameters
    ----------
    work : float array, shape ``[rows]``
        Expected useful multiplications of each row.
    """
    rows = len(work)
    places = -(-rows // pes)
    pe, slot = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    taken = [0] * pes
    loads = [(0.0, number) for number in range(pes)]
    for row in np.argsort(-work, kind="stable"):
        load, number = heapq.heappop(loads)
        pe[row], slot[row] = number, taken[number]
        taken[number] += 1
        if taken[number] < places:
            heapq.heappush(loads, (load + float(work[row]), number))
    return Assignment(pe, slot, pes)


@dataclass(frozen=True)
class EncodedPass:
    """The rows of a layer that the accumulators hold at once, encoded.

    Attributes
    ----------
    index_bits : int
        Width of the relative index.
    wide_lengths : bool
        Whether lengths take the double width.
    lengths : int64 array, shape ``[pes, cols]``
        Entries of each slice, skips and padding included.
    counts : int64 array, shape ``[pes, cols]``
        Useful entries of each slice.
    codes, indices : list of uint8 arrays, one for each PE
        The entries in the order of the entry memory.
    """

    index_bits: int
    wide_lengths: bool
    lengths: np.ndarray
    counts: np.ndarray
    codes: list[np.ndarray]
    indices: list[np.ndarray]

    @property
    def entries(self) -> int:
        return int(self.lengths.sum())

    @property
    def skips(self) -> int:
        """Entries that are no weight: skips and padding."""
        return self.entries - int(self.counts.sum())

    def entry_words(self, config: EngineConfig) -> int:
        """Words of entry memory, of the PE that has most."""
        return int(-(-self.lengths.sum(axis=1).max(initial=0) // config.entries_per_word))

    def slice_words(self, config: EngineConfig) -> int:
        """Words of slice memory of each PE."""
        return self.lengths.shape[1] // config.block_cols_of(self.wide_lengths)

    def storage_bits(self, config: EngineConfig) -> int:
        """Bits of entry and slice memory, over all PEs."""
        planes = config.plane_bits[:config.index_bits.index(self.index_bits) + 1]
        return config.pes * (self.entry_words(config) * sum(planes)
                             + self.slice_words(config) * config.slice_word_bits)


@dataclass(frozen=True)
class _Slices:
    """Non-zero weights in the order of the entry memory: by PE, column, slot."""

    pe: np.ndarray
    col: np.ndarray
    gap: np.ndarray
    code: np.ndarray
    counts: np.ndarray


def encode_pass(codes: np.ndarray, pe: np.ndarray, slot: np.ndarray, config: EngineConfig) -> EncodedPass | None:
    """Encodes with the index and length widths that take the least storage.

    Parameters
    ----------
    codes : uint8 array, shape ``[rows, cols]``
        Columns in the order of the activation memory, a whole number of words of them.
    pe, slot : int64 arrays, shape ``[rows]``
        Where each row lives; slots from 0 to ``acc_depth - 1``.

    Returns
    -------
    EncodedPass, or None if a slice is longer than any length can say.
    """
    slices = _slices(codes, pe, slot, config.pes)
    best: EncodedPass | None = None
    for index_bits in config.index_bits:
        skips = _skips(slices.gap, index_bits)
        lengths = slices.counts + _per_slice(slices, skips, config.pes, codes.shape[1])
        for wide in (False, True):
            length_bits = config.length_bits_of(wide)
            all_ones, longest = (1 << length_bits) - 1, long_slice(length_bits)
            if lengths.max(initial=0) > longest:
                continue
            padded = np.where(lengths >= all_ones, longest, lengths)
            candidate = EncodedPass(index_bits, wide, padded, slices.counts, [], [])
            if best is None or candidate.storage_bits(config) < best.storage_bits(config):
                best = candidate
    if best is None:
        return None
    return _with_entries(best, slices, config.pes)


def _slices(codes: np.ndarray, pe: np.ndarray, slot: np.ndarray, pes: int) -> _Slices:
    rows, cols = np.nonzero(codes)
    order = np.lexsort((slot[rows], cols, pe[rows]))
    rows, cols = rows[order], cols[order]
    at_pe, at_slot = pe[rows], slot[rows]
    begins = np.ones(len(rows), bool)
    begins[1:] = (at_pe[1:] != at_pe[:-1]) | (cols[1:] != cols[:-1])
    gap = at_slot - np.where(begins, 0, np.roll(at_slot, 1) + 1)
    counts = np.bincount(at_pe * codes.shape[1] + cols, minlength=pes * codes.shape[1])
    return _Slices(at_pe, cols, gap, codes[rows, cols], counts.reshape(pes, -1))


def _skips(gap: np.ndarray, index_bits: int) -> np.ndarray:
    """Skip entries before each weight: each skips 1 to ``2**index_bits`` times ``2**index_bits`` rows."""
    return -(-(gap >> index_bits) >> index_bits)


def _per_slice(slices: _Slices, values: np.ndarray, pes: int, cols: int) -> np.ndarray:
    summed = np.bincount(slices.pe * cols + slices.col, weights=values, minlength=pes * cols)
    return summed.astype(np.int64).reshape(pes, cols)


def _with_entries(chosen: EncodedPass, slices: _Slices, pes: int) -> EncodedPass:
    """Fills in the entries: before each weight its skips, after a long slice its padding."""
    bits, cols = chosen.index_bits, chosen.lengths.shape[1]
    skips = _skips(slices.gap, bits)
    starts = np.concatenate([[0], np.cumsum(chosen.lengths.ravel())])
    slice_number = slices.pe * cols + slices.col
    # Entries of the slice up to and including each weight.
    until = np.cumsum(skips + 1)
    before_slice = np.concatenate([[0], until])[np.searchsorted(slice_number, slice_number)]
    place = starts[slice_number] + until - before_slice - 1
    codes, indices = np.zeros(starts[-1], np.uint8), np.zeros(starts[-1], np.uint8)
    codes[place] = slices.code
    indices[place] = slices.gap & ((1 << bits) - 1)
    # All skips before a weight but the last are as long as can be.
    remaining = slices.gap >> bits
    for number in range(int(skips.max(initial=0))):
        skipping = skips > number
        units = np.minimum(remaining[skipping], 1 << bits)
        indices[place[skipping] - skips[skipping] + number] = units - 1
        remaining[skipping] -= units
    ends = starts[cols::cols]
    split = [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    return EncodedPass(bits, chosen.wide_lengths, chosen.lengths, chosen.counts,
                       [codes[part] for part in split], [indices[part] for part in split])


def pack_words(values: np.ndarray, bits: int) -> np.ndarray:
    """Packs unsigned fields into memory words, the first in the least significant bits.

    ``[[1, 2, 3, 4]]`` of 4 bits becomes the word 0x4321, in bytes ``[[0x21, 0x43]]``.

    Parameters
    ----------
    values : integer array, shape ``[words, fields]``
    bits : int
        Width of a field.

    Returns
    -------
    uint8 array, shape ``[words, bytes]``: little-endian words, padded to whole bytes.
    """
    # Memory words can be wider than the integers: bits beyond those are zeros.
    spread = (values[:, :, None] >> np.minimum(np.arange(bits), 63)) & 1
    return np.packbits(spread.reshape(len(values), values.shape[1] * bits).astype(np.uint8), axis=1, bitorder="little")
