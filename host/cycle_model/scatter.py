# SPDX-License-Identifier: Apache-2.0
"""A cycle of `rtl.engine.scatter`, the walker's decoder in an engine that runs convolutions."""

import numba

from host.cycle_model.walker import word_to_decode

__all__ = ["step_scatter"]


@numba.njit
def step_scatter(walker, taps, first_tap, visits, one, engine, counts):  # type: ignore[no-untyped-def]
    """``advanced``, ``summed``, ``picking`` and ``picked`` of a ``walker``, in pass ``one`` on ``engine``.

    The PE's first entry has the tap at ``taps[first_tap]``; ``visits`` says which taps are inside. Adds to ``counts``.

    Returns
    -------
    bool
        ``raw_ready``: there is no word to decode, or it is taken.
    """
    raw = word_to_decode(walker, engine.deep)
    picking_ready = walker.steps_left <= 1
    # A word without a useful entry is dropped here.
    summed_ready = picking_ready or not walker.summed_valid or walker.summed_steps == 0
    advanced_ready = summed_ready or not walker.advanced_valid
    walker.picked = walker.steps_left > 0
    if not picking_ready:
        walker.steps_left -= 1
    else:
        walker.steps_left = walker.summed_steps if walker.summed_valid else 0
    if summed_ready:
        walker.summed_valid, walker.summed_steps = walker.advanced_valid, walker.advanced_steps
    if advanced_ready:
        walker.advanced_valid, walker.advanced_steps = raw.valid, 0
        if raw.valid:
            walker.advanced_steps = _useful(taps, first_tap + raw.first, first_tap + raw.last,
                                            visits[one.first_visit + raw.visit], one.tap_bits)
            counts.useful_macs += walker.advanced_steps
    return advanced_ready or not raw.valid


@numba.njit
def _useful(taps, first, last, visit, tap_bits):  # type: ignore[no-untyped-def]
    """Number of weights with a tap inside among a word's entries ``first`` to ``last``; each of them is a step."""
    useful = 0
    for at in range(first, last + 1):
        tap = taps[at]
        if tap >= 0 and (visit.rows >> (tap >> tap_bits)) & 1 and (visit.cols >> (tap & ((1 << tap_bits) - 1))) & 1:
            useful += 1
    return useful
