# SPDX-License-Identifier: Apache-2.0
"""Maps a network to the PEs: the places of activations, the PE of each row, and the entries of every pass."""

import math
from dataclasses import dataclass

import numpy as np

from host.image.activation_layout import ActivationLayout
from host.image.space_to_depth import Fold
from host.network.graph import input_readers, sources
from host.packing.added_passes import added_passes
from host.packing.balance_rows import Assignment, assign_bands, assign_map, assign_rows, order_rows
from host.packing.boundaries import input_layout, input_shape, output_layout, scanned_channels
from host.packing.conv_scans import Scan, scans
from host.packing.encode import EncodedPass, encode_pass
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from host.quantization.work import layer_work, tap_activity
from rtl.config import EngineConfig

__all__ = ["MappedLayer", "dropped_share", "fold_choices", "map_network"]

BANDS_PAY = 0.95
"""A convolution gets two bands if they reduce the busiest PE's work to at most this share."""

MANY_DROPPED = 0.25
"""If a greater share of a layer's taps falls outside its output, these taps are balanced as well."""

DROPPED = (0, 0.05, 0.1, 0.15, 0.2)
"""Costs that are tried for a tap outside the output, relative to a useful one: a word without a useful entry takes a
cycle only sometimes."""

EMPTY_CYCLES = 0.4
"""Mean cycles that a PE loses for each word that it reads in addition to the words that its useful entries would fill.
Measured on LeNet-5's second convolution."""


@dataclass(frozen=True)
class MappedLayer:
    """A layer on the PEs.

    Attributes
    ----------
    layer : QuantizedLayer
        The layer as the engine runs it: the first one may be folded.
    assignment : Assignment
        Assignment of its rows.
    source, output : ActivationLayout
        Layouts of its inputs and outputs.
    output_words : int
        Activation words that its drain writes.
    passes : list of EncodedPass
        Those of the same rows follow each other; those that add another layer's outputs come last.
    added : ActivationLayout or None
        Layout of the outputs that are added.
    """

    layer: QuantizedLayer
    assignment: Assignment
    source: ActivationLayout
    output: ActivationLayout
    output_words: int
    passes: list[EncodedPass]
    added: ActivationLayout | None = None

    @property
    def pixel_slots(self) -> int:
        """Words of a pixel that it drains: all of a fully connected layer, even if its outputs are a map."""
        return self.output.pixel_words if self.layer.geometry else self.assignment.words

    @property
    def band_step(self) -> int:
        """Words between the places of slots below and from `pixel_slots` on, see `rtl.descriptor`."""
        upper = self.pixel_slots
        return self.output_words // 2 - upper if self.assignment.words > upper else 0


def fold_choices(layer: QuantizedLayer, often: np.ndarray | None, config: EngineConfig, *,
                 balance: bool) -> list[Fold | None]:
    """Foldings with which a network's first layer can run: the best first, the one with the least memory last.

    Parameters
    ----------
    layer : QuantizedLayer
        The first layer.
    often : float array, shape ``[inputs]``, optional
        Share of inferences in which each input is not zero, 0 to 1.
    config : EngineConfig
    balance : bool
        Whether rows are shared out by their work; only then can two bands save cycles.

    Returns
    -------
    list of Fold or None
        None runs the layer as it is.
    """
    shape = layer.geometry
    if shape is None:
        return [None]
    plain = None if shape.stride == (1, 1) else Fold(shape, 1)
    bands = Fold(shape, 2)
    if not balance or config.pes < 2 or shape.out_shape[0] < 2:
        return [plain]
    work, both = layer_work(layer, often), layer_work(bands.layer(layer), _folded(bands, often))
    alone, shared = assign_rows(work, config.pes, layer.rows), assign_bands(both, config.pes)
    most, most_shared = (np.bincount(assignment.pe, weights).max()
                         for assignment, weights in ((alone, work), (shared, both)))
    fits = shared.words * math.prod(bands.folded.computed_shape) <= config.acc_depth
    return [bands, plain] if fits and most_shared <= BANDS_PAY * most else [plain]


def _folded(fold: Fold, often: np.ndarray | None) -> np.ndarray:
    """Share of the inputs in which each folded value is not zero; padding always is zero."""
    return np.where(fold.values >= 0, 1 if often is None else often[fold.values], 0)


def map_network(quantized: QuantizedNetwork, fold: Fold | None, activity: list[np.ndarray] | None,
                config: EngineConfig, *, balance: bool = True, order: bool = True) -> list[MappedLayer] | None:
    """Maps every layer to the PEs.

    Parameters
    ----------
    quantized : QuantizedNetwork
    fold : Fold or None
        Folding of the first layer, one of `fold_choices`.
    activity : list of float arrays ``[cols]``, optional
        Share of inferences in which each input of each layer is not zero, 0 to 1.
    config : EngineConfig
    balance, order : bool
        See `host.packing.pack.pack`.

    Returns
    -------
    list of MappedLayer or None
        None if a slice is longer than the longest length that can be stored; another fold may avoid that.
    """
    first = quantized.layers[0] if fold is None else fold.layer(quantized.layers[0])
    often = None if activity is None else activity[0]
    often = _folded(fold, often) if fold else often
    wires = sources(quantized.layers)
    shape = input_shape(quantized.layers) if input_readers(quantized.layers) > 1 else None
    by_channel = None if often is None else often.reshape((shape or first.shape).in_shape).mean(axis=(1, 2))
    # The network's input, and the outputs of each layer.
    layouts = [input_layout(first, by_channel, config, shape)]
    mapped: list[MappedLayer] = []
    for number, (layer, (taken, added)) in enumerate(zip([first, *quantized.layers[1:]], wires, strict=True)):
        bands = fold.bands if fold and number == 0 else 1
        source = layouts[taken + 1].read_by(layer)
        if number:
            often = None if activity is None else activity[taken + 1]
        channels = scanned_channels(source, layer, config)
        found = _balance_and_encode(layer, channels, often, order, config, bands) if balance \
            else _assign_and_encode(layer, channels, None, order, config, bands)
        if found is None:
            return None
        assignment, passes = found
        more = None if added is None else layouts[added + 1].read_by(layer)
        if more is not None:
            together = _with_added(layer, more, assignment, passes, config)
            if together is None:
                return None
            passes = together
        output = output_layout(quantized.layers[number], assignment.upper(bands))
        mapped.append(MappedLayer(layer, assignment, source, output,
                                  assignment.words * math.prod(layer.shape.out_shape), passes, more))
        layouts.append(output)
    return mapped


def _with_added(layer: QuantizedLayer, more: ActivationLayout, assignment: Assignment, passes: list[EncodedPass],
                config: EngineConfig) -> list[EncodedPass] | None:
    """The layer's passes, behind those of the same rows those that add."""
    channels, found = scanned_channels(more, layer, config), list[EncodedPass]()
    for slots in assignment.passes:
        own = added_passes(layer, channels, assignment, slots, config)
        if own is None:
            return None
        found += [one for one in passes if one.slots == slots] + own
    return found


def _balance_and_encode(layer: QuantizedLayer, channels: np.ndarray, often: np.ndarray | None, order: bool,
                        config: EngineConfig, bands: int) -> tuple[Assignment, list[EncodedPass]] | None:
    """Like `_assign_and_encode`, balanced by the rows' work.

    If many taps fall outside the output, the words that a PE reads decide as well. Their number depends on where slices
    begin within words, which is known only after encoding. So some costs of such taps are tried (`DROPPED`), and the
    best result is taken.
    """
    weights = DROPPED if bands == 1 and dropped_share(layer) > MANY_DROPPED else DROPPED[:1]
    found = [_assign_and_encode(layer, channels, layer_work(layer, often, dropped=dropped), order, config, bands)
             for dropped in weights]
    fitting = [one for one in found if one is not None]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    return min(fitting, key=lambda one: _expected_cycles(layer, channels, often, one, config))


def dropped_share(layer: QuantizedLayer) -> float:
    """Share of the taps of the convolution ``layer`` that fall outside its output, with stride 1."""
    shape = layer.shape
    if shape.stride != (1, 1):
        return 0
    return 1 - float(tap_activity(np.ones(shape.inputs), shape).mean()) / shape.pixels


def _expected_cycles(layer: QuantizedLayer, channels: np.ndarray, often: np.ndarray | None,
                     found: tuple[Assignment, list[EncodedPass]], config: EngineConfig) -> float:
    """Expected cycles of the slowest PE."""
    assignment, passes = found
    by_channel = np.full(layer.shape.in_shape[0], float(layer.shape.pixels)) if often is None \
        else often.reshape(layer.shape.in_shape[0], -1).sum(axis=1)
    sent = np.where(channels >= 0, by_channel[channels], 0)
    useful = np.bincount(assignment.pe, layer_work(layer, often), config.pes)
    each, read = config.entries_per_word, np.zeros(config.pes)
    for one in passes:
        ends = np.cumsum(one.lengths, axis=1)
        starts = ends - one.lengths
        read += np.where(one.lengths > 0, (ends - 1) // each - starts // each + 1, 0) @ sent
    return float((useful + EMPTY_CYCLES * (read - useful / each)).max())


def _assign_and_encode(layer: QuantizedLayer, channels: np.ndarray, work: np.ndarray | None, order: bool,
                       config: EngineConfig, bands: int) -> tuple[Assignment, list[EncodedPass]] | None:
    """Assigns rows to PEs by their work, if it is known, then orders each PE's rows so that fewer skips are needed.

    With two bands all slots are in one pass; None if slices are too long for that.

    The number of passes is the one that takes the least storage, among those whose rows fit the accumulators and whose
    slices are short enough: another pass costs slice lengths, and saves at most the padding of long slices. A
    convolution takes as few as it can, since each scans all pixels; if even slices of a single row are too long, its
    kernel is cut.
    """
    if bands == 2:
        assert work is not None
        assignment = assign_bands(work, config.pes)
        passes = _encode_layer(layer, channels, assignment, scans(layer.shape, 1 << config.tap_bits, config.tap_bits),
                               config)
        return None if passes is None else (assignment, passes)
    channels_out, *size = layer.map_shape if layer.out_map else (layer.rows, 1)
    words = -(-channels_out // config.pes) * math.prod(size)
    best: tuple[Assignment, list[EncodedPass]] | None = None
    fewest = -(-words // (config.acc_depth // math.prod(layer.shape.computed_shape)))
    count, edge = fewest, 1 << config.tap_bits
    while True:
        slots = -(-words // count)
        count = -(-words // slots)
        assignment = _assigned(layer, work, config.pes, slots)
        plan = scans(layer.shape, edge, config.tap_bits)
        passes = _encode_layer(layer, channels, assignment, plan, config)
        if passes is not None:
            if best is None or _storage(passes, config) < _storage(best[1], config):
                best = assignment, passes
            padding = sum(one.padding for one in passes) * (config.code_bits + config.index_bits[0])
            if layer.geometry or slots == 1 or padding <= len(channels) * config.pes * config.length_bits:
                break
        elif slots == 1:
            count, edge = fewest, edge // 2
            continue
        # More passes, at least enough to make each pass a slot shorter.
        count = max(count + (1 if best else 1 + count // 4), -(-words // (slots - 1)))
    assert best is not None     # a slice of one row and tap is one entry
    assignment, passes = best
    if order and not layer.out_map and any(one.skips for one in passes):
        ordered = order_rows(assignment, layer.channel_codes, passes[0].index_bits - 2 * passes[0].scan.tap_bits)
        shorter = _encode_layer(layer, channels, ordered, plan, config)
        if shorter is not None and _storage(shorter, config) < _storage(passes, config):
            return ordered, shorter
    return best


def _assigned(layer: QuantizedLayer, work: np.ndarray | None, pes: int, slots: int) -> Assignment:
    """PE and slot of each row, with this many slots per pass: by their work, if it is known, else in turn."""
    if layer.out_map:
        return assign_map(np.zeros(layer.rows) if work is None else work, layer.out_map[0], pes, slots,
                          balance=work is not None)
    in_turn = np.arange(layer.rows)
    return Assignment(in_turn % pes, in_turn // pes, pes, slots) if work is None else assign_rows(work, pes, slots)


def _encode_layer(layer: QuantizedLayer, channels: np.ndarray, assignment: Assignment, plan: list[Scan],
                  config: EngineConfig) -> list[EncodedPass] | None:
    """The layer's passes; None if a slice is too long. A scan without weights is left out, unless it is the first."""
    passes = []
    for slots in assignment.passes:
        for scan in plan:
            one = encode_pass(layer.codes, channels, assignment, slots, config, scan, layer.shape.groups)
            if one is None:
                return None
            if scan is plan[0] or one.counts.any():
                passes.append(one)
    return passes


def _storage(passes: list[EncodedPass], config: EngineConfig) -> int:
    return sum(one.storage_bits(config) for one in passes)
