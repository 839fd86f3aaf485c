# SPDX-License-Identifier: Apache-2.0
"""A cycle of `rtl.engine.walker`: words of a slice are fetched, and decoded in as many cycles as they have steps."""

import numba

__all__ = ["step_decoder", "step_fetch", "take_job"]


@numba.njit
def word_to_decode(walker, deep):  # type: ignore[no-untyped-def]
    """``raw``: the word in the register behind the entry memory, or at its output if there is no such register.

    Parameters
    ----------
    walker : record
        Registers of a PE's walker.
    deep : bool
        Whether there is such a register (`EngineConfig.deep_pipeline`).
    """
    return walker.raw if deep else walker.fetched


@numba.njit
def step_decoder(walker, taps, first_tap, engine, counts):  # type: ignore[no-untyped-def]
    """``word`` and ``steps`` of a ``walker`` on ``engine``; adds to ``counts``.

    The PE's first entry has the tap at ``taps[first_tap]``.

    Returns
    -------
    bool
        ``raw_ready``: there is no word to decode, or it is taken.
    """
    raw, ready = word_to_decode(walker, engine.deep), walker.steps_left <= 1
    if not ready:
        walker.steps_left -= 1
    elif raw.valid:
        walker.steps_left, weights = _steps(taps, first_tap + raw.first, first_tap + raw.last)
        counts.useful_macs += weights
    else:
        walker.steps_left = 0
    return ready or not raw.valid


@numba.njit
def _steps(taps, first, last):  # type: ignore[no-untyped-def]
    """Steps and weights of a word's entries ``first`` to ``last``: a skip is free beside the weight after it."""
    steps = weights = 0
    for at in range(first, last + 1):
        if taps[at] >= 0:
            weights += 1
            steps += 1
        elif at == last or taps[at + 1] < 0:
            steps += 1
    return steps, weights


@numba.njit
def step_fetch(walker, raw_ready, hold, engine):  # type: ignore[no-untyped-def]
    """``read`` and ``raw`` of a ``walker`` on ``engine``.

    The next word of the job is read, if the one before it moves on (``raw_ready``) and there is no ``hold``.

    Returns
    -------
    bool
        ``jobs.ready``: there is no job, or its last word has been read.
    """
    fetched = walker.fetched
    ready = raw_ready or not fetched.valid
    fetch = walker.job_valid and ready and not hold
    if engine.deep and raw_ready:
        walker.raw = fetched
    if ready:
        fetched.valid = fetch
    if not fetch:
        return not walker.job_valid
    length = min(walker.job_length, engine.entries_per_word - walker.job_first % engine.entries_per_word)
    fetched.first, fetched.last, fetched.visit = walker.job_first, walker.job_first + length - 1, walker.job_visit
    walker.job_first += length
    walker.job_length -= length
    return walker.job_length == 0


@numba.njit
def take_job(walker, visit, one_slice):  # type: ignore[no-untyped-def]
    """``job`` of a ``walker``: the SLICE ``one_slice``, which met an activation of ``visit``."""
    walker.job_first, walker.job_length, walker.job_visit = one_slice.first, one_slice.length, visit
