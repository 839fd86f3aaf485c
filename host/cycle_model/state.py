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
        Depth of a PE's queue and of a cluster's, and the level at which each is full; 0 if there is no queue of beats.
    broadcast_cycles, lookup_cycles, drain_cycles : int
        Latencies; ``lookup_cycles`` includes the register behind the queue of beats.
    fetch_cycles : int
        Cycles in which the program fetches a descriptor.
    grouped : bool
        Words go through the scanner in groups of blocks (`rtl.structure.scan_groups`).
    tapped : bool
        The engine runs convolutions.
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
    # Fields of the descriptor.
    input_words="i8", chase_words="i8", output_words="i8", output_pixel_words="i8", tap_bits="i8",
    drain_steps="i8",           # accumulators of a PE that are read; 0: the next pass adds to them
    window="i8",                # accumulators that one pooling window reduces to an activation
    table_cycles="i8",          # cycles in which codebook and tap table are sent
    late_cycles="i8",           # cycles after these in which the table of the activation function is sent
    first_act="i8",             # index of the first activation that the pass scans, among the inputs of all layers
    first_visit="i8", visits="i8",  # index of the pass's first visit in `Tables.visits`; number of its visits
    first_slice="i8",           # index of PE 0's first slice in `Tables.slices`; those of the other PEs follow
    first_taps="i8",            # index of PE 0 in `Tables.first_taps`
)
VISIT = _record(
    word="i8",                  # number of the word, counted from the pass's first
    first_col="i8",             # column of lane 0
    rows="i8", cols="i8",       # bit ``t``: an entry whose tap is in row (column) ``t`` of the kernel is useful
    acts="i8",                  # number of lanes that are scanned
)
SLICE = _record(
    first="i8",                 # number of the slice's first entry among the PE's entries of this pass
    length="i8",                # number of its entries
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
    **dict.fromkeys(COUNTERS, "i8"),  # events in the cycles in which this pass is the last that has begun
    end="i8",                   # cycle of the inference in which the pass is handed to the drain
)

BEAT = _record(
    valid="?",
    present="?",                # the beat carries a non-zero activation; never without ``valid``
    act="i8",                   # number of the activation
)
SCANNER = _record(
    place="i8",                 # number of visits that have been read
    running="?", there="?",     # ``running``: words are left to be read; ``there``: the next one can be read
    read_valid="?", read_visit="i8",
    word_valid="?", word_visit="i8", word_lane="i8",  # ``word_lane``: the word's first lane that has not been sent
    waits="?",                  # the scanner has nothing else to scan and waits for a word from the drain
    fresh_valid="?", fresh_visit="i8",  # a word that came from the drain directly
    group_valid="?", group_visit="i8", group_lane="i8", group_end="i8",  # lanes of the group still to be sent
    block_valid="?", block_first="i8", block_next="i8",  # the block's first activation; its first one not yet sent
)
QUEUE = _record(
    level="i8",                 # number of items held
    front="i8",                 # place of the oldest item
    offered="?",                # the oldest item can be taken
)
_WORD = _record(
    valid="?",
    first="i8", last="i8",      # first and last of the word's entries that belong to the slice
    visit="i8",                 # visit of the activation
)
_WALKER = _record(
    job_valid="?", job_first="i8", job_length="i8", job_visit="i8",  # entries of the job that have not been read
    fetched=_WORD,              # word at the entry memory's output
    raw=_WORD,                  # word in the register behind it
    steps_left="i8",            # steps left of the word that is decoded
    # Registers of `rtl.engine.scatter`.
    advanced_valid="?", advanced_steps="i8", summed_valid="?", summed_steps="i8", picked="?",
)
PE = _record(queue=QUEUE, walker=_WALKER)
DRAIN = _record(
    busy="?",                   # activations are left to be written
    steps_left="i8", row_cycle="i8",  # accumulators still to be read; cycles spent on the next one
    arriving="i8",              # bit ``n``: an accumulator was read ``n + 1`` cycles ago
    acts_left="i8",             # accumulators whose activations have not arrived yet
    window="i8", in_window="i8",  # accumulators of a pooling window, and how many of them have arrived
    slot="i8", slots="i8", upper_slots="i8",  # next word of a pixel; words of a pixel; those before the lower band
    written="i8",               # words written, without those of the lower band
)
PROGRAM = _record(tables_left="i8", late_left="i8", fetch_left="i8")  # cycles left
SEQUENCER = _record(
    number="i8",                # number of the pass that is scanned
    settle="i8",                # cycles left in which ``quiet`` still refers to the pass before
    free="?",                   # neither drain nor program is busy
    last="?",                   # the program's last pass is drained
)
CONTROL = _record(
    held="i8",                  # bit ``n``: the walkers were told to hold ``n`` cycles ago
    full="?", stop="?", sent="?", idle="?", quiet="?",  # registers of `rtl.engine.gather`
)


class Registers(NamedTuple):
    """Registers of the engine's units, a set for each inference: the first axis.

    Attributes
    ----------
    scanner : SCANNER array, shape ``[n]``
    broadcast : BEAT array, shape ``[n, 1 + broadcast_cycles]``
        The scanner's output, and the beats on their way to the clusters.
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
