# SPDX-License-Identifier: Apache-2.0
"""Assigns the rows of a layer to PEs and slots: balances the work of the PEs, in an order that needs few skips."""

import heapq
from dataclasses import dataclass

import numba
import numpy as np

__all__ = ["Assignment", "assign_bands", "assign_map", "assign_rows", "order_rows"]


@dataclass(frozen=True)
class Assignment:
    """PE and slot of each row of a layer.

    Attributes
    ----------
    pe, slot : int64 arrays, shape ``[rows]``
        The row's PE, and its place among that PE's rows.
    pes : int
    pass_slots : int
        Rows of a PE that a pass computes at once.
    """

    pe: np.ndarray
    slot: np.ndarray
    pes: int
    pass_slots: int

    @property
    def words(self) -> int:
        """Activation words of the layer's output: the greatest number of rows of a PE."""
        return int(self.slot.max(initial=-1)) + 1

    @property
    def passes(self) -> list[range]:
        """The slots of each pass."""
        return [range(first, min(first + self.pass_slots, self.words))
                for first in range(0, self.words, self.pass_slots)]

    def upper(self, bands: int) -> "Assignment":
        """The assignment of the rows of the upper one of ``bands`` bands; of all rows if there is one band."""
        rows, slots = len(self.pe) // bands, self.words // bands
        return Assignment(self.pe[:rows], self.slot[:rows], self.pes, slots)

    @property
    def position(self) -> np.ndarray:
        """Place of each row's activation in the output, int64 ``[rows]``: word times PEs plus lane."""
        return self.slot * self.pes + self.pe


def assign_rows(work: np.ndarray, pes: int, pass_slots: int) -> Assignment:
    """Shares rows out over PEs so that in each pass each has about the same work.

    If all rows are in one pass the better of two assignments is taken: `_assign_evenly`; or the greedy one, in which
    rows go, in order of decreasing work, to the PE with least work that has a place left.

    Parameters
    ----------
    work : float array, shape ``[rows]``
        Expected useful multiplications of each row.
    pes : int
    pass_slots : int
        Slots of a PE per pass; the last pass may have fewer.
    """
    evenly = _assign_evenly(work, pes, pass_slots)
    if len(evenly.passes) > 1:
        return evenly
    pe, slot = np.zeros(len(work), np.int64), np.zeros(len(work), np.int64)
    waiting = [(0.0, number, 0) for number in range(pes)]
    for row in np.argsort(-work, kind="stable"):
        load, pe[row], slot[row] = heapq.heappop(waiting)
        if slot[row] + 1 < evenly.words:
            heapq.heappush(waiting, (load + float(work[row]), int(pe[row]), int(slot[row]) + 1))
    greedy = Assignment(pe, slot, pes, pass_slots)
    most, least = (np.bincount(one.pe, work, pes).max() for one in (evenly, greedy))
    return greedy if least < most else evenly


def _assign_evenly(work: np.ndarray, pes: int, pass_slots: int) -> Assignment:
    """Shares rows out over PEs, the same number to each.

    Every PE gets ``rows / pes`` rows, rounded up or down, so that the drain is no longer than necessary. Rows are
    assigned in order of decreasing work, each to the PE and pass that lack most work per free place. So the PEs that
    have a row less than others get heavier rows.

    Parameters
    ----------
    work : float array, shape ``[rows]``
        Expected useful multiplications of each row.
    pass_slots : int
        Slots of a PE per pass; the last pass may have fewer.
    """
    rows = len(work)
    pe, slot = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    firsts = range(0, -(-rows // pes), pass_slots)
    groups = [(number, first) for first in firsts for number in range(pes)]
    places = [min(pass_slots, rows // pes + (number < rows % pes) - first) for number, first in groups]
    # Work is balanced within each pass, because all PEs end a pass together.
    total = np.array(places).reshape(len(firsts), pes).sum(axis=1) / max(1, rows) * float(work.sum())
    lacks = np.repeat(total / pes, pes).tolist()
    taken = [0] * len(groups)
    waiting = [(-lacks[group] / places[group], group) for group in range(len(groups)) if places[group]]
    heapq.heapify(waiting)
    for row in np.argsort(-work, kind="stable"):
        group = heapq.heappop(waiting)[1]
        number, first = groups[group]
        pe[row], slot[row] = number, first + taken[group]
        taken[group] += 1
        lacks[group] -= float(work[row])
        free = places[group] - taken[group]
        if free:
            heapq.heappush(waiting, (-lacks[group] / free, group))
    return Assignment(pe, slot, pes, pass_slots)


def assign_map(work: np.ndarray, channels: int, pes: int, pass_slots: int, *, balance: bool) -> Assignment:
    """Assigns the rows of a fully connected layer whose outputs are a feature map.

    They lie as those of a convolution do: pixel by pixel, each channel at the same PE and the same of its slots.

    Parameters
    ----------
    work : float array, shape ``[rows]``
        Expected useful multiplications of each row; rows are in torch's order: channel, row, column.
    channels : int
    pes : int
    pass_slots : int
        Slots of a PE per pass; a pass may begin and end within a pixel.
    balance : bool
        Channels are shared out by their work, not in turn.
    """
    words, pixels = -(-channels // pes), len(work) // channels
    in_turn = np.arange(channels)
    one = assign_rows(work.reshape(channels, -1).sum(axis=1), pes, words) if balance \
        else Assignment(in_turn % pes, in_turn // pes, pes, words)
    slot = one.slot[:, None] + np.arange(pixels) * words
    return Assignment(np.repeat(one.pe, pixels), slot.ravel(), pes, pass_slots)


def assign_bands(work: np.ndarray, pes: int) -> Assignment:
    """Shares out the rows of two bands (`host.image.space_to_depth`), so that a row's two bands lie half the PEs apart.

    Two such PEs then have the same work: both bands of the same rows. The lower band's slots follow the upper one's.

    Parameters
    ----------
    work : float array, shape ``[2 * rows]``
        Expected useful multiplications of each row of the upper band, then of the lower one.
    pes : int
        PEs, an even number.
    """
    rows, half = len(work) // 2, pes // 2
    slots = -(-rows // pes)
    pairs = assign_rows(work.reshape(2, rows).sum(axis=0), half, 2 * slots)
    pe, slot = pairs.pe + pairs.slot % 2 * half, pairs.slot // 2
    return Assignment(np.concatenate([pe, (pe + half) % pes]), np.concatenate([slot, slot + slots]), pes, 2 * slots)


def order_rows(assignment: Assignment, codes: np.ndarray, index_bits: int) -> Assignment:
    """Orders the rows of each PE and pass so that few gaps between their weights are too long for the index.

    Slot by slot, the row comes next whose weights are most likely to save skips: a weight that ends a gap of ``gap``
    rows saves one if none of the next ``2**index_bits - gap`` rows had ended it.

    Parameters
    ----------
    assignment : Assignment
        Assignment whose PEs and passes stay.
    codes : uint8 array, shape ``[rows, cols]``
        Weight codes; 0 is no weight.
    index_bits : int
        Width of an entry's index.
    """
    reach = 1 << index_bits
    empty = 1 - np.count_nonzero(codes) / max(1, codes.size)
    # A gap that is too long already takes its skip whenever it ends.
    saved = np.append(empty ** (reach - np.arange(reach)) - empty ** reach, 0)
    slot = np.zeros_like(assignment.slot)
    for slots in assignment.passes:
        here = (assignment.slot >= slots.start) & (assignment.slot < slots.stop)
        for pe in range(assignment.pes):
            rows = np.flatnonzero(here & (assignment.pe == pe))
            slot[rows[_order(*_columns(codes[rows]), codes.shape[1], saved)]] = slots.start + np.arange(len(rows))
    return Assignment(assignment.pe, slot, assignment.pes, assignment.pass_slots)


def _columns(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the weights of each row, one row after the other, and where each row begins."""
    rows, cols = np.nonzero(codes)
    return cols, np.searchsorted(rows, np.arange(len(codes) + 1))


@numba.njit(cache=True)
def _order(cols, begins, width, saved):  # type: ignore[no-untyped-def]
    count = len(begins) - 1
    gaps, taken, order = np.zeros(width, np.int64), np.zeros(count, np.bool_), np.zeros(count, np.int64)
    longest = len(saved) - 1
    for slot in range(count):
        best, most = -1, -1.0
        for row in range(count):
            if not taken[row]:
                worth = 0.0
                for at in range(begins[row], begins[row + 1]):
                    worth += saved[gaps[cols[at]]]
                if worth > most:
                    best, most = row, worth
        order[slot], taken[best] = best, True
        for col in range(width):
            gaps[col] = min(gaps[col] + 1, longest)
        for at in range(begins[best], begins[best + 1]):
            gaps[cols[at]] = 0
    return order
