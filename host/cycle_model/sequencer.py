# SPDX-License-Identifier: Apache-2.0
"""A cycle of `rtl.engine.sequencer` and `rtl.engine.program`: when a pass ends, and the next one begins."""

import numba

from host.cycle_model.drain import start_drain
from host.cycle_model.scanner import start_scanner
from rtl.engine.timing import SETTLE_CYCLES

__all__ = ["start_inference", "step_program", "step_sequencer"]


@numba.njit
def start_inference(sequencer, program, scanner, passes, engine):  # type: ignore[no-untyped-def]
    """RUN: sets ``sequencer``, ``program`` and ``scanner`` of an ``engine`` for the first of ``passes``.

    Its tables have been sent, and its descriptor fetched.
    """
    sequencer.settle = SETTLE_CYCLES
    program.fetch_left = engine.fetch_cycles if len(passes) > 1 else 0
    start_scanner(scanner, passes[0], False, engine.tapped)


@numba.njit
def step_program(program):  # type: ignore[no-untyped-def]
    """A cycle of the PROGRAM record ``program``: tables of a pass, then the descriptor of the next; returns ``busy``.
    """
    if program.tables_left > 0:
        program.tables_left -= 1
        return True
    if program.late_left > 0:
        program.late_left -= 1
        return True
    if program.fetch_left > 0:
        program.fetch_left -= 1
        return True
    return False


@numba.njit
def step_sequencer(sequencer, program, scanner, drain, passes, quiet, busy, engine):  # type: ignore[no-untyped-def]
    """State SCAN, once the other units have been stepped.

    Parameters
    ----------
    sequencer, program, scanner, drain : SEQUENCER, PROGRAM, SCANNER, DRAIN
    passes : PASS array
    quiet : bool
        Every beat is on its way to an accumulator at least.
    busy : bool
        Drain or program were busy in this cycle.
    engine : Engine

    Returns
    -------
    bool
        ``switch``: the pass ends; it goes to the drain, and the next one, if any, to the scanner.
    """
    switch = sequencer.settle == 0 and not sequencer.last and quiet and sequencer.free
    sequencer.free = not busy
    sequencer.settle = max(sequencer.settle - 1, 0)
    if not switch:
        return False
    if passes[sequencer.number].drain_steps > 0:
        start_drain(drain, passes[sequencer.number])
    sequencer.last = sequencer.number == len(passes) - 1
    if not sequencer.last:
        sequencer.number += 1
        sequencer.settle = SETTLE_CYCLES
        one = passes[sequencer.number]
        program.tables_left, program.late_left = one.table_cycles, one.late_cycles
        program.fetch_left = engine.fetch_cycles if sequencer.number < len(passes) - 1 else 0
        start_scanner(scanner, one, drain.busy, engine.tapped)
    return True
