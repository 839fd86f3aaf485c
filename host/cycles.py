# SPDX-License-Identifier: Apache-2.0
"""The cycle model: predicts exactly how many cycles an inference takes, and the engine's other counters.

It knows which activations are zero, how long slices are and which taps they hold, and no values. Each step of the loop
is a clock cycle: it repeats the registers of `rtl.scanner`, `rtl.slices`, `rtl.queue`, `rtl.walker`, `rtl.scatter`,
`rtl.drain` and `rtl.sequencer` that decide when something happens. Compiled by Numba, it runs thousands of times faster
than RTL.
"""

from dataclasses import dataclass

import numba
import numpy as np

from host.balance import layer_work
from host.decode import Decoded, DecodedPass
from rtl.cluster import drain_cycles
from rtl.config import EngineConfig
from rtl.layouts import (
    LayerKind,
    beats_in_flight,
    broadcast_cycles,
    codebook_words,
    descriptor_words,
    forwards,
    quiet_cycles,
    scan_groups,
)
from rtl.protocol import COUNTERS
from rtl.slices import SliceLookup

__all__ = ["Prediction", "predict"]

# Columns of the table of passes.
(COLS, WORDS, CHASE, DRAINED, WINDOW, SLICES, TAPS, ACTS, VISITS, VISITED, TABLES, TAP_BITS, SLOTS,
 UPPER) = range(14)


@dataclass(frozen=True)
class Prediction:
    """What the engine's counters will say.

    Attributes
    ----------
    counters : dict of int64 array, shape ``[n]``
        `rtl.protocol.COUNTERS` by name, for each inference.
    pass_ends : int64 array, shape ``[n, passes]``
        The cycle in which each pass of the program was handed to the drain.
    useful_macs, broadcasts : int64 array, shape ``[n, layers]``
        Multiplications and broadcasts of each layer (of all its passes). What two bands of a convolution both compute
        (`host.folding`) is counted once here, and twice by the counter.
    """

    counters: dict[str, np.ndarray]
    pass_ends: np.ndarray
    useful_macs: np.ndarray
    broadcasts: np.ndarray

    def ideal_cycles(self, pes: int) -> np.ndarray:
        """Useful multiplications over PEs, float64 ``[n]``."""
        return self.useful_macs.sum(axis=1) / pes

    def limit_cycles(self, pes: int) -> np.ndarray:
        """Sum over the layers of the greater of useful multiplications over PEs, and broadcasts: float64 ``[n]``."""
        return np.maximum(self.useful_macs / pes, self.broadcasts).sum(axis=1)


def predict(decoded: Decoded, acts: np.ndarray, outputs: list[np.ndarray]) -> Prediction:
    """Predicts inferences.

    Parameters
    ----------
    decoded : Decoded
        The image that the engine runs.
    acts : int64 array, shape ``[n, inputs]``
        Input activations.
    outputs : list of int64 array, shape ``[n, rows]``
        Output activations of every layer, see `host.reference.forward`.
    """
    config, passes = decoded.config, decoded.passes
    arranged = _arranged(decoded, acts, outputs)
    acts_before = np.cumsum([0, *(active.shape[1] for active in arranged)])
    bases = _input_bases(decoded)
    table = np.zeros((len(passes), 14), np.int64)
    visits: list[np.ndarray] = []
    tap_offsets: list[int] = []
    slices = taps_before = visits_before = 0
    for row, one in zip(table, passes, strict=True):
        upper = int(one.descriptor.output_pixel_words) if config.tap_bits else one.output_words
        steps, window = _drain_steps(one, config)
        visits.append(_visits(one, config))
        offset = int(one.descriptor.input_base) - bases[one.layer]
        row[:] = (one.lengths.shape[1], one.input_words, one.chase_words, steps, window, slices, len(tap_offsets),
                  acts_before[one.layer] + offset * config.pes, visits_before, visits[-1].shape[1],
                  _table_cycles(one, config), _tap_bits(one, config), one.output_words,
                  upper)
        for taps in one.taps:
            tap_offsets.append(taps_before)
            taps_before += len(taps)
        slices += one.lengths.size
        visits_before += visits[-1].shape[1]
    starts = [(np.cumsum(one.lengths, axis=1) - one.lengths).ravel() for one in passes]
    counters, ends, macs, sent = _simulate(
        np.concatenate(arranged, axis=1), table, np.concatenate(visits, axis=1),
        np.concatenate([one.lengths.ravel() for one in passes]), np.concatenate(starts),
        np.concatenate([taps for one in passes for taps in one.taps]),
        np.array(tap_offsets, np.int64), _constants(config))
    owner = np.array([one.layer for one in passes])
    merged = [np.stack([values[:, owner == number].sum(axis=1) for number in range(len(outputs))], axis=1)
              for values in (macs, sent)]
    first, fold = decoded.network.layers[0], decoded.image.layers[0].get("fold")
    if fold and fold.bands > 1:
        merged[0][:, 0] = [round(layer_work(first, one != 0).sum()) for one in acts]
    return Prediction({name: counters[:, place] for place, name in enumerate(COUNTERS)}, ends, *merged)


def _arranged(decoded: Decoded, acts: np.ndarray, outputs: list[np.ndarray]) -> list[np.ndarray]:
    """Which inputs of each layer are not zero, in the order of the activation memory: bool ``[n, cols]`` each."""
    order = decoded.image.input_order
    arranged = [np.where(order >= 0, acts[:, order] != 0, False)]
    for layer, values in zip(decoded.image.layers[:-1], outputs[:-1], strict=True):
        active = np.zeros((len(acts), layer["output_words"] * decoded.config.pes), bool)
        active[:, layer["output_order"]] = values != 0
        arranged.append(active)
    return arranged


def _input_bases(decoded: Decoded) -> list[int]:
    """Activation memory's address of each layer's input: 0, then where the layer before begins to write."""
    layers = len(decoded.network.layers)
    outputs = [min(int(one.descriptor.output_base) for one in decoded.passes if one.layer == number)
               for number in range(layers - 1)]
    return [0, *outputs]


def _tap_bits(one: DecodedPass, config: EngineConfig) -> int:
    return int(one.descriptor.tap_bits) if config.tap_bits else 0


def _visits(one: DecodedPass, config: EngineConfig) -> np.ndarray:
    """What the scanner reads, in order: int64 ``[5, visits]``.

    Each word's offset from the pass's first, the first of its columns, as bits the rows and the columns of taps
    that are inside, and how many activations of the word are scanned.
    """
    if not config.tap_bits:
        words = np.arange(one.input_words)
        return np.stack([words, words * config.pes, np.ones_like(words), np.ones_like(words),
                         np.full_like(words, config.pes)])
    pass_ = one.descriptor
    row, col, word = np.meshgrid(np.arange(int(pass_.scan_rows)), np.arange(int(pass_.scan_cols)),
                                 np.arange(int(pass_.pixel_words)), indexing="ij")
    tap = np.arange(1 << config.tap_bits)[:, None, None, None]
    inside = [((at - tap >= 0) & (at - tap < size)) * (1 << tap) for at, size in (
        (row + int(pass_.first_y), int(pass_.out_rows)), (col + int(pass_.first_x), int(pass_.out_cols)))]
    return np.stack([part.ravel() for part in (
        row * int(pass_.row_step) + col * int(pass_.pixel_step) + word, word * config.pes,
        inside[0].sum(axis=0), inside[1].sum(axis=0),
        np.where(word + 1 == int(pass_.pixel_words), (int(pass_.last_block) + 1) * config.block_cols, config.pes))])


def _drain_steps(one: DecodedPass, config: EngineConfig) -> tuple[int, int]:
    """Accumulators of a PE that the drain reads after a pass, some of them twice, and how many make one activation."""
    if not config.tap_bits:
        return one.output_words, 1
    window = int(one.descriptor.pool) ** 2
    pixels = int(one.descriptor.pooled_cols) * int(one.descriptor.pooled_rows)
    return 0 if one.descriptor.hold_sums else one.output_words * pixels * window, window


def _table_cycles(one: DecodedPass, config: EngineConfig) -> int:
    """Cycles in which a pass's codebook and tap table are sent."""
    entries = config.codebook_entries if codebook_words(config) else 0
    if config.tap_bits and one.descriptor.kind == LayerKind.CONVOLUTION:
        entries += config.taps
    return entries + 1 if entries else 0


def _constants(config: EngineConfig) -> np.ndarray:
    return np.array([config.pes, config.block_cols, config.pes // scan_groups(config), config.entries_per_word,
                     config.queue_depth, config.queue_depth - beats_in_flight(config), broadcast_cycles(config),
                     config.row_cycles, descriptor_words(config) + 2, SliceLookup.latency_cycles(config),
                     drain_cycles(config), config.tap_bits, config.deep_pipeline, quiet_cycles(config),
                     config.hurried, forwards(config)])


@numba.njit(cache=True)
def _simulate(active, table, visits, lengths, starts, taps, tap_offsets, constants):  # type: ignore[no-untyped-def]
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
    """Steps and weights of a word's entries in `rtl.walker`: a skip is free beside the weight after it."""
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
    """Useful weights of a word's entries in `rtl.scatter`: only those whose tap is inside take a step."""
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
    (pes, block_cols, group_cols, each, depth, limit, spread, row_cycles, fetch_cycles, lookup_cycles, drain_latency,
     tapped, deep, quiet_late, bypass, forwarding) = constants
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
    # scanner's output, broadcast, slice lookup.
    stages = 1 + spread + lookup_cycles
    beats = np.full(stages, -1, np.int64)
    stop, full_before = False, False
    sent_all, idle_all = False, False
    # Per PE: queue and walker.
    level, front, offered = np.zeros(pes, np.int64), np.zeros(pes, np.int64), np.zeros(pes, np.bool_)
    waiting = np.zeros((pes, depth), np.int64)
    job_valid, job_entry, job_length = np.zeros(pes, np.bool_), np.zeros(pes, np.int64), np.zeros(pes, np.int64)
    fetched, fetched_entry, fetched_last = np.zeros(pes, np.bool_), np.zeros(pes, np.int64), np.zeros(pes, np.int64)
    raw, raw_entry, raw_last = np.zeros(pes, np.bool_), np.zeros(pes, np.int64), np.zeros(pes, np.int64)
    # Two more registers of `rtl.scatter`; what is decoded, as steps to come; whether a visit is on its way.
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
        in_lookup = False
        for stage in range(spread, stages - 1):
            in_lookup |= beats[stage] >= 0
        next_sent = scan_done and not on_broadcast

        # Processing elements.
        arrived_beat = beats[stages - 1]
        arrived = arrived_beat >= 0 and (arrived_beat & 1) == 1
        arrived_act = arrived_beat >> 1
        arrived_col = visits[1, first_visit + arrived_act // pes] + arrived_act % pes if arrived else 0
        reading = steps_left > 0
        holds[0] = reading or tables_left > 0
        hold = holds[spread] or (not deep and arriving[spread])
        full_now, next_idle = False, True
        for pe in range(pes):
            first = slices + pe * cols
            put = False
            if not deep:
                raw[pe], raw_entry[pe], raw_last[pe] = fetched[pe], fetched_entry[pe], fetched_last[pe]
                raw_visit[pe] = fetched_visit[pe]
            if arrived:
                put = lengths[first + arrived_col] > 0
                if not put:
                    counters[4] += 1
            full_now |= level[pe] >= limit
            next_idle &= not (in_lookup or put or level[pe] > 0 or job_valid[pe] or fetched[pe] or raw[pe]
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
        for stage in range(stages - 1, 0, -1):
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
