# SPDX-License-Identifier: Apache-2.0
"""The size of an image on disk: entropies of its codes, indices and lengths, and their Huffman codes.

Deep Compression, ICLR 2016, section 4. The engine reads fixed widths; this is for storage and transfer alone.
"""

import heapq
from dataclasses import dataclass

import numpy as np

__all__ = ["Stream", "bound_bits", "huffman_lengths", "measure"]

LENGTH_BITS = 5
"""Bits of each code length in a canonical Huffman table."""


@dataclass(frozen=True)
class Stream:
    """Symbols of one kind.

    Attributes
    ----------
    symbols : int
        Number of symbols.
    entropy : float
        Bits for each symbol that no code by single symbols can do without.
    huffman_bits : int
        All symbols in their Huffman code.
    table_bits : int
        A code length for each symbol up to the greatest.
    """

    symbols: int
    entropy: float
    huffman_bits: int
    table_bits: int

    @property
    def total_bits(self) -> int:
        return self.huffman_bits + self.table_bits


def measure(values: np.ndarray) -> Stream:
    """Measures a stream of symbols: ``values`` are integers, 0 or more, in an array of any shape."""
    counts = np.bincount(values.ravel().astype(np.int64))
    total = int(counts.sum())
    shares = counts[counts > 0] / max(1, total)
    lengths = huffman_lengths(counts)
    return Stream(total, float(-(shares * np.log2(shares)).sum()) + 0.0, int((counts * lengths).sum()),
                  LENGTH_BITS * len(counts))


def huffman_lengths(counts: np.ndarray) -> np.ndarray:
    """Length in bits of each symbol's Huffman code; 0 for symbols that do not occur, and for one that is alone.

    Parameters
    ----------
    counts : int64 array, shape ``[n]``
        Number of occurrences of each symbol.
    """
    lengths = np.zeros(len(counts), np.int64)
    heap = [(int(counts[symbol]), int(symbol), [int(symbol)]) for symbol in np.flatnonzero(counts)]
    heapq.heapify(heap)
    while len(heap) > 1:
        (one, first, symbols), (other, _, more) = heapq.heappop(heap), heapq.heappop(heap)
        merged = symbols + more
        lengths[merged] += 1
        heapq.heappush(heap, (one + other, first, merged))
    return lengths


def bound_bits(code_bits: int, density: float) -> float:
    """Least bits of a surviving weight: code plus H(density) / density, H the binary entropy.

    Parameters
    ----------
    code_bits : int
        Bits of a weight code.
    density : float
        Share of the weights that survive, 0 to 1. At 0 and 1 places cost nothing, and the code alone counts.
    """
    if not 0 < density < 1:
        return float(code_bits)
    entropy = -density * np.log2(density) - (1 - density) * np.log2(1 - density)
    return float(code_bits + entropy / density)
