# SPDX-License-Identifier: Apache-2.0
"""The cycle model: predicts exactly how many cycles an inference takes, and the engine's other counters.

It knows which activations are zero, how long slices are and which taps they hold, and no values. This module makes
tables of them; `host.cycle_model.loop` goes through them, cycle by cycle.
"""

from dataclasses import dataclass

import numpy as np

from host.cycle_model.loop import PASS_COLUMNS, simulate
from host.decoding.decode import Decoded, DecodedPass
from host.quantization.work import layer_work
from nonzero.progress import progress, waiting
from rtl.config import EngineConfig
from rtl.layouts import LayerKind, codebook_words, descriptor_words
from rtl.protocol import COUNTERS
from rtl.structure import broadcast_cycles, forwards, scan_groups
from rtl.timing import beat_queue_limit, drain_cycles, job_queue_limit, lookup_cycles, quiet_cycles

__all__ = ["Prediction", "predict"]

BLOCK_INPUTS = 8
"""Inputs from one step of the progress bar to the next."""


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
        (`host.image.space_to_depth`) is counted once here, and twice by the counter.
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
        Output activations of every layer, see `host.quantization.golden_model.forward`.
    """
    config, passes = decoded.config, decoded.passes
    arranged = _arranged(decoded, acts, outputs)
    acts_before = np.cumsum([0, *(active.shape[1] for active in arranged)])
    bases = _input_bases(decoded)
    table = np.zeros((len(passes), PASS_COLUMNS), np.int64)
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
    active = np.concatenate(arranged, axis=1)
    tables = (table, np.concatenate(visits, axis=1), np.concatenate([one.lengths.ravel() for one in passes]),
              np.concatenate(starts), np.concatenate([taps for one in passes for taps in one.taps]),
              np.array(tap_offsets, np.int64), _constants(config))
    with waiting("cycle model"):
        found = [simulate(active[:0], *tables)]
    found += [simulate(active[first:first + BLOCK_INPUTS], *tables)
              for first in progress("cycle model", range(0, len(active), BLOCK_INPUTS), f"{BLOCK_INPUTS} inputs")]
    counters, ends, macs, sent = map(np.concatenate, zip(*found, strict=True))
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
    return np.array([config.pes, config.clusters, config.block_cols, config.pes // scan_groups(config),
                     config.entries_per_word, config.queue_depth, job_queue_limit(config), config.beat_queue_depth,
                     beat_queue_limit(config), broadcast_cycles(config), config.row_cycles,
                     descriptor_words(config) + 2, lookup_cycles(config), drain_cycles(config), config.tap_bits,
                     config.deep_pipeline, quiet_cycles(config), config.hurried, forwards(config)])
