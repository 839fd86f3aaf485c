# SPDX-License-Identifier: Apache-2.0
"""Encodes a layer for the engine: non-zero weights to entries, slices to lengths.

The form follows EIE (Han et al., ISCA 2016, section III): interleaved rows, compressed columns, relative row indices.
A convolution is scattered: a column is an input channel, with its weights for each row (output channel) and tap.
It differs in three points. Rows go to PEs by their work instead of round robin (`host.packing.balance_rows`). A gap too
long for the index takes a skip entry (code 0), not a zero weight. Slices have lengths and no pointers, see
`rtl.engine.slices`.
"""

from dataclasses import dataclass, replace

import numba
import numpy as np

from host.packing.balance_rows import Assignment
from host.packing.conv_scans import Scan
from rtl.config import EngineConfig
from rtl.layouts import long_slice

__all__ = ["EncodedPass", "encode_pass"]


@dataclass(frozen=True)
class EncodedPass:
    """The encoded rows of a layer that the accumulators hold at once; of a convolution, with the taps of one scan only.

    Attributes
    ----------
    slots : range
        The rows, by their places in each PE.
    scan : Scan
    index_bits : int
        Width of the relative index.
    padding : int
        Entries that fill up long slices.
    lengths : int64 array, shape ``[pes, cols]``
        Entries of each slice, skips and padding included.
    counts : int64 array, shape ``[pes, cols]``
        Useful entries of each slice.
    codes, indices : list of uint8 arrays, one for each PE
        The entries in the order of the entry memory.
    added : int
        0, or the pass adds the outputs of another layer, each times this integer.
    """

    slots: range
    scan: Scan
    index_bits: int
    padding: int
    lengths: np.ndarray
    counts: np.ndarray
    codes: list[np.ndarray]
    indices: list[np.ndarray]
    added: int = 0

    @property
    def entries(self) -> int:
        return int(self.lengths.sum())

    @property
    def skips(self) -> int:
        """Entries that are no weight: skips and padding."""
        return self.entries - int(self.counts.sum())

    def entry_words(self, config: EngineConfig) -> int:
        """Words of entry memory that the PE with most entries needs, in an engine ``config``."""
        return int(-(-self.lengths.sum(axis=1).max(initial=0) // config.entries_per_word))

    def slice_words(self, config: EngineConfig) -> int:
        """Words of slice memory of each PE in an engine ``config``."""
        return self.lengths.shape[1] // config.block_cols

    def storage_bits(self, config: EngineConfig) -> int:
        """Bits of entry and slice memory in an engine ``config``, over all PEs."""
        planes = config.plane_bits[:config.index_bits.index(self.index_bits) + 1]
        return config.pes * (self.entry_words(config) * sum(planes)
                             + self.slice_words(config) * config.slice_word_bits)


@dataclass(frozen=True)
class _Slices:
    """Non-zero weights in the order of the entry memory: by PE, column, slot, tap.

    Attributes
    ----------
    gaps : uint16 array
        Rows between each weight and the first that could follow the weight before it in its slice. That is the next row
        or, for a greater tap, the same.
    taps, codes : uint8 array
    counts : int64 array, shape ``[pes, cols]``
    """

    gaps: np.ndarray
    taps: np.ndarray
    codes: np.ndarray
    counts: np.ndarray


MATRIX = Scan(np.zeros(1, np.int64), 0)
"""The scan of a fully connected layer: one pixel, one tap."""


def encode_pass(codes: np.ndarray, columns: np.ndarray, assignment: Assignment, slots: range, config: EngineConfig,
                scan: Scan = MATRIX, groups: int = 1) -> EncodedPass | None:
    """Encodes a pass with the index width that takes the least storage.

    Parameters
    ----------
    codes : uint8 array, shape ``[rows, inputs]``
        The layer's weight codes.
    columns : int64 array, shape ``[cols]``
        The input (of a convolution: input channel) that each place of the activation memory (of each pixel) holds, -1
        for none; a whole number of words.
    assignment : Assignment
        PE and slot of each row.
    slots : range
        Slots of the rows of each PE to encode, at most ``acc_depth``.
    config : EngineConfig
        Gives the index widths, and the lengths that a slice can have.
    scan : Scan
        Scan whose taps are encoded; a row has a weight for each input and tap of the kernel.
    groups : int
        Groups of the convolution.

    Returns
    -------
    EncodedPass, or None if a slice is longer than the longest length that can be stored.
    """
    slices = _slices(codes, columns, assignment, slots, scan, groups)
    all_ones, longest = (1 << config.length_bits) - 1, long_slice(config.length_bits)
    best: EncodedPass | None = None
    for index_bits in config.index_bits:
        if index_bits < 2 * scan.tap_bits:
            continue
        skips = _skips_of_slices(slices.gaps, slices.taps, slices.counts.ravel(), index_bits, scan.tap_bits)
        lengths = slices.counts + skips.reshape(slices.counts.shape)
        if lengths.max(initial=0) > longest:
            continue
        padded = np.where(lengths >= all_ones, longest, lengths)
        candidate = EncodedPass(slots, scan, index_bits, int((padded - lengths).sum()), padded, slices.counts, [], [])
        if best is None or candidate.storage_bits(config) < best.storage_bits(config):
            best = candidate
    if best is None:
        return None
    return _with_entries(best, slices)


def _slices(codes: np.ndarray, columns: np.ndarray, assignment: Assignment, slots: range, scan: Scan,
            groups: int) -> _Slices:
    rows = np.full((assignment.pes, len(slots)), -1, np.int64)
    here = np.flatnonzero((assignment.slot >= slots.start) & (assignment.slot < slots.stop))
    rows[assignment.pe[here], assignment.slot[here] - slots.start] = here
    places = np.full(codes.shape[1] // len(scan.taps) * groups, -1, np.int64)
    used = np.flatnonzero(columns >= 0)
    places[columns[used]] = used
    group_rows = max(1, len(codes) // groups)
    return _Slices(*_collect(np.ascontiguousarray(codes), rows, places, scan.taps, group_rows, len(columns)))


def _with_entries(chosen: EncodedPass, slices: _Slices) -> EncodedPass:
    """Fills in the entries: before each weight its skips, after a long slice its padding."""
    codes, indices = _entries(slices.gaps, slices.taps, slices.codes, slices.counts.ravel(), chosen.lengths.ravel(),
                              chosen.index_bits, chosen.scan.tap_bits)
    ends = np.cumsum(chosen.lengths.sum(axis=1))[:-1]
    return replace(chosen, codes=np.split(codes, ends), indices=np.split(indices, ends))


# Loops over all weights, compiled by Numba. Python's types are not what Numba sees, so these have none.


@numba.njit(cache=True)
def _collect(codes, rows, places, taps, group_rows, cols):  # type: ignore[no-untyped-def]
    """Gaps, taps, codes and counts as in `_Slices`.

    rows : row number of each slot ``[pes, slots]``, or -1. places : where each input lies among ``cols``, or -1.
    taps : number of each tap, or -1. group_rows : rows that share their inputs.
    """
    pes, slots = rows.shape
    kernel = len(taps)
    inputs = codes.shape[1] // kernel
    counts = np.zeros((pes, cols), np.int64)
    for pe in range(pes):
        for row in rows[pe]:
            if row >= 0:
                first = row // group_rows * inputs
                for at in range(inputs):
                    for tap in range(kernel):
                        if taps[tap] >= 0 and codes[row, at * kernel + tap]:
                            counts[pe, places[first + at]] += 1
    total = counts.sum()
    gaps, found_taps, found = np.zeros(total, np.uint16), np.zeros(total, np.uint8), np.zeros(total, np.uint8)
    following, next_slot, last_tap = np.zeros(cols, np.int64), np.zeros(cols, np.int64), np.zeros(cols, np.int64)
    begin = 0
    for pe in range(pes):
        next_slot[:] = 0
        last_tap[:] = -1
        for col in range(cols):
            following[col] = begin
            begin += counts[pe, col]
        for slot in range(slots):
            row = rows[pe, slot]
            if row >= 0:
                first = row // group_rows * inputs
                for at in range(inputs):
                    for tap in range(kernel):
                        code = codes[row, at * kernel + tap]
                        if code and taps[tap] >= 0:
                            col = places[first + at]
                            place = following[col]
                            # A greater tap may be in the row of the weight before.
                            same = 1 if 0 <= last_tap[col] < taps[tap] else 0
                            gaps[place] = slot - (next_slot[col] - same)
                            found_taps[place], found[place] = taps[tap], code
                            following[col] += 1
                            next_slot[col], last_tap[col] = slot + 1, taps[tap]
    return gaps, found_taps, found, counts


@numba.njit(cache=True)
def _skips_before(gap, follows, carries, index_bits, tap_bits):  # type: ignore[no-untyped-def]
    """Skip entries that a gap takes, the sum of their lengths in units of ``2**gap_bits``, the gap left to the weight.

    follows : there is a weight before it in the slice. carries : its row cannot be that of the weight before.
    A skip is 1 to ``2**index_bits`` units long, or, with taps, 0 to one less: after a weight it begins at the next row.
    """
    gap_bits = index_bits - 2 * tap_bits
    if gap >> gap_bits == 0:
        return 0, 0, gap
    distance = gap - 1 if follows and not carries else gap
    units, left = distance >> gap_bits, distance & ((1 << gap_bits) - 1)
    longest = (1 << index_bits) - (tap_bits > 0)
    return max(1, -(-units // longest)), units, left


@numba.njit(cache=True)
def _skips_of_slices(gaps, taps, counts, index_bits, tap_bits):  # type: ignore[no-untyped-def]
    skips = np.zeros(len(counts), np.int64)
    at = 0
    for number in range(len(counts)):
        for nth in range(counts[number]):
            carries = nth > 0 and taps[at] <= taps[at - 1]
            skips[number] += _skips_before(np.int64(gaps[at]), nth > 0, carries, index_bits, tap_bits)[0]
            at += 1
    return skips


@numba.njit(cache=True)
def _entries(gaps, taps, found, counts, lengths, index_bits, tap_bits):  # type: ignore[no-untyped-def]
    """Codes and indices of all entries; those that no weight or skip takes stay 0, which is a skip."""
    codes, indices = np.zeros(lengths.sum(), np.uint8), np.zeros(lengths.sum(), np.uint8)
    shortest = int(tap_bits == 0)
    at = begin = 0
    for number in range(len(counts)):
        place = begin
        begin += lengths[number]
        for nth in range(counts[number]):
            carries = nth > 0 and taps[at] <= taps[at - 1]
            skips, units, gap = _skips_before(np.int64(gaps[at]), nth > 0, carries, index_bits, tap_bits)
            # All skips before a weight but the last are as long as can be.
            for _ in range(skips):
                indices[place] = min(units - shortest, (1 << index_bits) - 1)
                units -= indices[place] + shortest
                place += 1
            codes[place] = found[at]
            indices[place] = gap << 2 * tap_bits | taps[at]
            place += 1
            at += 1
    return codes, indices
