# SPDX-License-Identifier: Apache-2.0
"""Makes the tables that the cycle model's loop reads, and an engine's constants."""

from collections.abc import Sequence

import numpy as np

from host.cycle_model.state import PASS, SLICE, VISIT, Engine, Tables
from host.decoding.decode import Decoded, DecodedPass
from host.quantization.integer_network import spare_activation, spare_bias
from rtl.config import EngineConfig
from rtl.engine.timing import (
    beat_queue_limit,
    drain_cycles,
    fetch_cycles,
    forwards,
    job_queue_limit,
    late_cycles,
    lookup_cycles,
    quiet_cycles,
    table_cycles,
)
from rtl.structure import broadcast_cycles, scan_groups

__all__ = ["active_inputs", "engine_constants", "image_tables"]


def engine_constants(config: EngineConfig) -> Engine:
    """The constants that the loop needs of an engine with the configuration ``config``."""
    grouped = scan_groups(config) > 1
    return Engine(
        pes=config.pes, clusters=config.clusters, block_cols=config.block_cols,
        part_cols=config.pes // scan_groups(config) if grouped else config.block_cols,
        entries_per_word=config.entries_per_word, job_depth=config.queue_depth, job_limit=job_queue_limit(config),
        beat_depth=config.beat_queue_depth, beat_limit=beat_queue_limit(config),
        broadcast_cycles=broadcast_cycles(config),
        lookup_cycles=lookup_cycles(config), drain_cycles=drain_cycles(config),
        row_cycles=config.row_cycles, fetch_cycles=fetch_cycles(config), grouped=grouped,
        tapped=config.tap_bits > 0, deep=config.deep_pipeline, late_quiet=quiet_cycles(config) > 1,
        bypass=config.hurried, forwards=forwards(config))


def image_tables(decoded: Decoded, layer_acts: Sequence[int]) -> Tables:
    """The tables of an image.

    Parameters
    ----------
    decoded : Decoded
        Content of the image.
    layer_acts : sequence of int
        For each layer the place of its first input among the activations of `active_inputs`, concatenated.
    """
    config, bases = decoded.config, _input_bases(decoded)
    passes = np.zeros(len(decoded.passes), PASS)
    visits: list[np.ndarray] = []
    slices: list[np.ndarray] = []
    taps: list[np.ndarray] = []
    for row, one in zip(passes, decoded.passes, strict=True):
        offset = int(one.descriptor.input_base) - bases[one.source + 1]
        row["first_act"] = layer_acts[one.source + 1] + offset * config.pes
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
    for layer, made, values in zip(decoded.image.layers[:-1], decoded.network.layers[:-1], outputs[:-1], strict=True):
        # Places without an output hold what a table makes of nothing.
        spare = spare_activation(made, spare_bias(made, decoded.config.acc_bits)) != 0
        active = np.full((len(acts), layer["output_words"] * decoded.config.pes), spare)
        active[:, layer["output_order"]] = values != 0
        found.append(active)
    return found


def _input_bases(decoded: Decoded) -> list[int]:
    """Address of each layer's input in the activation memory: 0, then the first word that the layer before writes."""
    layers = len(decoded.network.layers)
    outputs = [min(int(one.descriptor.output_base) for one in decoded.passes if one.layer == number)
               for number in range(layers - 1)]
    return [0, *outputs]


def _fill_pass(row: np.void, one: DecodedPass, config: EngineConfig) -> None:
    """Fills the fields that follow from the pass alone."""
    fields = one.descriptor
    for name in ("input_words", "chase_words", "output_words", "output_pixel_words", "tap_bits"):
        row[name] = int(getattr(fields, name))
    row["cols"] = one.lengths.shape[1]
    row["table_cycles"], row["late_cycles"] = table_cycles(config, fields), late_cycles(config, fields)
    row["window"] = int(fields.pool) ** 2
    drained = 0 if fields.hold_sums else row["output_words"]
    row["drain_steps"] = drained * row["window"] * int(fields.pooled_cols) * int(fields.pooled_rows)


def _visits(one: DecodedPass, config: EngineConfig) -> np.ndarray:
    """The words that the scanner reads, in order: VISIT array."""
    fields = one.descriptor
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
    """A mask for each element of ``at``, the output row (or column) of tap 0: bit ``t`` is set if tap ``t`` is inside.
    """
    taps = np.arange(1 << config.tap_bits)
    return (((at[:, None] >= taps) & (at[:, None] - taps < size)) << taps).sum(axis=1)


def _slices(one: DecodedPass) -> np.ndarray:
    """Slices of each PE and column: SLICE array."""
    slices = np.zeros(one.lengths.size, SLICE)
    slices["length"] = one.lengths.ravel()
    slices["first"] = (np.cumsum(one.lengths, axis=1) - one.lengths).ravel()
    return slices


