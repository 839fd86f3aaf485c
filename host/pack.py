# SPDX-License-Identifier: Apache-2.0
"""Packs a quantised network into the memories of an engine: what lies where, and whether it fits."""

from dataclasses import dataclass, field

import numpy as np

from host.balance import Assignment, assign_rows, order_rows, row_work
from host.encode import EncodedPass, encode_pass, pack_words
from host.errors import UserError
from host.quantize import QuantizedLayer, QuantizedNetwork
from rtl.config import EngineConfig
from rtl.layouts import codebook_value_bits, codebook_words, descriptor_layout, descriptor_words
from rtl.numbers import PRE_SHIFTS

__all__ = ["PackedLayer", "PackedNetwork", "PackedPass", "pack"]


@dataclass(frozen=True)
class PackedPass:
    """An encoded pass and its descriptor's fields, as `rtl.layouts.descriptor_layout` names them."""

    encoded: EncodedPass
    descriptor: dict[str, int | list[int]]


@dataclass(frozen=True)
class PackedLayer:
    """A layer in the engine: usually one pass; more if its rows exceed the accumulators."""

    quantized: QuantizedLayer
    assignment: Assignment
    passes: list[PackedPass]
    input_words: int
    output_base: int


@dataclass(frozen=True)
class PackedNetwork:
    """The contents of all memories.

    Attributes
    ----------
    input_order : int64 array, shape ``[input_words * pes]``
        Which input each activation is; -1 where there is none. Inputs without weights are left out.
    output_order : int64 array, shape ``[outputs]``
        Place of each output in the last layer's activations.
    program : uint8 array, shape ``[words, 4]``
    slices : list of uint8 arrays, shape ``[words, bytes]``, one for each PE
    planes : list (planes) of lists (PEs) of lists of (first address, uint8 array ``[words, bytes]``)
    storage_bits : dict
        Everything on the chip, in bits, by what it is for.
    """

    config: EngineConfig
    quantized: QuantizedNetwork
    layers: list[PackedLayer]
    input_order: np.ndarray
    output_order: np.ndarray
    program: np.ndarray
    slices: list[np.ndarray]
    planes: list[list[list[tuple[int, np.ndarray]]]]
    storage_bits: dict[str, int]

    @property
    def input_words(self) -> int:
        return len(self.input_order) // self.config.pes


@dataclass
class _Memories:
    """Memories while they fill up."""

    config: EngineConfig
    next_entry: int = 0
    next_plane: list[int] = field(default_factory=list)
    next_slice: int = 0
    slices: list[list[np.ndarray]] = field(default_factory=list)
    planes: list[list[list[tuple[int, np.ndarray]]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        pes, planes = self.config.pes, len(self.config.plane_bits)
        self.next_plane = [0] * planes
        self.slices = [[] for _ in range(pes)]
        self.planes = [[[] for _ in range(pes)] for _ in range(planes)]


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
    memories = _Memories(config)
    input_order = _input_order(quantized.layers[0], activity[0] if activity is not None else None, config)
    input_words = len(input_order) // config.pes

    columns = input_order
    assignments, encoded = [], []
    for number, layer in enumerate(quantized.layers):
        often = activity[number] if activity is not None else np.ones(layer.cols)
        work = row_work(layer.codes, often) if balance else None
        assignment, one = _assign_and_encode(layer, columns, work, order, config)
        assignments.append(assignment)
        encoded.append(one)
        columns = np.full(assignments[-1].words * config.pes, -1, np.int64)
        columns[assignments[-1].position] = np.arange(layer.rows)

    problems = _problems(quantized, encoded, assignments, input_words, config, preset)
    if problems:
        raise UserError(problems)
    bases = _act_bases([input_words, *(assignment.words for assignment in assignments)], config)
    layers: list[PackedLayer] = []
    words = input_words
    for number, layer in enumerate(quantized.layers):
        passes = _place_layer(layer, encoded[number], assignments[number], words, bases[number:number + 2],
                              number == 0, layers[-1].passes if layers else [], memories)
        layers.append(PackedLayer(layer, assignments[number], passes, words, bases[number + 1]))
        words = assignments[number].words
    program = _program(layers, config)
    return PackedNetwork(config, quantized, layers, input_order, assignments[-1].position, program,
                         [np.concatenate(parts) for parts in memories.slices], memories.planes,
                         _storage_bits(layers, program, config))


def _input_order(layer: QuantizedLayer, often: np.ndarray | None, config: EngineConfig) -> np.ndarray:
    """Inputs that have weights, in whole activation words; -1 fills up.

    The scan spends a step on a block without a non-zero activation. So every block gets its share of the inputs that
    are seldom zero: the most active go to one block each, then the next, and so on.
    """
    used = np.flatnonzero((layer.codes != 0).any(axis=0))
    used = used if len(used) else np.array([0])
    cols = -(-len(used) // config.pes) * config.pes
    if often is None:
        return np.concatenate([used, np.full(cols - len(used), -1)])
    blocks = np.full((config.block_cols, cols // config.block_cols), -1, np.int64)
    blocks.flat[:len(used)] = used[np.argsort(-often[used], kind="stable")]
    return blocks.T.ravel()


def _assign_and_encode(layer: QuantizedLayer, columns: np.ndarray, work: np.ndarray | None, order: bool,
                       config: EngineConfig) -> tuple[Assignment, list[EncodedPass]]:
    """Rows go to PEs by their work, if it is told; then, if there are skips, to slots so that there are fewer.

    There are as many passes as take the least storage, if the accumulators hold each and no slice is too long: one more
    costs lengths, and saves at most the padding of long slices.
    """
    in_turn = np.arange(layer.rows)
    words = -(-layer.rows // config.pes)
    best: tuple[Assignment, list[EncodedPass]] | None = None
    count = -(-words // config.acc_depth)
    while True:
        slots = -(-words // count)
        count = -(-words // slots)
        assignment = Assignment(in_turn % config.pes, in_turn // config.pes, config.pes, slots) if work is None \
            else assign_rows(work, config.pes, slots)
        passes = _encode_layer(layer, columns, assignment, config)
        if passes is not None:
            if best is None or _storage(passes, config) < _storage(best[1], config):
                best = assignment, passes
            padding = sum(one.padding for one in passes) * (config.code_bits + config.index_bits[0])
            if slots == 1 or padding <= len(columns) * config.pes * config.length_bits:
                break
        count += 1 if best else 1 + count // 4
    assert best is not None     # a slice of one row is one entry
    assignment, passes = best
    if order and any(one.skips for one in passes):
        ordered = order_rows(assignment, layer.codes, passes[0].index_bits)
        shorter = _encode_layer(layer, columns, ordered, config)
        if shorter is not None and _storage(shorter, config) < _storage(passes, config):
            return ordered, shorter
    return best


def _encode_layer(layer: QuantizedLayer, columns: np.ndarray, assignment: Assignment,
                  config: EngineConfig) -> list[EncodedPass] | None:
    """The layer's passes; None if a slice is too long."""
    passes = []
    for slots in assignment.passes:
        one = encode_pass(layer.codes, columns, assignment, slots, config)
        if one is None:
            return None
        passes.append(one)
    return passes


def _storage(passes: list[EncodedPass], config: EngineConfig) -> int:
    return sum(one.storage_bits(config) for one in passes)


def _problems(quantized: QuantizedNetwork, encoded: list[list[EncodedPass]], assignments: list[Assignment],
              input_words: int, config: EngineConfig, preset: str) -> list[str]:
    """Every memory that is too small, with the layer at which it overflows."""
    problems = []
    kept = quantized.weights_kept / max(1, quantized.weights_total)
    entry_words = slice_words = program_words = 0
    overflown: set[str] = set()
    inputs = [input_words, *(assignment.words for assignment in assignments)]
    total = sum(_entry_words(passes, assignment, config) for passes, assignment
                in zip(encoded, assignments, strict=True))
    for number, layer in enumerate(quantized.layers):
        needs = _entry_words(encoded[number], assignments[number], config)
        entry_words += needs
        slice_words += sum(one.slice_words(config) for one in encoded[number])
        program_words += len(encoded[number]) * (descriptor_words(config) + codebook_words(config))
        if entry_words > config.entry_depth and "entries" not in overflown:
            overflown.add("entries")
            biases = sum(assignment.words for assignment in assignments) * config.bias_words
            fits = max(0.0, kept * (config.entry_depth - biases) / max(1, total - biases))
            kib = sum(config.plane_bits) / 8 / 1024
            problems.append(
                f"layer '{layer.name}' needs {needs * kib:.1f} KiB of weight memory in each PE and the whole network "
                f"{total * kib:.1f}, preset '{preset}' has {config.entry_depth * kib:.1f}; lower --density to "
                f"{fits * 0.98:.3f} (now {kept:.3f}) or use a preset with more")
        if slice_words > config.slice_depth and "slices" not in overflown:
            overflown.add("slices")
            problems.append(f"layer '{layer.name}' brings the slice memory to {slice_words} words in each PE, preset "
                            f"'{preset}' has {config.slice_depth}; use a preset with more, or a configuration "
                            f"with slice_depth = {1 << (slice_words - 1).bit_length()}")
        if program_words > config.program_depth and "program" not in overflown:
            overflown.add("program")
            problems.append(f"layer '{layer.name}' brings the program to {program_words} words, preset '{preset}' has "
                            f"{config.program_depth}; use a configuration with a greater program_depth")
        both = inputs[number] + inputs[number + 1]
        if both > config.act_depth:
            problems.append(f"layer '{layer.name}' needs {both} words of activation memory for its inputs and outputs, "
                            f"preset '{preset}' has {config.act_depth}; use a preset with more, or a configuration "
                            f"with act_depth = {1 << (both - 1).bit_length()}")
    return problems


def _entry_words(passes: list[EncodedPass], assignment: Assignment, config: EngineConfig) -> int:
    return sum(one.entry_words(config) for one in passes) + assignment.words * config.bias_words


def _act_bases(words: list[int], config: EngineConfig) -> list[int]:
    """Addresses of the network's input and of each layer's output.

    One after the other if all fit at once, so that every layer can be read after an inference; else at the two ends
    of the memory in turn.
    """
    if sum(words) <= config.act_depth:
        return [sum(words[:number]) for number in range(len(words))]
    return [0 if number % 2 == 0 else config.act_depth - count for number, count in enumerate(words)]


def _place_layer(layer: QuantizedLayer, passes: list[EncodedPass], assignment: Assignment, input_words: int,
                 bases: list[int], first_layer: bool, before: list[PackedPass],
                 memories: _Memories) -> list[PackedPass]:
    config = memories.config
    placed: list[PackedPass] = []
    # While this layer's first pass is scanned, the last pass of the layer before is still being drained.
    ready = input_words if first_layer else input_words - int(str(before[-1].descriptor["output_words"]))
    for one in passes:
        first, rows = one.slots.start, len(one.slots)
        mode = config.index_bits.index(one.index_bits)
        entry_base, slice_base = memories.next_entry, memories.next_slice
        offsets = [entry_base - base for base in memories.next_plane[1:mode + 1]]
        _store_slices(one, memories)
        _store_entries(one, mode, memories)
        bias_base = memories.next_entry
        _store_biases(layer, assignment, first, rows, memories)
        placed.append(PackedPass(one, {
            "kind": 0, "relu": int(layer.relu), "input_signed": int(layer.input_signed),
            "index_mode": mode, "pre_shift": PRE_SHIFTS.index(layer.pre_shift), "multiplier": layer.multiplier,
            "input_base": bases[0], "input_words": input_words,
            "chase_words": input_words if placed else ready,
            "output_base": bases[1] + first, "output_words": rows, "slice_base": slice_base,
            "entry_base": entry_base, "bias_base": bias_base,
            "plane_offsets": offsets + [0] * (3 - len(offsets)),
        }))
    return placed


def _store_slices(one: EncodedPass, memories: _Memories) -> None:
    config = memories.config
    stored = np.minimum(one.lengths, (1 << config.length_bits) - 1)
    for pe in range(config.pes):
        fields = stored[pe].reshape(-1, config.block_cols)
        memories.slices[pe].append(pack_words(fields, config.length_bits))
    memories.next_slice += one.slice_words(config)


def _store_entries(one: EncodedPass, mode: int, memories: _Memories) -> None:
    """All PEs start at the same address, that of the PE with most entries."""
    config = memories.config
    each, narrow = config.entries_per_word, config.index_bits[0]
    for pe in range(config.pes):
        words = -(-len(one.codes[pe]) // each)
        room = words * each - len(one.codes[pe])
        codes = np.pad(one.codes[pe], (0, room)).astype(np.int64).reshape(-1, each)
        indices = np.pad(one.indices[pe], (0, room)).astype(np.int64).reshape(-1, each)
        low = indices & ((1 << narrow) - 1)
        memories.planes[0][pe].append((memories.next_entry,
                                       pack_words(low | codes << narrow, narrow + config.code_bits)))
        for plane in range(1, mode + 1):
            bits = config.plane_bits[plane] // each
            part = (indices >> config.index_bits[plane - 1]) & ((1 << bits) - 1)
            memories.planes[plane][pe].append((memories.next_plane[plane], pack_words(part, bits)))
    for plane in range(1, mode + 1):
        memories.next_plane[plane] += one.entry_words(config)
    memories.next_entry += one.entry_words(config)


def _store_biases(layer: QuantizedLayer, assignment: Assignment, first: int, rows: int,
                  memories: _Memories) -> None:
    config = memories.config
    biases = np.zeros((config.pes, rows), np.int64)
    here = (assignment.slot >= first) & (assignment.slot < first + rows)
    biases[assignment.pe[here], assignment.slot[here] - first] = layer.bias[here]
    word_bits = config.entry_word_bits
    for pe in range(config.pes):
        unsigned = biases[pe] & ((1 << config.acc_bits) - 1)
        shifts = np.minimum(np.arange(config.bias_words) * word_bits, 63)
        parts = ((unsigned[:, None] >> shifts) & ((1 << min(word_bits, 62)) - 1)).reshape(-1, 1)
        memories.planes[0][pe].append((memories.next_entry, pack_words(parts, word_bits)))
    memories.next_entry += rows * config.bias_words


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
