# SPDX-License-Identifier: Apache-2.0
"""The loop of the cycle model: each step is a clock cycle of an inference.

It repeats the registers of `scanner`, `slices`, `queue`, `walker`, `scatter`, `drain` and `sequencer` in
`rtl.engine` that decide when something happens. Compiled by Numba, it runs thousands of times faster than RTL.
"""

import numba
import numpy as np

__all__ = ["PASS_COLUMNS", "simulate"]

PASS_COLUMNS = 14
"""Columns of the table of passes."""
(COLS, WORDS, CHASE, DRAINED, WINDOW, SLICES, TAPS, ACTS, VISITS, VISITED, TABLES, TAP_BITS, SLOTS,
 UPPER) = range(PASS_COLUMNS)


@numba.njit(cache=True)
def simulate(active, table, visits, lengths, starts, taps, tap_offsets, constants):  # type: ignore[no-untyped-def]
    """Runs inferences of one image.

    Parameters
    ----------
    active : bool array, shape ``[n, activations]``
        Which activations of all layers' inputs are not zero.
    table : int64 array, shape ``[passes, PASS_COLUMNS]``
    visits : int64 array, shape ``[5, visits]``
        What the scanner reads in each pass, see `host.cycle_model.predict`.
    lengths, starts : int64 array, shape ``[slices]``
        Entries of each slice of all passes, PEs and columns, and how many of its PE's come before.
    taps, tap_offsets : int64 array
        Tap of each entry, -1 for a skip; where those of a PE of a pass begin.
    constants : int64 array
        Of the engine, in the order in which `_infer` takes them.

    Returns
    -------
    counters : int64 array, shape ``[n, 7]``
    ends, macs, sent : int64 array, shape ``[n, passes]``
        Of each pass the cycle of its end, its multiplications and its broadcasts.
    """
    images, passes = active.shape[0], table.shape[0]
    counters = np.zeros((images, 7), np.int64)
    ends = np.zeros((images, passes), np.int64)
    macs = np.zeros((images, passes), np.int64)
    sent = np.zeros((images, passes), np.int64)
    for image in range(images):
        _infer(active[image], table, visits, lengths, starts, taps, tap_offsets, constants,
               counters[image], ends[image], macs[image], sent[image])
    return counters, ends, macs, sent


@numba.njit(cache=True)
def _steps_of_rows(taps, at, last):  # type: ignore[no-untyped-def]
    """Steps and weights of a word's entries in `rtl.engine.walker`: a skip is free beside the weight after it."""
    steps, weights = 0, 0
    while at <= last:
        if taps[at] >= 0:
            weights += 1
            steps += 1
        elif at == last or taps[at + 1] < 0:
            steps += 1
        at += 1
    return steps, weights


@numba.njit(cache=True)
def _steps_of_taps(taps, at, last, tap_bits, rows, cols):  # type: ignore[no-untyped-def]
    """Useful weights of a word's entries in `rtl.engine.scatter`: only those whose tap is inside take a step."""
    useful = 0
    while at <= last:
        tap = taps[at]
        if tap >= 0 and (rows >> (tap >> tap_bits)) & 1 and (cols >> (tap & ((1 << tap_bits) - 1))) & 1:
            useful += 1
        at += 1
    return useful


@numba.njit(cache=True)
def _infer(active, table, visits, lengths, starts, taps, tap_offsets, constants,  # type: ignore[no-untyped-def]
           counters, ends, macs, sent):
    (pes, clusters, block_cols, group_cols, each, depth, limit, beat_depth, beat_limit, spread, row_cycles,
     fetch_cycles, lookup_cycles, drain_latency, tapped, deep, quiet_late, bypass, forwarding) = constants
    passes = table.shape[0]
    number = 0

    # Scanner registers.
    place, running, there = 0, True, not tapped
    read_valid, read_word = False, 0
    word_valid, word_word, word_col = False, 0, 0
    fresh_valid, fresh_word, waits = False, 0, False
    read_at_once, word_at_once = block_cols == pes or tapped > 0, group_cols == pes or tapped > 0
    grouped, group_valid, group_word, group_col, group_end = group_cols < pes, False, 0, 0, 0
    block_valid, block_first, block_next = False, 0, 0
    # A beat is -1 (none), or twice its activation (visit, lane), plus one if it is present. Beats on their way:
    # scanner's output, broadcast.
    beats = np.full(1 + spread, -1, np.int64)
    # Per cluster: beats that wait, if there is a queue for them, those in the register behind it and in the lookup.
    cluster_pes = pes // clusters
    beat_level, beat_front = np.zeros(clusters, np.int64), np.zeros(clusters, np.int64)
    beat_offered = np.zeros(clusters, np.bool_)
    beats_waiting = np.full((clusters, max(beat_depth, 1)), -1, np.int64)
    lookup = np.full((clusters, lookup_cycles + (1 if beat_depth else 0)), -1, np.int64)
    stop, full_before = False, False
    sent_all, idle_all = False, False
    # Per PE: queue and walker.
    level, front, offered = np.zeros(pes, np.int64), np.zeros(pes, np.int64), np.zeros(pes, np.bool_)
    waiting = np.zeros((pes, depth), np.int64)
    job_valid, job_entry, job_length = np.zeros(pes, np.bool_), np.zeros(pes, np.int64), np.zeros(pes, np.int64)
    fetched, fetched_entry, fetched_last = np.zeros(pes, np.bool_), np.zeros(pes, np.int64), np.zeros(pes, np.int64)
    raw, raw_entry, raw_last = np.zeros(pes, np.bool_), np.zeros(pes, np.int64), np.zeros(pes, np.int64)
    # Two more registers of `rtl.engine.scatter`; what is decoded, as steps to come; whether a visit is on its way.
    advanced, advanced_steps = np.zeros(pes, np.bool_), np.zeros(pes, np.int64)
    summed, summed_steps = np.zeros(pes, np.bool_), np.zeros(pes, np.int64)
    left, picked = np.zeros(pes, np.int64), np.zeros(pes, np.bool_)
    job_visit, fetched_visit, raw_visit = np.zeros(pes, np.int64), np.zeros(pes, np.int64), np.zeros(pes, np.int64)
    # Drain, program, sequencer.
    steps_left, row_cycle, acts_left, in_window, written, draining = 0, 0, 0, 0, 0, False
    arriving = np.zeros(spread + drain_latency, np.bool_)
    holds = np.zeros(spread + 1, np.bool_)
    slot, slots, upper = 0, 1, 1
    window, tables_left, fetch_left = 1, 0, (fetch_cycles if passes > 1 else 0)
    settle, final, quiet, free = 2, False, False, False
    cycle = 0

    while True:
        cycle += 1
        cols, words, chase = table[number, COLS], table[number, WORDS], table[number, CHASE]
        slices, acts, tap_row = table[number, SLICES], table[number, ACTS], table[number, TAPS]
        first_visit, count, tap_bits = table[number, VISITS], table[number, VISITED], table[number, TAP_BITS]

        # Scanner, combinational.
        beat, last_of_block = -1, False
        if block_valid:
            block_acts = acts + visits[0, first_visit + block_first // pes] * pes - block_first // pes * pes
            col = block_next
            while col < block_first + block_cols and not active[block_acts + col]:
                col += 1
            if col < block_first + block_cols:
                following = col + 1
                while following < block_first + block_cols and not active[block_acts + following]:
                    following += 1
                last_of_block = following >= block_first + block_cols
                beat = 2 * col + 1
            else:
                following = col
                last_of_block = True
                beat = 2 * block_first
        emit = block_valid and not stop
        if block_valid and stop:
            counters[5] += 1
        block_ready = not block_valid or (emit and last_of_block)
        oldest_word = fresh_word if fresh_valid else word_word
        scanned_cols = visits[4, first_visit + oldest_word]
        take_block = (group_valid if grouped else word_valid or fresh_valid) and block_ready
        group_ready = not group_valid or (take_block and group_col + block_cols >= group_end)
        take_part = (word_valid or fresh_valid) and (group_ready if grouped else block_ready)
        part_cols = group_cols if grouped else block_cols
        word_ends = word_col + part_cols >= scanned_cols
        word_taken = take_part and word_ends and not fresh_valid
        word_ready = not word_valid or (word_at_once and word_taken)
        read_ready = not read_valid or (read_at_once and word_ready)
        readable = chase + written if draining else words
        read = running and there and read_ready
        scan_done = not (running or read_valid or word_valid or fresh_valid or group_valid or block_valid
                         or beats[0] >= 0)
        if beats[0] >= 0:
            counters[1] += 1
            if beats[0] & 1:
                counters[2] += 1
                sent[number] += 1
        on_broadcast = False
        for stage in range(1, 1 + spread):
            on_broadcast |= beats[stage] >= 0
        next_sent = scan_done and not on_broadcast

        # Processing elements.
        reading = steps_left > 0
        holds[0] = reading or tables_left > 0
        hold = holds[spread] or (not deep and arriving[spread])
        full_now, next_idle = False, True
        arrived, arrived_act, arrived_col = False, 0, 0
        for pe in range(pes):
            first = slices + pe * cols
            cluster = pe // cluster_pes
            if pe % cluster_pes == 0:
                # The cluster's beat that arrives, and the one that enters its lookup.
                arrived_beat = lookup[cluster, -1]
                arrived = arrived_beat >= 0 and (arrived_beat & 1) == 1
                arrived_act = arrived_beat >> 1
                arrived_col = visits[1, first_visit + arrived_act // pes] + arrived_act % pes if arrived else 0
                entering = beats[spread]
                if beat_depth:
                    beats_before = beat_level[cluster]
                    full_now |= beats_before >= beat_limit
                    next_idle &= beats_before == 0 and entering < 0
                    beat_taken = beat_offered[cluster] and level[pe:pe + cluster_pes].max() < limit
                    if entering >= 0:
                        beats_waiting[cluster, (beat_front[cluster] + beats_before) % beat_depth] = entering
                        beat_level[cluster] += 1
                    entering = -1
                    if beat_taken:
                        entering = beats_waiting[cluster, beat_front[cluster]]
                        beat_front[cluster] = (beat_front[cluster] + 1) % beat_depth
                        beat_level[cluster] -= 1
                    beat_offered[cluster] = beats_before > (1 if beat_taken else 0)
                else:
                    next_idle &= entering < 0
                for stage in range(lookup.shape[1] - 1, 0, -1):
                    next_idle &= lookup[cluster, stage - 1] < 0
                    lookup[cluster, stage] = lookup[cluster, stage - 1]
                lookup[cluster, 0] = entering
            put = False
            if not deep:
                raw[pe], raw_entry[pe], raw_last[pe] = fetched[pe], fetched_entry[pe], fetched_last[pe]
                raw_visit[pe] = fetched_visit[pe]
            if arrived:
                put = lengths[first + arrived_col] > 0
                if not put:
                    counters[4] += 1
            full_now |= beat_depth == 0 and level[pe] >= limit
            next_idle &= not (put or level[pe] > 0 or job_valid[pe] or fetched[pe] or raw[pe]
                              or advanced[pe] or summed[pe] or left[pe] > (0 if tapped else 1) or picked[pe])
            # Decode.
            ready = left[pe] <= 1
            summed_ready = not summed[pe] or ready or summed_steps[pe] == 0
            advanced_ready = not advanced[pe] or summed_ready
            raw_ready = not raw[pe] or (advanced_ready if tapped else ready)
            fetch_ready = not fetched[pe] or raw_ready
            room = each - job_entry[pe] % each
            fetch = job_valid[pe] and fetch_ready and not hold
            at_end = job_length[pe] <= room
            next_job = not job_valid[pe] or (fetch and at_end)
            if put:
                waiting[pe, (front[pe] + level[pe]) % depth] = arrived_act
            take = (offered[pe] or (bypass and put)) and next_job
            word_steps, word_useful = 0, 0
            if raw[pe] and raw_ready:
                at = tap_offsets[tap_row + pe] + raw_entry[pe]
                last = tap_offsets[tap_row + pe] + raw_last[pe]
                if tapped:
                    visit = first_visit + raw_visit[pe]
                    word_useful = _steps_of_taps(taps, at, last, tap_bits, visits[2, visit], visits[3, visit])
                else:
                    word_steps, word_useful = _steps_of_rows(taps, at, last)
                counters[3] += word_useful
                macs[number] += word_useful
            if tapped:
                picked[pe] = left[pe] > 0
                if ready:
                    left[pe] = summed_steps[pe] if summed[pe] else 0
                else:
                    left[pe] -= 1
                if summed_ready:
                    summed[pe], summed_steps[pe] = advanced[pe], advanced_steps[pe]
                if advanced_ready:
                    advanced[pe], advanced_steps[pe] = raw[pe], word_useful
            elif ready:
                left[pe] = word_steps if raw[pe] else 0
            else:
                left[pe] -= 1
            if raw_ready:
                raw[pe], raw_entry[pe], raw_last[pe] = fetched[pe], fetched_entry[pe], fetched_last[pe]
                raw_visit[pe] = fetched_visit[pe]
            # Fetch.
            if fetch_ready:
                fetched[pe] = fetch
                fetched_entry[pe] = job_entry[pe]
                fetched_last[pe] = job_entry[pe] + min(room, job_length[pe]) - 1
                fetched_visit[pe] = job_visit[pe]
            if next_job:
                job_valid[pe] = take
                if take:
                    act = waiting[pe, front[pe]]
                    job = first + visits[1, first_visit + act // pes] + act % pes
                    job_entry[pe], job_length[pe], job_visit[pe] = starts[job], lengths[job], act // pes
            elif fetch:
                job_entry[pe] += room
                job_length[pe] -= room
            # Queue.
            before = level[pe]
            if take:
                front[pe] = (front[pe] + 1) % depth
            level[pe] = before + (1 if put else 0) - (1 if take else 0)
            # A block RAM's output register has an item a cycle later.
            offered[pe] = level[pe] > 0 if deep else before > (1 if take else 0)

        # Drain, combinational.
        taken = reading and row_cycle == row_cycles - 1
        arrived_word = arriving[spread + drain_latency - 1]
        if reading:
            counters[6] += 1
        program_busy = tables_left > 0 or fetch_left > 0
        switch = settle == 0 and not final and quiet and free
        free = not draining and not program_busy
        ended = final and not draining

        # Registers.
        for stage in range(spread, 0, -1):
            holds[stage] = holds[stage - 1]
        for stage in range(spread + drain_latency - 1, 0, -1):
            arriving[stage] = arriving[stage - 1]
        arriving[0] = taken
        if reading:
            steps_left -= 1
            row_cycle = 0 if taken else row_cycle + 1
        grows = arrived_word and draining
        forward = waits and grows
        waits = (forwarding and running and draining and chase + written == place
                 and not (grows or there or read_valid or word_valid or fresh_valid))
        if grows:
            in_window += 1
            if in_window == window:
                written += slot < upper
                slot = 0 if slot + 1 == slots else slot + 1
                in_window = 0
            acts_left -= 1
            draining = acts_left > 0
        if tables_left > 0:
            tables_left -= 1
        elif fetch_left > 0:
            fetch_left -= 1
        for stage in range(spread, 0, -1):
            beats[stage] = beats[stage - 1]
        beats[0] = beat if emit else -1
        if emit and not last_of_block:
            block_next = following
        if block_ready:
            block_valid = group_valid if grouped else word_valid or fresh_valid
            block_first = group_word * pes + group_col if grouped else oldest_word * pes + word_col
            block_next = block_first
        if grouped and group_ready:
            group_valid, group_word, group_col = word_valid, word_word, word_col
            group_end = min(word_col + group_cols, scanned_cols)
        elif grouped and take_block:
            group_col += block_cols
        if take_part:
            word_col = 0 if word_ends else word_col + part_cols
        if fresh_valid and take_part and word_ends:
            fresh_valid = False
        if word_taken:
            word_valid = False
        if word_ready:
            word_valid, word_word, read_valid = read_valid, read_word, False
        if read_ready:
            read_valid, read_word = read, place
        if forward:
            fresh_valid, fresh_word = True, place
        if read or forward:
            place += 1
            running = place != count
        there = place < count and visits[0, first_visit + place] < readable
        stop, full_before = full_before, full_now
        quiet_then = sent_all and idle_all
        sent_all, idle_all = next_sent, next_idle
        settle = max(settle - 1, 0)
        quiet = quiet_then if quiet_late > 1 else sent_all and idle_all

        if ended:
            counters[0] = cycle
            return
        if switch:
            ends[number] = cycle
            if table[number, DRAINED] > 0:
                steps_left, row_cycle = table[number, DRAINED] * row_cycles, 0
                acts_left, written, draining = table[number, DRAINED], 0, True
                window, in_window = table[number, WINDOW], 0
                slot, slots, upper = 0, table[number, SLOTS], table[number, UPPER]
            if number == passes - 1:
                final = True
            else:
                number += 1
                tables_left = table[number, TABLES]
                fetch_left = fetch_cycles if number < passes - 1 else 0
                place, running, waits, settle = 0, True, False, 2
                there = not tapped and (not draining or table[number, CHASE] > 0)
