# SPDX-License-Identifier: Apache-2.0
"""The size of relative indices beside the weights, counted as by Han et al. (NIPS 2015; Deep Compression, ICLR 2016).

They store the jump to the next weight in 5 bits, and a dummy zero, a whole weight with its index, for each jump over
more than 31 zeros. Their 15.6 % on weights of 32 bits are the 5 bits alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["DENSITY", "INDEX_WIDTHS", "WEIGHT_BITS", "index_overhead", "overhead_table"]

DENSITY = 0.11
"""Density of the network for which the authors' ratio of 9 becomes 7.8."""

WEIGHT_BITS = 32
INDEX_WIDTHS = range(2, 9)


def index_overhead(codes: np.ndarray, widths: Sequence[int] = INDEX_WIDTHS,
                   weight_bits: int = WEIGHT_BITS) -> list[dict[str, Any]]:
    """Bits beyond the weights themselves, over the bits of the weights, for each index width.

    Parameters
    ----------
    codes : array
        The matrix, of which all that is not 0 is a weight; walked row by row. At least one weight.
    widths : sequence of int
        Bits of the index.
    weight_bits : int
        Bits of a weight.

    Returns
    -------
    list of dict
        ``index_bits``; ``claimed`` (the index alone); ``dummies_per_weight``; ``overhead`` (dummies with weight and
        index counted).
    """
    places = np.flatnonzero(codes)
    zeros = np.diff(places, prepend=-1) - 1
    found = []
    for bits in widths:
        dummies = float((zeros >> bits).sum()) / len(places)
        found.append({"index_bits": bits, "claimed": bits / weight_bits, "dummies_per_weight": dummies,
                      "overhead": (bits + dummies * (bits + weight_bits)) / weight_bits})
    return found


def overhead_table(found: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the figures ``found`` for a terminal."""
    return (["index bits", "index alone", "dummies/weight", "overhead"],
            [[str(one["index_bits"]), f"{one['claimed']:.1%}", f"{one['dummies_per_weight']:.3f}",
              f"{one['overhead']:.1%}"] for one in found])
