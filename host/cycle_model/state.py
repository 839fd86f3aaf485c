# SPDX-License-Identifier: Apache-2.0
"""Data of the cycle model's loop: an engine's constants, an image's tables, and the registers of each unit.

Registers are numpy records, so that Numba reads and writes them by name. Activations are counted in the order in which
a pass scans them: lane ``l`` of word ``v`` is activation ``v * pes + l``. Such a word is a visit, since a convolution
reads some words again and leaves out others.
"""

from typing import NamedTuple

import numpy as np

from rtl.protocol import COUNTERS

__all__ = [
    "BEAT", "CONTROL", "COUNTS", "DRAIN", "PASS", "PE", "PROGRAM", "QUEUE", "SCANNER", "SEQUENCER", "SLICE",
    "VISIT", "Engine", "Registers", "Tables", "after_reset",
]


def _record(**fields: object) -> np.dtype:
    return np.dtype((np.record, list(fields.items())))


class Engine(NamedTuple):
    """Constants of an engine, see `rtl.config.EngineConfig` and `rtl.engine.timing`.

    Attributes
    ----------
    pes, clusters, block_cols, entries_per_word, row_cycles : int
    part_cols : int
        Lanes that leave the scanner's word register together: a group of blocks if ``grouped``, else a block.
    job_depth, job_limit, beat_depth, beat_limit : int
        Places of a PE's queue and of a cluster's, and the number of items that makes each full. No queue of beats: 0.
    broadcast_cycles, lookup_cycles, drain_cycles : int
        A cycle of the register behind the queue of beats is part of ``lookup_cycles``.
    fetch_cycles : int
        Cycles in which the program fetches a descriptor.
    grouped : bool
        Words go through the scanner in groups of blocks (`rtl.structure.scan_groups`).
    tapped : bool
        It runs convolutions.
    deep : bool
        `EngineConfig.deep_pipeline`.
    late_quiet : bool
        A register lies between the clusters' ``idle`` and the sequencer's ``quiet``.
    bypass : bool
        A slice can pass an empty queue in the cycle in which it comes.
    forwards : bool
        A word that is drained also goes to the scanner directly.
    """

    pes: int
    clusters: int
    block_cols: int
    part_cols: int
    entries_per_word: int
    job_depth: int
    job_limit: int
    beat_depth: int
    beat_limit: int
    broadcast_cycles: int
    lookup_cycles: int
    drain_cycles: int
    row_cycles: int
    fetch_cycles: int
    grouped: bool
    tapped: bool
    deep: bool
    late_quiet: bool
    bypass: bool
    forwards: bool


PASS = _record(
    cols="i8",                  # columns of a PE's slices
    input_words="i8", chase_words="i8", output_words="i8", output_pixel_words="i8", tap_bits="i8",  # of the descriptor
    drain_steps="i8",           # accumulators of a PE that are read; 0: the next pass adds to them
    window="i8",                # of them make one activation
    table_cycles="i8",          # in which codebook and tap table are sent
    late_cycles="i8",           # after these, in which the table of the activation function is sent
    first_act="i8",             # of the layers' inputs, the first that the pass scans
    first_visit="i8", visits="i8",
    first_slice="i8",           # of PE 0; those of the other PEs follow
    first_taps="i8",            # place in `Tables.first_taps` of PE 0
)
VISIT = _record(
    word="i8",                  # counted from the pass's first
    first_col="i8",             # column of lane 0
    rows="i8", cols="i8",       # bit ``t``: an entry whose tap is in row (column) ``t`` of the kernel is useful
    acts="i8",                  # lanes that are scanned
)
SLICE = _record(
    first="i8",                 # entries of the PE before it in this pass
    length="i8",
)


class Tables(NamedTuple):
    """Contents of an image without the values of weights.

    Attributes
    ----------
    passes : PASS array
    visits : VISIT array
        Visits of all passes.
    slices : SLICE array
        Slices of all passes, PEs and columns.
    taps : int16 array
        Tap of each entry of all passes and PEs, 0 in a fully connected layer; -1 for a skip.
    first_taps : int64 array
        Place in ``taps`` where those of each PE of each pass begin.
    """

    passes: np.ndarray
    visits: np.ndarray
    slices: np.ndarray
    taps: np.ndarray
    first_taps: np.ndarray


COUNTS = _record(
    **dict.fromkeys(COUNTERS, "i8"),  # in the cycles in which the pass is the last that has begun
    end="i8",                   # the cycle of the inference in which it is handed to the drain
)

BEAT = _record(
    valid="?",
    present="?",                # there is a non-zero activation; never without ``valid``
    act="i8",
)
SCANNER = _record(
    place="i8",                 # visits that have been read
    running="?", there="?",     # words are left to be read; the next one can be
    read_valid="?", read_visit="i8",
    word_valid="?", word_visit="i8", word_lane="i8",  # the first lane that has not gone on
    waits="?", fresh_valid="?", fresh_visit="i8",  # a word that came from the drain directly
    group_valid="?", group_visit="i8", group_lane="i8", group_end="i8",
    block_valid="?", block_first="i8", block_next="i8",  # activations: the block's first; the first not yet sent
)
QUEUE = _record(
    level="i8",                 # items held
    front="i8",                 # place of the oldest
    offered="?",                # it can be taken
)
_WORD = _record(
    valid="?",
    first="i8", last="i8",      # entries of the word that belong to the slice
    visit="i8",
)
_WALKER = _record(
    job_valid="?", job_first="i8", job_length="i8", job_visit="i8",  # entries that have not been read
    fetched=_WORD,              # at the entry memory's output
    raw=_WORD,                  # in the register behind it
    steps_left="i8",            # of the word that is decoded
    advanced_valid="?", advanced_steps="i8", summed_valid="?", summed_steps="i8", picked="?",  # `rtl.engine.scatter`
)
PE = _record(queue=QUEUE, walker=_WALKER)
DRAIN = _record(
    busy="?",                   # activations are left to be written
    steps_left="i8", row_cycle="i8",  # accumulators to be read; cycles that the next one has taken
    arriving="i8",              # bit ``n``: an accumulator was read ``n + 1`` cycles ago
    acts_left="i8",
    window="i8", in_window="i8",  # accumulators of an activation, and how many of them have arrived
    slot="i8", slots="i8", upper_slots="i8",  # words of a pixel; those before the lower band
    written="i8",               # words, without the lower band's
)
PROGRAM = _record(tables_left="i8", late_left="i8", fetch_left="i8")
SEQUENCER = _record(
    number="i8",                # of the pass that is scanned
    settle="i8",                # cycles in which ``quiet`` still speaks of the pass before
    free="?",                   # neither drain nor program is busy
    last="?",                   # the program's last pass is drained
)
CONTROL = _record(
    held="i8",                  # bit ``n``: the walkers were to hold ``n`` cycles ago
    full="?", stop="?", sent="?", idle="?", quiet="?",
)


class Registers(NamedTuple):
    """Registers of the engine's units, a set for each inference: the first axis.

    Attributes
    ----------
    scanner : SCANNER array, shape ``[n]``
    broadcast : BEAT array, shape ``[n, 1 + broadcast_cycles]``
        The scanner's output, and those on their way to the clusters.
    beat_queues, beats : QUEUE array, shape ``[n, clusters]``; BEAT array, shape ``[n, clusters, beat_depth]``
    lookup : BEAT array, shape ``[n, clusters, lookup_cycles]``
    pes, jobs : PE array, shape ``[n, pes]``; int64 array, shape ``[n, pes, job_depth]``
        A job in a queue is the activation that was broadcast.
    drain, program, sequencer, control : array of the record of that name, shape ``[n]``
    """

    scanner: np.ndarray
    broadcast: np.ndarray
    beat_queues: np.ndarray
    beats: np.ndarray
    lookup: np.ndarray
    pes: np.ndarray
    jobs: np.ndarray
    drain: np.ndarray
    program: np.ndarray
    sequencer: np.ndarray
    control: np.ndarray


def after_reset(images: int, engine: Engine) -> Registers:
    """Registers of the engine ``engine``, all idle, for ``images`` inferences that are simulated side by side."""
    clusters, pes = (images, engine.clusters), (images, engine.pes)
    return Registers(
        np.zeros(images, SCANNER), np.zeros((images, 1 + engine.broadcast_cycles), BEAT),
        np.zeros(clusters, QUEUE), np.zeros((*clusters, engine.beat_depth), BEAT),
        np.zeros((*clusters, engine.lookup_cycles), BEAT),
        np.zeros(pes, PE), np.zeros((*pes, engine.job_depth), np.int64),
        np.zeros(images, DRAIN), np.zeros(images, PROGRAM), np.zeros(images, SEQUENCER), np.zeros(images, CONTROL))
