# SPDX-License-Identifier: Apache-2.0
"""A cycle of `rtl.engine.drain`: accumulators are read one by one; their activations arrive some cycles later."""

import numba

__all__ = ["arrives", "start_drain", "step_drain"]


@numba.njit
def start_drain(drain, one):  # type: ignore[no-untyped-def]
    """Starts draining the pass ``one``.

    Parameters
    ----------
    drain : DRAIN record
        Registers of the drain, which change.
    one : PASS record
        The pass whose sums are read.
    """
    drain.busy, drain.steps_left, drain.acts_left, drain.row_cycle = True, one.drain_steps, one.drain_steps, 0
    drain.window, drain.in_window = one.window, 0
    drain.slot, drain.slots, drain.upper_slots, drain.written = 0, one.output_words, one.output_pixel_words, 0


@numba.njit
def arrives(drain, engine):  # type: ignore[no-untyped-def]
    """``arrived`` and ``busy``: activations of an accumulator arrive from the PEs in this cycle.

    Parameters
    ----------
    drain : DRAIN record
        Registers of the drain.
    engine : Engine
        Latencies, in cycles.
    """
    return drain.busy and (drain.arriving >> (engine.broadcast_cycles + engine.drain_cycles - 1)) & 1 == 1


@numba.njit
def step_drain(drain, engine, counts):  # type: ignore[no-untyped-def]
    """Steps all registers of the ``drain`` record; adds to ``counts``. The latencies are of ``engine``."""
    arrived = arrives(drain, engine)
    reading = drain.steps_left > 0
    taken = reading and drain.row_cycle == engine.row_cycles - 1
    drain.arriving = drain.arriving << 1 | taken
    if reading:
        counts.drain_cycles += 1
        drain.steps_left -= 1 if taken else 0
        drain.row_cycle = 0 if taken else drain.row_cycle + 1
    if arrived:
        drain.acts_left -= 1
        drain.busy = drain.acts_left > 0
        drain.in_window += 1
        if drain.in_window == drain.window:
            drain.in_window = 0
            drain.written += drain.slot < drain.upper_slots
            drain.slot = (drain.slot + 1) % drain.slots
