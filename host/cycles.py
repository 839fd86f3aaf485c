# SPDX-License-Identifier: Apache-2.0
"""The cycle model: predicts exactly how many cycles an inference takes, and the engine's other counters.

It knows which activations are zero, how long slices are and where skips lie, and no values. Each step of the loop is a
clock cycle: it repeats the registers of `rtl.scanner`, `rtl.slices`, `rtl.queue`, `rtl.walker`, `rtl.drain`
and `rtl.sequencer` that decide when something happens. Compiled by Numba, it runs thousands of times faster than RTL.
"""

from dataclasses import dataclass

import numba
import numpy as np

from host.decode import Decoded
from rtl.config import EngineConfig
from rtl.layouts import beats_in_flight, broadcast_cycles, codebook_words, descriptor_words
from rtl.pe import ProcessingElement
from rtl.protocol import COUNTERS
from rtl.slices import SliceLookup

__all__ = ["Prediction", "predict"]

# Columns of the table of passes.
COLS, WORDS, CHASE, ROWS, SLICES, FLAGS, ACTS = range(7)


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
        Multiplications and broadcasts of each layer (of all its passes).
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
    table = np.zeros((len(passes), 7), np.int64)
    flag_offsets: list[int] = []
    slices = acts_before = flags_before = 0
    for row, one in zip(table, passes, strict=True):
        cols = one.lengths.shape[1]
        row[:] = (cols, one.input_words, one.chase_words, one.output_words, slices,
                  len(flag_offsets), acts_before)
        for skips in one.skips:
            flag_offsets.append(flags_before)
            flags_before += len(skips)
        slices += one.lengths.size
        acts_before += cols
    starts = [(np.cumsum(one.lengths, axis=1) - one.lengths).ravel() for one in passes]
    # One more flag, so that there is an entry after the last one.
    flags = [*(skips for one in passes for skips in one.skips), np.zeros(1, bool)]
    counters, ends, macs, sent = _simulate(
        np.concatenate([arranged[one.layer] for one in passes], axis=1), table,
        np.concatenate([one.lengths.ravel() for one in passes]), np.concatenate(starts), np.concatenate(flags),
        np.array(flag_offsets, np.int64), _constants(config))
    owner = np.array([one.layer for one in passes])
    merged = [np.stack([values[:, owner == number].sum(axis=1) for number in range(len(outputs))], axis=1)
              for values in (macs, sent)]
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


def _constants(config: EngineConfig) -> np.ndarray:
    codebook_cycles = config.codebook_entries + 1 if codebook_words(config) else 0
    return np.array([config.pes, config.block_cols, config.entries_per_word, config.queue_depth,
                     config.queue_depth - beats_in_flight(config), broadcast_cycles(config), config.bias_words,
                     codebook_cycles, descriptor_words(config) + 1, SliceLookup.latency_cycles,
                     ProcessingElement.drain_cycles])


@numba.njit(cache=True)
def _simulate(active, table, lengths, starts, flags, flag_offsets, constants):  # type: ignore[no-untyped-def]
    images, passes = active.shape[0], table.shape[0]
    counters = np.zeros((images, 7), np.int64)
    ends = np.zeros((images, passes), np.int64)
    macs = np.zeros((images, passes), np.int64)
    sent = np.zeros((images, passes), np.int64)
    for image in range(images):
        _infer(active[image], table, lengths, starts, flags, flag_offsets, constants,
               counters[image], ends[image], macs[image], sent[image])
    return counters, ends, macs, sent


@numba.njit(cache=True)
def _infer(active, table, lengths, starts, flags, flag_offsets, constants,  # type: ignore[no-untyped-def]
           counters, ends, macs, sent):
    (pes, block_cols, each, depth, limit, spread, bias_words, codebook_cycles, fetch_cycles, lookup_cycles,
     drain_latency) = constants
    passes = table.shape[0]
    number = 0

    # Scanner registers.
    place, running, there = 0, True, False
    read_valid, read_word = False, 0
    word_valid, word_word, word_col = False, 0, 0
    block_valid, block_first, block_next = False, 0, 0
    # A beat is -1 (none), or twice its column, plus one if it is present. Beats on their way: scanner's output,
    # broadcast, slice lookup.
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
    valid, entry, last_entry = np.zeros(pes, np.bool_), np.zeros(pes, np.int64), np.zeros(pes, np.int64)
    # Drain, program, sequencer.
    steps_left, bias_word, words_left, written, draining = 0, 0, 0, 0, False
    arriving = np.zeros(spread + drain_latency, np.bool_)
    holds = np.zeros(spread, np.bool_)
    codebook_left, fetch_left = 0, (fetch_cycles if passes > 1 else 0)
    settle, final, quiet = 2, False, False
    cycle = 0

    while True:
        cycle += 1
        cols, words, chase = table[number, COLS], table[number, WORDS], table[number, CHASE]
        slices, acts, flag_row = table[number, SLICES], table[number, ACTS], table[number, FLAGS]

        # Scanner, combinational.
        beat, last_of_block = -1, False
        if block_valid:
            col = block_next
            while col < block_first + block_cols and not active[acts + col]:
                col += 1
            if col < block_first + block_cols:
                following = col + 1
                while following < block_first + block_cols and not active[acts + following]:
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
        take_block = word_valid and block_ready
        word_ends = word_col + block_cols >= pes
        word_ready = not word_valid or (take_block and word_ends)
        read_ready = not read_valid or word_ready
        readable = chase + written if draining else words
        read = running and there and read_ready
        scan_done = not (running or read_valid or word_valid or block_valid or beats[0] >= 0)
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
        arrived_col = arrived_beat >> 1
        hold = holds[spread - 1]
        full_now, next_idle = False, True
        for pe in range(pes):
            first = slices + pe * cols
            put = False
            if arrived:
                put = lengths[first + arrived_col] > 0
                if not put:
                    counters[4] += 1
            full_now |= level[pe] >= limit
            next_idle &= not (in_lookup or put or level[pe] > 0 or job_valid[pe] or fetched[pe] or raw[pe]
                              or valid[pe])
            # Decode.
            done, useful, pair = False, False, False
            if valid[pe]:
                at = flag_offsets[flag_row + pe] + entry[pe]
                skips = flags[at]
                at_last = entry[pe] == last_entry[pe]
                pair = skips and not at_last and not flags[at + 1]
                useful = not skips or pair
                done = at_last or (pair and entry[pe] + 1 == last_entry[pe])
                if useful:
                    counters[3] += 1
                    macs[number] += 1
            ready = not valid[pe] or done
            raw_ready = not raw[pe] or ready
            fetch_ready = not fetched[pe] or raw_ready
            room = each - job_entry[pe] % each
            fetch = job_valid[pe] and fetch_ready and not hold
            at_end = job_length[pe] <= room
            next_job = not job_valid[pe] or (fetch and at_end)
            take = offered[pe] and next_job
            if ready:
                valid[pe], entry[pe], last_entry[pe] = raw[pe], raw_entry[pe], raw_last[pe]
            else:
                entry[pe] += 2 if pair else 1
            if raw_ready:
                raw[pe], raw_entry[pe], raw_last[pe] = fetched[pe], fetched_entry[pe], fetched_last[pe]
            # Fetch.
            if fetch_ready:
                fetched[pe] = fetch
                fetched_entry[pe] = job_entry[pe]
                fetched_last[pe] = job_entry[pe] + min(room, job_length[pe]) - 1
            if next_job:
                job_valid[pe] = take
                if take:
                    job = first + waiting[pe, front[pe]]
                    job_entry[pe], job_length[pe] = starts[job], lengths[job]
            elif fetch:
                job_entry[pe] += room
                job_length[pe] -= room
            # Queue.
            before = level[pe]
            if put:
                waiting[pe, (front[pe] + before) % depth] = arrived_col
            if take:
                front[pe] = (front[pe] + 1) % depth
            offered[pe] = before > (1 if take else 0)
            level[pe] = before + (1 if put else 0) - (1 if take else 0)

        # Drain, combinational.
        reading = steps_left > 0
        taken = reading and bias_word == bias_words - 1
        arrived_word = arriving[spread + drain_latency - 1]
        if reading:
            counters[6] += 1
        program_busy = codebook_left > 0 or fetch_left > 0
        switch = settle == 0 and not final and quiet and not draining and not program_busy
        ended = final and not draining

        # Registers.
        for stage in range(spread - 1, 0, -1):
            holds[stage] = holds[stage - 1]
        holds[0] = reading or codebook_left > 0
        for stage in range(spread + drain_latency - 1, 0, -1):
            arriving[stage] = arriving[stage - 1]
        arriving[0] = taken
        if reading:
            steps_left -= 1
            bias_word = 0 if taken else bias_word + 1
        if arrived_word and draining:
            written += 1
            words_left -= 1
            draining = words_left > 0
        if codebook_left > 0:
            codebook_left -= 1
        elif fetch_left > 0:
            fetch_left -= 1
        for stage in range(stages - 1, 0, -1):
            beats[stage] = beats[stage - 1]
        beats[0] = beat if emit else -1
        if emit and not last_of_block:
            block_next = following
        if block_ready:
            block_valid = word_valid
            block_first = word_word * pes + word_col
            block_next = block_first
        if take_block:
            word_col = 0 if word_ends else word_col + block_cols
        if word_ready:
            word_valid, word_word = read_valid, read_word
        if read_ready:
            read_valid, read_word = read, place
        if read:
            place += 1
            running = place != words
        there = place < readable
        stop, full_before = full_before, full_now
        next_quiet = sent_all and idle_all
        sent_all, idle_all = next_sent, next_idle
        settle = max(settle - 1, 0)
        quiet = next_quiet

        if ended:
            counters[0] = cycle
            return
        if switch:
            ends[number] = cycle
            steps_left, bias_word = table[number, ROWS] * bias_words, 0
            words_left, written, draining = table[number, ROWS], 0, True
            if number == passes - 1:
                final = True
            else:
                number += 1
                codebook_left = codebook_cycles
                fetch_left = fetch_cycles if number < passes - 1 else 0
                place, running, there, settle = 0, True, False, 2
