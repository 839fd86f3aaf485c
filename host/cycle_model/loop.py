# SPDX-License-Identifier: Apache-2.0
"""The loop of the cycle model: each step is a clock cycle of an inference.

Every unit of `rtl.engine` that decides when something happens has a function here that repeats its registers, in a
module of the unit's name. Compiled by Numba, the loop runs thousands of times faster than RTL.
"""

import hashlib
from pathlib import Path
from typing import Any

import numba
import numpy as np

from host.cycle_model.cluster import shift, step_cluster
from host.cycle_model.drain import arrives, step_drain
from host.cycle_model.scanner import step_scanner
from host.cycle_model.sequencer import start_inference, step_program, step_sequencer
from host.cycle_model.state import COUNTS, Engine, Tables, after_reset

__all__ = ["simulate"]


def simulate(active: np.ndarray, tables: Tables, engine: Engine) -> np.ndarray:
    """Runs inferences of one image.

    Parameters
    ----------
    active : bool array, shape ``[n, activations]``
        Which activations of all layers' inputs are not zero.
    tables : Tables
        Tables of the image, which its passes read.
    engine : Engine
        Constants of the engine.

    Returns
    -------
    COUNTS array, shape ``[n, passes]``
    """
    counts = np.zeros((len(active), len(tables.passes)), COUNTS)
    _infer_all(active, tables, engine, after_reset(len(active), engine), counts)
    return counts


def _compiled(sources: str) -> Any:
    """`_infer` for all inferences, kept in Numba's cache.

    Numba sees changes in the file of a cached function, but not in the modules that it imports. Captured variables are
    part of the cache's key, however: so the function captures ``sources``, a hash of all files of this package.
    """
    @numba.njit(cache=True)
    def infer_all(active, tables, engine, registers, counts):  # type: ignore[no-untyped-def]
        _ = sources
        for image in range(len(active)):
            _infer(active[image], tables, engine, registers, image, counts[image])
    return infer_all


@numba.njit(forceinline=True, _nrt=False)
def _infer(active, tables, engine, registers, image, pass_counts):  # type: ignore[no-untyped-def]
    """One inference; ``image`` is its index in ``registers``.

    In each cycle every unit sees the registers of the others as the cycle before has left them: it is stepped before
    the units whose registers it reads, or the values that it needs are read before those are stepped.
    """
    scanner, drain, control = registers.scanner[image], registers.drain[image], registers.control[image]
    program, sequencer = registers.program[image], registers.sequencer[image]
    broadcast = registers.broadcast[image]
    start_inference(sequencer, program, scanner, tables.passes, engine)
    cycle, ended = 0, False
    while not ended:
        cycle += 1
        ended = sequencer.last and not drain.busy
        one, counts = tables.passes[sequencer.number], pass_counts[sequencer.number]
        counts.cycles += 1
        grows, draining = arrives(drain, engine), drain.busy
        stop, quiet = control.stop, control.quiet if engine.late_quiet else control.sent and control.idle
        hold = _step_hold(control, drain, program, engine)
        full, idle = _step_clusters(broadcast[-1], registers, image, hold, one, tables, engine, counts)
        under_way = _step_broadcast(broadcast, counts)
        done = step_scanner(scanner, broadcast[0], one, tables.visits, active, drain, grows, stop, engine, counts)
        step_drain(drain, engine, counts)
        busy = step_program(program) or draining
        _step_control(control, full, done and not under_way, idle)
        if step_sequencer(sequencer, program, scanner, drain, tables.passes, quiet, busy, engine):
            counts.end = cycle


@numba.njit
def _step_hold(control, drain, program, engine):  # type: ignore[no-untyped-def]
    """`rtl.engine.control`: while the drain reads or tables are sent, the walkers hold, after the tree's latency."""
    control.held = control.held << 1 | (drain.steps_left > 0 or program.tables_left > 0)
    # Without a deep pipeline a walker also holds in the cycle after the last row was read (`rtl.engine.pe`).
    return (control.held >> engine.broadcast_cycles & 1 == 1
            or (not engine.deep and drain.arriving >> engine.broadcast_cycles & 1 == 1))


@numba.njit
def _step_clusters(beat, registers, image, hold, one, tables, engine, counts):  # type: ignore[no-untyped-def]
    """All clusters, see `host.cycle_model.cluster.step_cluster`; returns whether one is full and all are empty."""
    any_full, all_empty = False, True
    for number in range(engine.clusters):
        full, empty = step_cluster(
            number, beat, registers.beat_queues[image, number], registers.beats[image, number],
            registers.lookup[image, number], registers.pes[image], registers.jobs[image], hold, one, tables, engine,
            counts)
        any_full |= full
        all_empty &= empty
    return any_full, all_empty


@numba.njit
def _step_broadcast(broadcast, counts):  # type: ignore[no-untyped-def]
    """`rtl.engine.broadcast`, behind the scanner's output; returns whether a beat is on its way."""
    counts.beats += broadcast[0].valid
    counts.broadcasts += broadcast[0].present
    under_way = False
    for stage in range(1, len(broadcast)):
        under_way |= broadcast[stage].valid
    shift(broadcast)
    return under_way


@numba.njit
def _step_control(control, full, sent, idle):  # type: ignore[no-untyped-def]
    """`rtl.engine.gather`: the registers between the clusters, and scanner and sequencer."""
    control.stop, control.full = control.full, full
    control.quiet = control.sent and control.idle
    control.sent, control.idle = sent, idle


_infer_all = _compiled(hashlib.sha256(b"".join(
    path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).hexdigest())
