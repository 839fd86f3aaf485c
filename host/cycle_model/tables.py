# SPDX-License-Identifier: Apache-2.0
"""Makes the tables that the cycle model's loop reads, and an engine's constants."""

from collections.abc import Sequence

import numpy as np

from host.cycle_model.state import PASS, SLICE, VISIT, Engine, Tables
from host.decoding.decode import Decoded, DecodedPass
from rtl.config import EngineConfig
from rtl.layouts import LayerKind, codebook_words, descriptor_words
from rtl.structure import broadcast_cycles, forwards, scan_groups
from rtl.timing import beat_queue_limit, drain_cycles, job_queue_limit, lookup_cycles, quiet_cycles

__all__ = ["active_inputs", "engine_constants", "image_tables"]


def engine_constants(config: EngineConfig) -> Engine:
    """The constants of an engine that the loop needs."""
    grouped = scan_groups(config) > 1
    return Engine(
        pes=config.pes, clusters=config.clusters, block_cols=config.block_cols,
        part_cols=config.pes // scan_groups(config) if grouped else config.block_cols,
        entries_per_word=config.entries_per_word, job_depth=config.queue_depth, job_limit=job_queue_limit(config),
        beat_depth=config.beat_queue_depth, beat_limit=beat_queue_limit(config),
        broadcast_cycles=broadcast_cycles(config),
        lookup_cycles=lookup_cycles(config) + (config.beat_queue_depth > 0), drain_cycles=drain_cycles(config),
        row_cycles=config.row_cycles, fetch_cycles=descriptor_words(config) + 2, grouped=grouped,
        tapped=config.tap_bits > 0, deep=config.deep_pipeline, late_quiet=quiet_cycles(config) > 1,
        bypass=config.hurried, forwards=forwards(config))


def image_tables(decoded: Decoded, layer_acts: Sequence[int]) -> Tables:
    """Tables of an image; the first input of layer ``n`` is activation ``layer_acts[n]`` of `active_inputs`."""
    config, bases = decoded.config, _input_bases(decoded)
    passes = np.zeros(len(decoded.passes), PASS)
    visits: list[np.ndarray] = []
    slices: list[np.ndarray] = []
    taps: list[np.ndarray] = []
    for row, one in zip(passes, decoded.passes, strict=True):
        offset = int(one.descriptor.input_base) - bases[one.layer]
        row["first_act"] = layer_acts[one.layer] + offset * config.pes
        row["first_visit"], row["first_slice"] = (sum(map(len, before)) for before in (visits, slices))
        row["first_taps"] = len(taps)
        _fill_pass(row, one, config)
        visits.append(_visits(one, config))
        row["visits"] = len(visits[-1])
        slices.append(_slices(one))
        taps += one.taps
    first_taps = np.cumsum([0, *map(len, taps)])[:-1]
    return Tables(passes, np.concatenate(visits), np.concatenate(slices), np.concatenate(taps), first_taps)


def active_inputs(decoded: Decoded, acts: np.ndarray, outputs: list[np.ndarray]) -> list[np.ndarray]:
    """Which inputs of each layer are not zero, in the order of the activation memory: bool ``[n, cols]`` each.

    Parameters
    ----------
    decoded : Decoded
        The image that the engine runs.
    acts : int64 array, shape ``[n, inputs]``
    outputs : list of int64 array, shape ``[n, rows]``
        Output activations of every layer.
    """
    order = decoded.image.input_order
    found = [np.where(order >= 0, acts[:, order] != 0, False)]
    for layer, values in zip(decoded.image.layers[:-1], outputs[:-1], strict=True):
        active = np.zeros((len(acts), layer["output_words"] * decoded.config.pes), bool)
        active[:, layer["output_order"]] = values != 0
        found.append(active)
    return found


def _input_bases(decoded: Decoded) -> list[int]:
    """Activation memory's address of each layer's input: 0, then where the layer before begins to write."""
    layers = len(decoded.network.layers)
    outputs = [min(int(one.descriptor.output_base) for one in decoded.passes if one.layer == number)
               for number in range(layers - 1)]
    return [0, *outputs]


def _fill_pass(row: np.void, one: DecodedPass, config: EngineConfig) -> None:
    """Fills the fields that follow from the pass alone."""
    fields = one.descriptor
    for name in ("input_words", "chase_words", "output_words"):
        row[name] = int(getattr(fields, name))
    row["cols"], row["table_cycles"] = one.lengths.shape[1], _table_cycles(one, config)
    row["output_pixel_words"], row["drain_steps"], row["window"] = row["output_words"], row["output_words"], 1
    if config.tap_bits:
        row["output_pixel_words"], row["tap_bits"] = int(fields.output_pixel_words), int(fields.tap_bits)
        row["window"] = int(fields.pool) ** 2
        row["drain_steps"] *= row["window"] * int(fields.pooled_cols) * int(fields.pooled_rows)
        if fields.hold_sums:
            row["drain_steps"] = 0


def _visits(one: DecodedPass, config: EngineConfig) -> np.ndarray:
    """The words that the scanner reads, in order: VISIT array."""
    fields = one.descriptor
    if not config.tap_bits:
        visits = np.zeros(int(fields.input_words), VISIT)
        visits["word"] = np.arange(len(visits))
        visits["first_col"], visits["acts"] = visits["word"] * config.pes, config.pes
        return visits
    row, col, word = (axis.ravel() for axis in np.indices(
        (int(fields.scan_rows), int(fields.scan_cols), int(fields.pixel_words))))
    visits = np.zeros(len(row), VISIT)
    visits["word"] = row * int(fields.row_step) + col * int(fields.pixel_step) + word
    visits["first_col"] = word * config.pes
    visits["rows"] = _taps_inside(row + int(fields.first_y), int(fields.out_rows), config)
    visits["cols"] = _taps_inside(col + int(fields.first_x), int(fields.out_cols), config)
    visits["acts"] = np.where(word + 1 == int(fields.pixel_words),
                              (int(fields.last_block) + 1) * config.block_cols, config.pes)
    return visits


def _taps_inside(at: np.ndarray, size: int, config: EngineConfig) -> np.ndarray:
    """A mask for each output row (or column) ``at`` that tap 0 adds to: bit ``t`` is set if tap ``t`` is inside."""
    taps = np.arange(1 << config.tap_bits)
    return (((at[:, None] >= taps) & (at[:, None] - taps < size)) << taps).sum(axis=1)


def _slices(one: DecodedPass) -> np.ndarray:
    """Slices of each PE and column: SLICE array."""
    slices = np.zeros(one.lengths.size, SLICE)
    slices["length"] = one.lengths.ravel()
    slices["first"] = (np.cumsum(one.lengths, axis=1) - one.lengths).ravel()
    return slices


def _table_cycles(one: DecodedPass, config: EngineConfig) -> int:
    """Cycles in which a pass's codebook and tap table are sent."""
    entries = config.codebook_entries if codebook_words(config) else 0
    if config.tap_bits and one.descriptor.kind == LayerKind.CONVOLUTION:
        entries += config.taps
    return entries + 1 if entries else 0
