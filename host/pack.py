# SPDX-License-Identifier: Apache-2.0
"""Packs a quantised network into the memories of an engine: what lies where, and whether it fits."""

import math
from dataclasses import dataclass

import numpy as np

from host.balance import Assignment, assign_rows, order_rows, row_work, tap_activity
from host.capacity import problems_of_layers, problems_of_memories
from host.encode import EncodedPass, encode_pass
from host.errors import UserError
from host.filling import Filling, store_biases, store_entries, store_slices, tap_table
from host.graph import Geometry
from host.placement import Placement
from host.quantize import QuantizedLayer, QuantizedNetwork
from host.scans import Scan, scans
from rtl.config import EngineConfig
from rtl.layouts import LayerKind, codebook_value_bits, codebook_words, descriptor_layout
from rtl.numbers import PRE_SHIFTS

__all__ = ["PackedLayer", "PackedNetwork", "PackedPass", "pack"]


@dataclass(frozen=True)
class PackedPass:
    """An encoded pass and its descriptor's fields, as `rtl.layouts.descriptor_layout` names them."""

    encoded: EncodedPass
    descriptor: dict[str, int | list[int]]


@dataclass(frozen=True)
class PackedLayer:
    """A layer in the engine: usually one pass; more if its rows exceed the accumulators, and for some convolutions."""

    quantized: QuantizedLayer
    assignment: Assignment
    placement: Placement
    passes: list[PackedPass]
    input_words: int
    output_base: int


@dataclass(frozen=True)
class PackedNetwork:
    """The contents of all memories.

    Attributes
    ----------
    source : Placement
        Of the inputs. Those without weights are left out.
    program : uint8 array, shape ``[words, 4]``
    slices : list of uint8 arrays, shape ``[words, bytes]``, one for each PE
    planes : list (planes) of lists (PEs) of lists of (first address, uint8 array ``[words, bytes]``)
    storage_bits : dict
        Everything on the chip, in bits, by what it is for.
    """

    config: EngineConfig
    quantized: QuantizedNetwork
    layers: list[PackedLayer]
    source: Placement
    program: np.ndarray
    slices: list[np.ndarray]
    planes: list[list[list[tuple[int, np.ndarray]]]]
    storage_bits: dict[str, int]

    @property
    def input_words(self) -> int:
        return self.source.words


def pack(quantized: QuantizedNetwork, config: EngineConfig, *,
         activity: list[np.ndarray] | None = None, preset: str = "default", balance: bool = True,
         order: bool = True) -> PackedNetwork:
    """Packs a network.

    Parameters
    ----------
    quantized : QuantizedNetwork
    config : EngineConfig
    activity : list of float arrays ``[cols]``, optional
        How often each input of each layer is not zero; the rows are balanced over the PEs by it.
    preset : str
        What to call the configuration in errors.
    balance, order : bool
        Share rows out by their work, not in turn; order those of a PE to save skips. Only benchmarks do without.

    Raises
    ------
    UserError
        If the network does not fit, naming layer, memory, sizes and the density that would fit.
    """
    memories = Filling(config)
    problems = problems_of_layers(quantized, config, preset)
    if problems:
        raise UserError(problems)
    first = quantized.layers[0]
    often = None if activity is None else activity[0].reshape(first.shape.in_shape).mean(axis=(1, 2))
    source = Placement(_input_channels(first, often, config), config.pes, first.shape.pixels)
    placements = [source]
    assignments, encoded = [], []
    for number, layer in enumerate(quantized.layers):
        work = _work(layer, activity[number] if activity is not None else None) if balance else None
        channels = _scanned(placements[-1].read_by(layer), layer, config)
        assignment, one = _assign_and_encode(layer, channels, work, order, config)
        assignments.append(assignment)
        encoded.append(one)
        placements.append(Placement.of_outputs(layer, assignment))

    words = [placement.words for placement in placements]
    problems = problems_of_memories(quantized, encoded, assignments, words, config, preset)
    if problems:
        raise UserError(problems)
    bases = _act_bases(words, assignments, config)
    layers: list[PackedLayer] = []
    for number, layer in enumerate(quantized.layers):
        passes = _place_layer(layer, encoded[number], assignments[number], placements[number].read_by(layer),
                              bases[number:number + 2], _ready(words[number], placements[number], layers), memories)
        layers.append(PackedLayer(layer, assignments[number], placements[number + 1], passes, words[number],
                                  bases[number + 1]))
    program = _program(layers, config)
    return PackedNetwork(config, quantized, layers, source, program,
                         [np.concatenate(parts) for parts in memories.slices], memories.planes,
                         _storage_bits(layers, program, config))


def _work(layer: QuantizedLayer, often: np.ndarray | None) -> np.ndarray:
    """Expected useful multiplications of each row."""
    shape = layer.shape
    activity = tap_activity(np.ones(shape.inputs) if often is None else often, shape)
    groups = zip(np.split(layer.codes, shape.groups), activity, strict=True)
    return np.concatenate([row_work(codes, expected) for codes, expected in groups])


def _ready(words: int, placement: Placement, before: list[PackedLayer]) -> int:
    """Input words that a layer's first pass may read while the last pass before it is still being drained.

    The drain goes pixel by pixel; with one pixel, all slots but those of the last pass are there.
    """
    if not before:
        return words
    return words - len(before[-1].passes[-1].encoded.slots) if placement.pixels == 1 else 0


def _scanned(source: Placement, layer: QuantizedLayer, config: EngineConfig) -> np.ndarray:
    """The channels of a pixel, without the blocks at its end that have none if the layer is a convolution."""
    if layer.geometry is None:
        return source.channels
    last = int(np.flatnonzero(source.channels >= 0)[-1])
    return source.channels[:(last // config.block_cols + 1) * config.block_cols]


def _input_channels(layer: QuantizedLayer, often: np.ndarray | None, config: EngineConfig) -> np.ndarray:
    """Inputs (of a convolution: input channels) that have weights, in whole activation words; -1 fills up.

    The scan spends a step on a block without a non-zero activation. So every block gets its share of the inputs that
    are seldom zero: the most active go to one block each, then the next, and so on. A convolution does without the
    blocks of a pixel that no channel needs.
    """
    used = np.flatnonzero(layer.channel_codes.any(axis=0))
    used = used if len(used) else np.array([0])
    cols = -(-len(used) // config.pes) * config.pes
    if often is None:
        return np.concatenate([used, np.full(cols - len(used), -1)])
    count = -(-len(used) // config.block_cols) if layer.geometry else cols // config.block_cols
    blocks = np.full((config.block_cols, count), -1, np.int64)
    blocks.flat[:len(used)] = used[np.argsort(-often[used], kind="stable")]
    return np.pad(blocks.T.ravel(), (0, cols - blocks.size), constant_values=-1)


def _assign_and_encode(layer: QuantizedLayer, channels: np.ndarray, work: np.ndarray | None, order: bool,
                       config: EngineConfig) -> tuple[Assignment, list[EncodedPass]]:
    """Rows go to PEs by their work, if it is told; then, if there are skips, to slots so that there are fewer.

    There are as many passes as take the least storage, if the accumulators hold each and no slice is too long: one more
    costs lengths, and saves at most the padding of long slices. A convolution takes as few as it can, since each scans
    all pixels; if even slices of a single row are too long, its kernel is cut.
    """
    in_turn = np.arange(layer.rows)
    words = -(-layer.rows // config.pes)
    best: tuple[Assignment, list[EncodedPass]] | None = None
    fewest = -(-words // (config.acc_depth // math.prod(layer.shape.computed_shape)))
    count, edge = fewest, 1 << config.tap_bits
    while True:
        slots = -(-words // count)
        count = -(-words // slots)
        assignment = Assignment(in_turn % config.pes, in_turn // config.pes, config.pes, slots) if work is None \
            else assign_rows(work, config.pes, slots)
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
        # At least so many that the passes have fewer slots.
        count = max(count + (1 if best else 1 + count // 4), -(-words // (slots - 1)))
    assert best is not None     # a slice of one row and tap is one entry
    assignment, passes = best
    if order and any(one.skips for one in passes):
        ordered = order_rows(assignment, layer.channel_codes, passes[0].index_bits - 2 * passes[0].scan.tap_bits)
        shorter = _encode_layer(layer, channels, ordered, plan, config)
        if shorter is not None and _storage(shorter, config) < _storage(passes, config):
            return ordered, shorter
    return best


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


def _act_bases(words: list[int], assignments: list[Assignment], config: EngineConfig) -> list[int]:
    """Addresses of the network's input and of each layer's output.

    One after the other if all fit at once, so that every layer can be read after an inference. Else a layer that is
    drained once overwrites its own inputs, which nothing reads any more by then; one with several passes of rows, which
    all read them, writes to the other end of the memory.
    """
    if sum(words) <= config.act_depth:
        return [sum(words[:number]) for number in range(len(words))]
    bases, high = [0], False
    for count, assignment in zip(words[1:], assignments, strict=True):
        high ^= len(assignment.passes) > 1
        bases.append(config.act_depth - count if high else 0)
    return bases


def _place_layer(layer: QuantizedLayer, passes: list[EncodedPass], assignment: Assignment, source: Placement,
                 bases: list[int], ready: int, memories: Filling) -> list[PackedPass]:
    config = memories.config
    placed: list[PackedPass] = []
    for number, one in enumerate(passes):
        first, rows = one.slots.start, len(one.slots)
        mode = config.index_bits.index(one.index_bits)
        entry_base, slice_base = memories.next_entry, memories.next_slice
        offsets = [entry_base - base for base in memories.next_plane[1:mode + 1]]
        store_slices(one, memories)
        store_entries(one, mode, memories)
        if number == 0 or passes[number - 1].slots != one.slots:
            bias_base = memories.next_entry
            store_biases(layer, assignment, first, rows, memories)
        holds = number + 1 < len(passes) and passes[number + 1].slots == one.slots
        skipped = (one.scan.origin[0] * layer.shape.in_shape[2] + one.scan.origin[1]) * source.pixel_words
        descriptor: dict[str, int | list[int]] = {
            "kind": (LayerKind.CONVOLUTION if layer.geometry else LayerKind.FULLY_CONNECTED).value,
            "relu": int(layer.relu), "input_signed": int(layer.input_signed),
            "index_mode": mode, "pre_shift": PRE_SHIFTS.index(layer.pre_shift), "multiplier": layer.multiplier,
            "input_base": bases[0] + skipped, "input_words": source.words - skipped,
            "chase_words": source.words - skipped if placed else ready,
            "output_base": bases[1] + first, "output_words": rows, "slice_base": slice_base,
            "entry_base": entry_base, "bias_base": bias_base,
            "plane_offsets": offsets + [0] * (3 - len(offsets)),
        }
        if config.tap_bits:
            last_block = (one.lengths.shape[1] - 1) % config.pes // config.block_cols
            descriptor |= {"last_block": last_block} | _convolution(layer.shape, one, source.pixel_words,
                                                                    assignment.words, holds=holds)
        placed.append(PackedPass(one, descriptor))
    return placed


def _convolution(shape: Geometry, one: EncodedPass, pixel_words: int, output_pixel_words: int, *,
                 holds: bool) -> dict[str, int | list[int]]:
    """A pass's fields of `rtl.layouts.descriptor_layout` about pixels."""
    scan, slots = one.scan, len(one.slots)
    out_rows, out_cols = shape.computed_shape
    pooled_rows, pooled_cols = shape.out_shape
    mask = (1 << 16) - 1
    return {
        "tap_bits": scan.tap_bits, "hold_sums": int(holds), "pool": shape.pool, "pool_step": shape.pool_stride,
        "pixel_words": pixel_words, "pixel_step": shape.stride[1] * pixel_words & mask,
        "row_step": shape.stride[0] * shape.in_shape[2] * pixel_words & mask,
        "scan_cols": scan.pixels[1], "scan_rows": scan.pixels[0], "first_x": scan.first[1], "first_y": scan.first[0],
        "out_cols": out_cols, "out_rows": out_rows,
        "first_row": (scan.first[0] * out_cols + scan.first[1]) * slots & mask, "row_pitch": out_cols * slots,
        "pooled_cols": pooled_cols, "pooled_rows": pooled_rows, "output_pixel_words": output_pixel_words,
    }


def _program(layers: list[PackedLayer], config: EngineConfig) -> np.ndarray:
    layout = descriptor_layout(config)
    value_bits = codebook_value_bits(config)
    records = []
    for layer in layers:
        for one in layer.passes:
            records.append(layout.const(one.descriptor).as_bits().to_bytes(layout.size // 8, "little"))
            if not config.direct_weights:
                codebook = layer.quantized.codebook & ((1 << value_bits) - 1)
                records.append(codebook.astype(f"<u{value_bits // 8}").tobytes())
            if layer.quantized.geometry is not None:
                records.append(tap_table(layer.quantized.geometry, one.encoded, config).astype("<u2").tobytes())
    return np.frombuffer(b"".join(records), np.uint8).reshape(-1, 4)


def _storage_bits(layers: list[PackedLayer], program: np.ndarray, config: EngineConfig) -> dict[str, int]:
    """Bits that the network takes up on the chip, by what they are for; words count whole, for all PEs."""
    bits = {"weights": 0, "skips": 0, "alignment": 0, "slices": 0, "biases": 0, "codebooks": 0, "program": 0}
    for layer in layers:
        for one in layer.passes:
            encoded = one.encoded
            width = config.code_bits + encoded.index_bits
            useful = int(encoded.counts.sum())
            bits["weights"] += useful * width
            bits["skips"] += encoded.skips * width
            slices = config.pes * encoded.slice_words(config) * config.slice_word_bits
            bits["slices"] += slices
            bits["alignment"] += encoded.storage_bits(config) - slices - encoded.entries * width
            bits["codebooks"] += codebook_words(config) * 32
        bits["biases"] += config.pes * layer.assignment.words * config.bias_words * config.entry_word_bits
    bits["program"] = program.size * 8 - bits["codebooks"]
    return bits
