# SPDX-License-Identifier: Apache-2.0
"""A cycle of `rtl.engine.scanner`: which activation is broadcast, and when.

A word goes through four registers: read, word, group (if the engine has groups of blocks), block. Each of them has a
function, which first decides from the registers of the cycle before, then changes its own. The last register is stepped
first, since it reads those before it as they were.
"""

import numba

__all__ = ["start_scanner", "step_scanner"]


@numba.njit
def start_scanner(scanner, one, growing, tapped):  # type: ignore[no-untyped-def]
    """``start``: the pass ``one`` begins in the ``scanner``; some of its input may still be ``growing``.

    With convolutions (``tapped``) the first word may be read a cycle later.
    """
    scanner.place, scanner.running, scanner.waits = 0, True, False
    scanner.there = not tapped and (not growing or one.chase_words > 0)


@numba.njit
def step_scanner(scanner, beat, one, visits, active, drain, grows, stop, engine, counts):  # type: ignore[no-untyped-def]
    """Steps all registers of the scanner, and ``beat``, its output.

    Parameters
    ----------
    scanner : SCANNER
    beat : BEAT
    one : PASS
    visits : VISIT array
    active : bool array
        Which activations of all layers' inputs are not zero.
    drain : DRAIN
        The drain's registers in this cycle.
    grows, stop : bool
        ``grows``: the drain writes a word. ``stop``: no beat may leave.
    engine : Engine
    counts : COUNTS

    Returns
    -------
    bool
        ``done``: every beat of the pass has left.
    """
    done = not (scanner.running or scanner.read_valid or scanner.word_valid or scanner.fresh_valid
                or scanner.group_valid or scanner.block_valid or beat.valid)
    forward = scanner.waits and grows
    readable = one.chase_words + drain.written if drain.busy else one.input_words
    scanner.waits = (engine.forwards and scanner.running and drain.busy and readable == scanner.place
                     and not (grows or scanner.there or scanner.read_valid or scanner.word_valid
                              or scanner.fresh_valid))
    word_there = scanner.word_valid or scanner.fresh_valid
    visit = scanner.fresh_visit if scanner.fresh_valid else scanner.word_visit
    lanes = visits[one.first_visit + visit].acts if word_there else 0
    if engine.grouped:
        first = scanner.group_visit * engine.pes + scanner.group_lane
        taken = _step_block(scanner, beat, scanner.group_valid, first, one, visits, active, stop, engine, counts)
        taken = _step_group(scanner, taken, lanes, engine)
    else:
        first = visit * engine.pes + scanner.word_lane
        taken = _step_block(scanner, beat, word_there, first, one, visits, active, stop, engine, counts)
    word_ready = _step_word(scanner, taken, lanes, engine)
    _step_read(scanner, word_ready, forward, readable, one, visits, engine)
    return done


@numba.njit
def _step_block(scanner, beat, part_valid, part_first, one, visits, active, stop, engine,  # type: ignore[no-untyped-def]
                counts):
    """``block``, ``pending`` and ``beats``; returns whether a block of the part before is taken."""
    emit = scanner.block_valid and not stop
    if scanner.block_valid and stop:
        counts.stall_cycles += 1
    ready = not scanner.block_valid
    beat.valid, beat.present = emit, False
    if emit:
        visit, end = scanner.block_first // engine.pes, scanner.block_first + engine.block_cols
        before = one.first_act + (visits[one.first_visit + visit].word - visit) * engine.pes
        act = _next_active(active, before, scanner.block_next, end)
        scanner.block_next = _next_active(active, before, min(act + 1, end), end)
        # A block without activations is a beat, too.
        beat.present, beat.act = act < end, act if act < end else scanner.block_first
        ready = scanner.block_next == end
    if ready:
        scanner.block_valid = part_valid
        scanner.block_first = scanner.block_next = part_first
    return ready and part_valid


@numba.njit
def _next_active(active, before, act, end):  # type: ignore[no-untyped-def]
    """The first activation from ``act`` on that is not zero, or ``end``."""
    while act < end and not active[before + act]:
        act += 1
    return act


@numba.njit
def _step_group(scanner, block_taken, lanes, engine):  # type: ignore[no-untyped-def]
    """``group``: a group of the word's ``lanes`` that are scanned; returns whether a group of the word is taken."""
    ready = not scanner.group_valid or (block_taken and scanner.group_lane + engine.block_cols >= scanner.group_end)
    if ready:
        scanner.group_valid = scanner.word_valid
        scanner.group_visit, scanner.group_lane = scanner.word_visit, scanner.word_lane
        scanner.group_end = min(scanner.word_lane + engine.part_cols, lanes)
    elif block_taken:
        scanner.group_lane += engine.block_cols
    return ready and scanner.word_valid


@numba.njit
def _step_word(scanner, part_taken, lanes, engine):  # type: ignore[no-untyped-def]
    """``word``, and ``fresh``, which is sent first; returns ``word_ready``: ``word`` takes the word that was read."""
    word_taken = False
    if part_taken:
        scanner.word_lane += engine.part_cols
        if scanner.word_lane >= lanes:
            scanner.word_lane = 0
            word_taken = not scanner.fresh_valid
            scanner.fresh_valid = False
    # A word of several groups occupies this register for several cycles: it need not be refilled at once.
    ready = not scanner.word_valid or (word_taken and (engine.tapped or not engine.grouped))
    if word_taken:
        scanner.word_valid = False
    if ready:
        scanner.word_valid, scanner.word_visit = scanner.read_valid, scanner.read_visit
    return ready


@numba.njit
def _step_read(scanner, word_ready, forward, readable, one, visits, engine):  # type: ignore[no-untyped-def]
    """The memory's output, ``there`` and ``running``; with ``forward`` the word that is drained need not be read."""
    ready = not scanner.read_valid or (word_ready and (engine.tapped or engine.block_cols == engine.pes))
    step = scanner.running and scanner.there and ready
    if word_ready:
        scanner.read_valid = False
    if ready:
        scanner.read_valid, scanner.read_visit = step, scanner.place
    if forward:
        scanner.fresh_valid, scanner.fresh_visit = True, scanner.place
    if step or forward:
        scanner.place += 1
        scanner.running = scanner.place != one.visits
    scanner.there = scanner.place < one.visits and visits[one.first_visit + scanner.place].word < readable
