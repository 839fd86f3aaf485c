# SPDX-License-Identifier: Apache-2.0
"""The memories of an engine, and the weights and biases in them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rtl.config import EngineConfig
from rtl.layouts import long_slice

__all__ = ["Memories", "Memory", "PassWeights", "read_biases", "read_weights"]


class Memory:
    """The words of one memory in each PE, and which of them the image fills; the contents of the others are unknown.

    Parameters
    ----------
    name : str
        Name of the memory in errors.
    pes, depth : int
        PEs, and words of the memory in each of them.
    width : int
        Bits of a word.
    """

    def __init__(self, name: str, pes: int, depth: int, width: int) -> None:
        self.name, self.depth, self.word_bytes = name, depth, -(-width // 8)
        self._words = np.zeros((pes, depth, self.word_bytes), np.uint8)
        self._filled = np.zeros((pes, depth), bool)

    def fill(self, pe: int, first: int, content: bytes) -> None:
        """Writes ``content``, whole words, into PE number ``pe`` from address ``first`` on. Raises `ValueError` beyond
        the memory.
        """
        words = np.frombuffer(content, np.uint8).reshape(-1, self.word_bytes)
        if first + len(words) > self.depth:
            raise ValueError(f"{self.name} beyond the memory")
        self._words[pe, first:first + len(words)] = words
        self._filled[pe, first:first + len(words)] = True

    def read(self, pes: slice, first: int, count: int) -> np.ndarray:
        """Words of some PEs: uint8 ``[pes, count, bytes]``.

        Parameters
        ----------
        pes : slice
            Numbers of the PEs.
        first, count : int
            Address of the first word, and number of words.

        Raises
        ------
        ValueError
            Beyond the memory, or if the image does not fill all of these words.
        """
        if not 0 <= first <= self.depth - count:
            raise ValueError(f"{self.name} beyond the memory")
        if not self._filled[pes, first:first + count].all():
            raise ValueError(f"{self.name} that the image does not fill")
        return self._words[pes, first:first + count]


@dataclass(frozen=True)
class Memories:
    """The memories of an engine.

    Attributes
    ----------
    program : Memory
        One for all PEs.
    slices : Memory
    planes : list of Memory
        Planes of the entry memory.
    """

    program: Memory
    slices: Memory
    planes: list[Memory]


@dataclass(frozen=True)
class PassWeights:
    """The weights of a pass, one after the other, and how its slices hold them.

    Attributes
    ----------
    pe, slot, col, tap : int64 arrays
        ``col`` counts the activations of a pixel, ``tap`` is 0 in a fully connected layer.
    codes : uint8 array
    lengths : int64 array, shape ``[pes, cols]``
    taps : list of int16 arrays, one for each PE
        The tap of each entry; -1 is no weight.
    """

    pe: np.ndarray
    slot: np.ndarray
    col: np.ndarray
    tap: np.ndarray
    codes: np.ndarray
    lengths: np.ndarray
    taps: list[np.ndarray]


def _fields(words: np.ndarray, word_bits: int, bits: int) -> np.ndarray:
    """Memory words ``[..., words, bytes]`` as unsigned fields ``[..., fields]``."""
    spread = np.unpackbits(words, axis=-1, bitorder="little")[..., :word_bits]
    spread = spread.reshape(*words.shape[:-2], -1, bits).astype(np.int64)
    return spread @ (1 << np.arange(bits))


def read_weights(memories: Memories, descriptor: Any, config: EngineConfig) -> PassWeights:
    """The weights of a pass.

    Parameters
    ----------
    memories : Memories
    descriptor : `rtl.descriptor.whole_descriptor`
        Descriptor of the pass.
    config : EngineConfig

    Raises
    ------
    ValueError, IndexError
        For a descriptor that no engine of ``config`` can run, or one of words that the image does not fill.
    """
    mode, bits = int(descriptor.index_mode), config.length_bits
    pixel_words, tap_bits = int(descriptor.pixel_words), int(descriptor.tap_bits)
    if pixel_words > config.act_depth or descriptor.output_words > config.acc_depth:
        raise ValueError(f"a pass of {pixel_words} words of inputs and {int(descriptor.output_words)} rows")
    if config.index_bits[mode] < 2 * tap_bits or tap_bits not in (0, 2, config.tap_bits):
        raise ValueError(f"taps of {tap_bits} bits in an index of {config.index_bits[mode]}")
    slice_words = (pixel_words - 1) * config.pes // config.block_cols + int(descriptor.last_block) + 1
    cols = slice_words * config.block_cols
    stored = memories.slices.read(slice(None), int(descriptor.slice_base), slice_words)
    lengths = _fields(stored, config.slice_word_bits, bits)
    lengths = np.where(lengths == (1 << bits) - 1, long_slice(bits), lengths)
    found, taps = [], []
    for pe in range(config.pes):
        index, code = _entries(memories, descriptor, pe, int(lengths[pe].sum()), config)
        tap = index & ((1 << 2 * tap_bits) - 1)
        weight = code != 0
        starts = np.cumsum(lengths[pe]) - lengths[pe]
        begins = np.zeros(len(code) + 1, bool)
        begins[starts] = True
        # A weight after a weight is in the next slot, or in the same slot if its tap is greater.
        follows = np.concatenate([[False], weight[:-1]])[:len(code)] & ~begins[:-1]
        greater = np.concatenate([[False], tap[1:] > tap[:-1]])[:len(code)]
        carry = follows & ~(weight & greater)
        skipped = (index + (tap_bits == 0)) << (config.index_bits[mode] - 2 * tap_bits)
        reached = np.cumsum(carry + np.where(weight, index >> 2 * tap_bits, skipped))
        col = np.repeat(np.arange(cols), lengths[pe])
        slot = reached - np.concatenate([[0], reached])[starts][col]
        found.append([np.full(np.count_nonzero(weight), pe), *(part[weight] for part in (slot, col, tap, code))])
        taps.append(np.where(weight, tap, -1).astype(np.int16))
    pes, slots, used, numbers, codes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return PassWeights(pes, slots, used, numbers, codes.astype(np.uint8), lengths, taps)


def _entries(memories: Memories, descriptor: Any, pe: int, total: int,
             config: EngineConfig) -> tuple[np.ndarray, np.ndarray]:
    """Index and code of each entry of a PE's pass, int64 ``[total]``."""
    words = -(-total // config.entries_per_word)
    base, narrow = int(descriptor.entry_base), config.index_bits[0]

    def fields(plane: int, first: int, bits: int) -> np.ndarray:
        read = memories.planes[plane].read(slice(pe, pe + 1), first, words)[0]
        return _fields(read, config.plane_bits[plane], bits)[:total]

    entries = fields(0, base, narrow + config.code_bits)
    index, code = entries & ((1 << narrow) - 1), entries >> narrow
    for plane in range(1, int(descriptor.index_mode) + 1):
        start = base - int(descriptor.plane_offsets[plane - 1])
        part_bits = config.index_bits[plane] - config.index_bits[plane - 1]
        index = index | fields(plane, start, part_bits) << config.index_bits[plane - 1]
    return index, code


def read_biases(memories: Memories, descriptor: Any, config: EngineConfig) -> np.ndarray:
    """Biases of a pass: int64 ``[pes, rows of each PE]``.

    Parameters
    ----------
    memories : Memories
    descriptor : `rtl.descriptor.whole_descriptor`
        Descriptor of the pass.
    config : EngineConfig

    Raises
    ------
    ValueError
        For words beyond the memory, or that the image does not fill.
    """
    base, rows = int(descriptor.bias_base), int(descriptor.output_words)
    words = memories.planes[0].read(slice(None), base, rows * config.bias_words)
    bits = np.unpackbits(words, axis=-1, bitorder="little")[..., :config.entry_word_bits]
    bits = bits.reshape(config.pes, rows, -1)[..., :config.acc_bits].astype(np.int64)
    unsigned = bits @ (1 << np.arange(config.acc_bits))
    return np.where(unsigned >> (config.acc_bits - 1), unsigned - (1 << config.acc_bits), unsigned)
