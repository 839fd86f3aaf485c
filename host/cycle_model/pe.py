# SPDX-License-Identifier: Apache-2.0
"""A cycle of `rtl.engine.pe`: the queue of slices and the walker."""

import numba

from host.cycle_model.queue import step_queue
from host.cycle_model.scatter import step_scatter
from host.cycle_model.walker import step_decoder, step_fetch, take_job, word_to_decode

__all__ = ["step_pe"]


@numba.njit
def step_pe(pe, jobs, act, put, hold, number, one, tables, engine, counts):  # type: ignore[no-untyped-def]
    """Steps all registers of a processing element.

    Parameters
    ----------
    pe : PE
    jobs : int64 array, shape ``[job_depth]``
        Places of its queue.
    act, put : int, bool
        With ``put`` the activation ``act`` arrives and has a slice in this PE.
    hold : bool
        No word may be read.
    number : int
        Number of the PE.
    one : PASS
    tables : Tables
    engine : Engine
    counts : COUNTS

    Returns
    -------
    bool
        ``empty``: at most the last step of an entry is left.
    """
    walker = pe.walker
    empty = not (put or pe.queue.level > 0 or walker.job_valid or walker.fetched.valid
                 or word_to_decode(walker, engine.deep).valid or walker.advanced_valid or walker.summed_valid
                 or walker.picked or walker.steps_left > (0 if engine.tapped else 1))
    first_tap = tables.first_taps[one.first_taps + number]
    raw_ready = (step_scatter(walker, tables.taps, first_tap, tables.visits, one, engine, counts)
                 if engine.tapped else step_decoder(walker, tables.taps, first_tap, engine, counts))
    next_job = step_fetch(walker, raw_ready, hold, engine)
    take = next_job and (pe.queue.offered or (engine.bypass and put))
    taken = step_queue(pe.queue, jobs, act, put, take, not engine.deep)
    if next_job:
        walker.job_valid = take
    if take:
        visit = taken // engine.pes
        col = tables.visits[one.first_visit + visit].first_col + taken % engine.pes
        take_job(walker, visit, tables.slices[one.first_slice + number * one.cols + col])
    return empty
