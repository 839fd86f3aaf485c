# SPDX-License-Identifier: Apache-2.0
"""Fills the memories of an engine with slices, entries and biases, pass by pass."""

from dataclasses import dataclass, field

import numpy as np

from host.network.layers import Geometry
from host.packing.balance_rows import Assignment
from host.packing.encode import EncodedPass
from host.packing.word_fields import pack_words
from host.quantization.integer_network import QuantizedLayer, spare_bias
from rtl.config import EngineConfig

__all__ = ["Filling", "store_biases", "store_entries", "store_slices", "tap_table"]


@dataclass
class Filling:
    """Contents of the memories while they are being filled.

    Attributes
    ----------
    config : EngineConfig
    next_entry, next_slice : int
        Address of the first free word in the first entry plane, and in the slice memory; the same in all PEs.
    next_plane : list of int
        Address of the first free word in each further entry plane.
    slices : list of lists of uint8 array ``[words, bytes]``, a list for each PE
    planes : list (planes) of lists (PEs) of lists of (first address, uint8 array ``[words, bytes]``)
    """

    config: EngineConfig
    next_entry: int = 0
    next_plane: list[int] = field(default_factory=list)
    next_slice: int = 0
    slices: list[list[np.ndarray]] = field(default_factory=list)
    planes: list[list[list[tuple[int, np.ndarray]]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        pes, planes = self.config.pes, len(self.config.plane_bits)
        self.next_plane = [0] * planes
        self.slices = [[] for _ in range(pes)]
        self.planes = [[[] for _ in range(pes)] for _ in range(planes)]


def store_slices(one: EncodedPass, memories: Filling) -> None:
    """Appends the slice lengths of the pass ``one`` to the slice memory of each PE in ``memories``."""
    config = memories.config
    stored = np.minimum(one.lengths, (1 << config.length_bits) - 1)
    for pe in range(config.pes):
        fields = stored[pe].reshape(-1, config.block_cols)
        memories.slices[pe].append(pack_words(fields, config.length_bits))
    memories.next_slice += one.slice_words(config)


def store_entries(one: EncodedPass, mode: int, memories: Filling) -> None:
    """Appends the entries of a pass to the entry memories; all PEs start at one address, after the longest of the pass
    before.

    Parameters
    ----------
    one : EncodedPass
    mode : int
        Index mode: entries use the memory planes 0 to ``mode``.
    memories : Filling
        Is changed.
    """
    config = memories.config
    each, narrow = config.entries_per_word, config.index_bits[0]
    for pe in range(config.pes):
        words = -(-len(one.codes[pe]) // each)
        room = words * each - len(one.codes[pe])
        codes = np.pad(one.codes[pe], (0, room)).astype(np.int64).reshape(-1, each)
        indices = np.pad(one.indices[pe], (0, room)).astype(np.int64).reshape(-1, each)
        low = indices & ((1 << narrow) - 1)
        memories.planes[0][pe].append((memories.next_entry,
                                       pack_words(low | codes << narrow, narrow + config.code_bits)))
        for plane in range(1, mode + 1):
            bits = config.plane_bits[plane] // each
            part = (indices >> config.index_bits[plane - 1]) & ((1 << bits) - 1)
            memories.planes[plane][pe].append((memories.next_plane[plane], pack_words(part, bits)))
    for plane in range(1, mode + 1):
        memories.next_plane[plane] += one.entry_words(config)
    memories.next_entry += one.entry_words(config)


def store_biases(layer: QuantizedLayer, assignment: Assignment, first: int, rows: int,
                  memories: Filling) -> None:
    """Appends the biases of a pass to the first plane of the entry memories.

    Parameters
    ----------
    layer : QuantizedLayer
    assignment : Assignment
        PE and slot of each of its rows.
    first, rows : int
        First slot of the pass, and number of its slots; one without a row gets the bias `spare_bias`.
    memories : Filling
        Is changed.
    """
    config = memories.config
    biases = np.full((config.pes, rows), spare_bias(layer, config.acc_bits))
    here = (assignment.slot >= first) & (assignment.slot < first + rows)
    biases[assignment.pe[here], assignment.slot[here] - first] = layer.bias[here]
    word_bits = config.entry_word_bits
    for pe in range(config.pes):
        unsigned = biases[pe] & ((1 << config.acc_bits) - 1)
        shifts = np.minimum(np.arange(config.bias_words) * word_bits, 63)
        parts = ((unsigned[:, None] >> shifts) & ((1 << min(word_bits, 62)) - 1)).reshape(-1, 1)
        memories.planes[0][pe].append((memories.next_entry, pack_words(parts, word_bits)))
    memories.next_entry += rows * config.bias_words


def tap_table(shape: Geometry, one: EncodedPass, config: EngineConfig) -> np.ndarray:
    """Offset of each tap, to subtract from the accumulator of tap 0: uint16 ``[config.taps]``.

    Parameters
    ----------
    shape : Geometry
        Geometry of the convolution.
    one : EncodedPass
        Gives the scan's taps and the slots of the pass.
    config : EngineConfig
    """
    table = np.zeros(config.taps, np.uint16)
    taps = one.scan.taps[one.scan.taps >= 0]
    rows, cols = taps >> one.scan.tap_bits, taps & ((1 << one.scan.tap_bits) - 1)
    table[taps] = (rows * shape.computed_shape[1] + cols) * len(one.slots)
    return table
