# SPDX-License-Identifier: Apache-2.0
"""Activity of the PEs of a simulated engine during inferences, as ``sim/simulator/pe_recorder.sv`` records it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["SERIES", "STATES", "Bins", "read_bins"]

STATES = ("busy", "held", "walking", "stalled", "waiting", "ended")
"""States of a PE; in each cycle it is in the first that holds.

Busy: it multiplies. Held: a drain runs or tables are loaded. Walking: it has slices or entries under way, but no
multiplication comes of it (skips, taps outside, the way from a slice to its first weight). Stalled: it has nothing to
do, and the scan is stopped because some PE's queue is full. Waiting: it has nothing to do, and the scan goes on.
Ended: likewise, and the scan of the pass is over.
"""

SERIES = ("passes", "cycles", "beats", "broadcasts", "stalls", "drains")
"""Values of a bin that concern the whole engine: number of the pass, cycles, and how many of them had each event."""


@dataclass(frozen=True)
class Bins:
    """An inference in bins of time; a bin ends after the same number of cycles, or with its pass.

    Attributes
    ----------
    series : int64 array, shape ``[6, bins]``
        Values of each bin, in the order of `SERIES`.
    spent : int64 array, shape ``[states, bins, pes]``
        Cycles of each PE in each of `STATES`; they sum up to the bin's cycles.
    dropped, level_sum, level_max : int64 array, shape ``[bins, pes]``
        Empty slices; sum over the cycles of the slices in the queue, and their maximum.
    """

    series: np.ndarray
    spent: np.ndarray
    dropped: np.ndarray
    level_sum: np.ndarray
    level_max: np.ndarray


def read_bins(lines: Iterable[str], pes: int) -> list[Bins]:
    """The inferences in a recorder's file.

    Parameters
    ----------
    lines : iterable of str
        A line of integers for each bin; an empty line ends an inference.
    pes : int
        PEs of the engine.
    """
    found: list[Bins] = []
    block: list[list[int]] = []
    for line in lines:
        if line.strip():
            block.append([int(word) for word in line.split()])
            continue
        numbers = np.array(block, np.int64)
        of_pes = numbers[:, len(SERIES):].reshape(len(block), pes, len(STATES) + 3).transpose(2, 0, 1)
        found.append(Bins(numbers[:, :len(SERIES)].T, of_pes[:len(STATES)], *of_pes[len(STATES):]))
        block = []
    return found
