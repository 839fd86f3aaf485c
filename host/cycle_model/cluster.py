# SPDX-License-Identifier: Apache-2.0
"""A cycle of `rtl.engine.cluster`: beats go through its queue, if it has one, and the slice lookup to its PEs."""

import numba

from host.cycle_model.pe import step_pe
from host.cycle_model.queue import step_queue

__all__ = ["shift", "step_cluster"]


@numba.njit
def shift(beats):  # type: ignore[no-untyped-def]
    """Advances the beats in a chain of registers; returns whether a register before the last one held a beat.

    ``beats`` are BEAT records, the first register first. The first keeps its beat.
    """
    found = False
    for stage in range(len(beats) - 1, 0, -1):
        found |= beats[stage - 1].valid
        beats[stage] = beats[stage - 1]
    return found


@numba.njit
def step_cluster(number, beat, queue, beats, lookup, pes, jobs, hold, one, tables, engine,  # type: ignore[no-untyped-def]
                 counts):
    """Steps all registers of a cluster.

    Parameters
    ----------
    number : int
    beat : BEAT
        The beat that arrives from the broadcast.
    queue, beats : QUEUE; BEAT array, shape ``[beat_depth]``
        Its queue of beats, and the places of that queue.
    lookup : BEAT array, shape ``[lookup_cycles]``
    pes, jobs : PE array, shape ``[pes]``; int64 array, shape ``[pes, job_depth]``
        The PEs of all clusters, and the jobs in their queues.
    hold, one, tables, engine, counts
        See `host.cycle_model.pe.step_pe`.

    Returns
    -------
    full, empty : bool
        ``full``: there is room only for beats in flight. ``empty``: at most the last step of an entry is left.
    """
    size = len(pes) // engine.clusters
    first, last = number * size, (number + 1) * size
    arrived, act = lookup[-1].present, lookup[-1].act
    col = tables.visits[one.first_visit + act // engine.pes].first_col + act % engine.pes if arrived else 0
    empty = not shift(lookup)
    if engine.beat_depth > 0:
        full, queue_empty = _step_beat_queue(queue, beats, lookup, pes[first:last], beat, engine)
        empty = empty and queue_empty
    else:
        full = False
        for pe in range(first, last):
            full |= pes[pe].queue.level >= engine.job_limit
        empty = empty and not beat.valid
        lookup[0] = beat
    for pe in range(first, last):
        put = arrived and tables.slices[one.first_slice + pe * one.cols + col].length > 0
        if arrived and not put:
            counts.dropped_slices += 1
        empty &= step_pe(pes[pe], jobs[pe], act, put, hold, pe, one, tables, engine, counts)
    return full, empty


@numba.njit
def _step_beat_queue(queue, beats, lookup, pes, beat, engine):  # type: ignore[no-untyped-def]
    """The queue, which takes the beat, and the register behind it, ``lookup[0]``; returns ``full`` and ``empty``."""
    full, empty = queue.level >= engine.beat_limit, queue.level == 0 and not beat.valid
    take = queue.offered
    for pe in range(len(pes)):
        take = take and pes[pe].queue.level < engine.job_limit
    lookup[0] = step_queue(queue, beats, beat, beat.valid, take, True)
    if not take:
        lookup[0].valid = lookup[0].present = False
    return full, empty
