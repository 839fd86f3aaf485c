# SPDX-License-Identifier: Apache-2.0
"""Packs a quantised network into the memories of an engine: chooses addresses and passes, and checks that all fits."""

import math
from dataclasses import dataclass

import numpy as np

from host.image.activation_layout import ActivationLayout
from host.image.space_to_depth import Fold
from host.network.graph import sources
from host.packing.act_bases import act_bases
from host.packing.added_passes import added_geometry
from host.packing.balance_rows import Assignment
from host.packing.encode import EncodedPass
from host.packing.fit_check import problems_of_layers, problems_of_memories
from host.packing.mapping import MappedLayer, fold_choices, map_network
from host.packing.memory_writer import Filling, store_biases, store_entries, store_slices, tap_table
from host.packing.scan_fields import pixel_fields, scanned
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from nonzero.errors import UserError
from nonzero.progress import waiting
from rtl.config import EngineConfig
from rtl.descriptor import LayerKind, codebook_value_bits, codebook_words, descriptor_layout
from rtl.numbers import PRE_SHIFTS

__all__ = ["PackedLayer", "PackedNetwork", "PackedPass", "arrange", "pack"]


@dataclass(frozen=True)
class PackedPass:
    """A pass in the engine.

    Attributes
    ----------
    encoded : EncodedPass
    descriptor : dict
        Fields of its descriptor, by their names in `rtl.descriptor.descriptor_layout`.
    """

    encoded: EncodedPass
    descriptor: dict[str, int | list[int]]


@dataclass(frozen=True)
class PackedLayer:
    """A layer in the engine.

    Attributes
    ----------
    quantized : QuantizedLayer
        The layer before folding.
    assignment : Assignment
        PE and slot of each row.
    placement : ActivationLayout
        Layout of its outputs.
    passes : list of PackedPass
        Usually one; more if its rows exceed the accumulators, and for some convolutions.
    input_words : int
        Activation words of its inputs.
    output_base, output_words : int
        Address of the first word of its outputs, and their number.
    """

    quantized: QuantizedLayer
    assignment: Assignment
    placement: ActivationLayout
    passes: list[PackedPass]
    input_words: int
    output_base: int
    output_words: int


@dataclass(frozen=True)
class PackedNetwork:
    """The contents of all memories.

    Attributes
    ----------
    config : EngineConfig
    quantized : QuantizedNetwork
    layers : list of PackedLayer
    source : ActivationLayout
        Layout of the inputs, as the first layer sees them. Those without weights are left out.
    fold : Fold, optional
        Folding of the first layer.
    program : uint8 array, shape ``[words, 4]``
    slices : list of uint8 arrays, shape ``[words, bytes]``, one for each PE
    planes : list (planes) of lists (PEs) of lists of (first address, uint8 array ``[words, bytes]``)
    storage_bits : dict
        Bits of the network on the chip, by their purpose.
    """

    config: EngineConfig
    quantized: QuantizedNetwork
    layers: list[PackedLayer]
    source: ActivationLayout
    fold: Fold | None
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
        Share of inferences in which each input of each layer is not zero; balances the rows over the PEs.
    preset : str
        Name of the configuration in errors.
    balance, order : bool
        ``balance``: share rows out by their work, not in turn. ``order``: order the rows of a PE to save skips. Only
        benchmarks switch them off.

    Raises
    ------
    UserError
        If the network does not fit, naming layer, memory, sizes and the density that would fit.
    """
    return _packed(quantized, *arrange(quantized, config, activity, preset, balance=balance, order=order), config)


def arrange(quantized: QuantizedNetwork, config: EngineConfig, activity: list[np.ndarray] | None = None,
            preset: str = "default", *, balance: bool = True,
            order: bool = True) -> tuple[Fold | None, list[MappedLayer]]:
    """Maps a network to the PEs with the best fold of its first layer that fits the memories.

    Parameters
    ----------
    quantized, config, activity, preset, balance, order
        See `pack`.

    Returns
    -------
    fold : Fold or None
        Folding of the first layer.
    mapped : list of MappedLayer

    Raises
    ------
    UserError
        See `pack`.
    """
    problems = problems_of_layers(quantized.layers, config, preset)
    if problems:
        raise UserError(problems)
    often = None if activity is None else activity[0]
    # A folded input is laid out for one layer.
    alone = sum(-1 in one for one in sources(quantized.layers)) == 1 and quantized.layers[0].added is None
    for fold in fold_choices(quantized.layers[0], often, config, balance=balance) if alone else [None]:
        with waiting("packing"):
            mapped = map_network(quantized, fold, activity, config, balance=balance, order=order)
        if mapped is not None:
            problems = problems_of_memories(quantized, mapped, config, preset)
            if not problems:
                return fold, mapped
    raise UserError(problems)


def _packed(quantized: QuantizedNetwork, fold: Fold | None, mapped: list[MappedLayer],
            config: EngineConfig) -> PackedNetwork:
    memories = Filling(config)
    wires = sources(quantized.layers)
    bases = act_bases(mapped, wires, config)
    layers: list[PackedLayer] = []
    for number, (one, (taken, added)) in enumerate(zip(mapped, wires, strict=True)):
        ready = _ready(one, layers) if taken == number - 1 else one.source.words
        places = bases[taken + 1], bases[number + 1], None if added is None else bases[added + 1]
        passes = _place_layer(one, places, ready, memories)
        layers.append(PackedLayer(quantized.layers[number], one.assignment, one.output, passes, one.source.words,
                                  bases[number + 1], one.output_words))
    program = _program(layers, config)
    return PackedNetwork(config, quantized, layers, mapped[0].source, fold, program,
                         [np.concatenate(parts) for parts in memories.slices], memories.planes,
                         _storage_bits(layers, program, config))


def _ready(one: MappedLayer, before: list[PackedLayer]) -> int:
    """Input words that a layer's first pass may read while the last pass before it is still being drained.

    The drain writes pixel by pixel; with one pixel, all slots but those of the last pass have been written before. A
    convolution of several pixels does not scan all words in their order, so that it waits.
    """
    if not before:
        return one.source.words
    in_order = math.prod(before[-1].quantized.shape.out_shape) == 1 and one.source.pixels == 1
    return one.source.words - len(before[-1].passes[-1].encoded.slots) if in_order else 0


def _place_layer(mapped: MappedLayer, bases: tuple[int, int, int | None], ready: int,
                 memories: Filling) -> list[PackedPass]:
    """Stores a layer's passes; ``bases`` are the addresses of its inputs, its outputs and what is added."""
    config, layer, passes = memories.config, mapped.layer, mapped.passes
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
            store_biases(layer, mapped.assignment, first, rows, memories)
        holds = number + 1 < len(passes) and passes[number + 1].slots == one.slots
        shape, source, base, signed = scanned(mapped, one, bases)
        skipped = (one.scan.origin[0] * shape.in_shape[2] + one.scan.origin[1]) * source.pixel_words
        descriptor: dict[str, int | list[int]] = {
            "kind": (LayerKind.CONVOLUTION if layer.geometry else LayerKind.FULLY_CONNECTED).value,
            "activation": layer.activation.value,
            "table": int(layer.table is not None and not holds),
            "input_signed": int(signed),
            "index_mode": mode, "pre_shift": PRE_SHIFTS.index(layer.pre_shift), "multiplier": layer.multiplier,
            "input_base": base + skipped, "input_words": source.words - skipped,
            "chase_words": source.words - skipped if placed else ready,
            "output_base": bases[1] + first, "output_words": rows, "slice_base": slice_base,
            "entry_base": entry_base, "bias_base": bias_base,
            "plane_offsets": offsets + [0] * (3 - len(offsets)),
        }
        last_block = (one.lengths.shape[1] - 1) % config.pes // config.block_cols
        pixels = pixel_fields(mapped, one, shape, source, holds=holds)
        placed.append(PackedPass(one, descriptor | {"last_block": last_block} | pixels))
    return placed


def _program(layers: list[PackedLayer], config: EngineConfig) -> np.ndarray:
    # An engine without convolutions does not have their fields.
    layout = descriptor_layout(config)
    value_bits = codebook_value_bits(config)
    records, tables = list[bytes](), 0
    for layer in layers:
        for one in layer.passes:
            fields = {name: one.descriptor[name] for name in layout.members if name in one.descriptor}
            if one.descriptor["table"]:
                fields["table_bank"], tables = tables % 2, tables + 1
            records.append(layout.const(fields).as_bits().to_bytes(layout.size // 8, "little"))
            if not config.direct_weights:
                values = layer.quantized.codebook if not one.encoded.added else \
                    np.array([0, one.encoded.added] + [0] * (config.codebook_entries - 2))
                codebook = values & ((1 << value_bits) - 1)
                records.append(codebook.astype(f"<u{value_bits // 8}").tobytes())
            if layer.quantized.geometry is not None:
                shape = added_geometry(layer.quantized) if one.encoded.added else layer.quantized.geometry
                records.append(tap_table(shape, one.encoded, config).astype("<u2").tobytes())
            if one.descriptor["table"] and layer.quantized.table is not None:
                records.append(layer.quantized.table.astype(np.uint8).tobytes())
    return np.frombuffer(b"".join(records), np.uint8).reshape(-1, 4)


def _storage_bits(layers: list[PackedLayer], program: np.ndarray, config: EngineConfig) -> dict[str, int]:
    """Bits of the network on the chip, by their purpose; in whole words, for all PEs."""
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
