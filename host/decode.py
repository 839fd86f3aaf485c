# SPDX-License-Identifier: Apache-2.0
"""Reads an engine image back into the integer network that it holds: the encoder's inverse, written apart from it.

It is how the compiler verifies its own output, and where a bare image gets its golden model from.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from host.errors import UserError
from host.image import Image
from host.quantize import QuantizedLayer, QuantizedNetwork
from host.tensors import VALUES_LIMIT
from rtl.config import EngineConfig
from rtl.layouts import (
    DESCRIPTOR_WORD_BITS,
    HEADER_BYTES,
    SECTION_BYTES,
    SectionKind,
    codebook_value_bits,
    codebook_words,
    descriptor_layout,
    header_layout,
    long_slice,
    section_layout,
)
from rtl.numbers import PRE_SHIFTS

__all__ = ["Decoded", "DecodedPass", "decode"]


@dataclass(frozen=True)
class DecodedPass:
    """A pass of the program.

    Attributes
    ----------
    layer : int
        Number of the layer that it belongs to.
    lengths : int64 array, shape ``[pes, cols]``
        Entries of each slice, skips and padding included.
    taps : list of int16 arrays, one for each PE
        The tap of each entry, 0 in a fully connected layer; -1 is no weight.
    descriptor : rtl.layouts.descriptor_layout
    input_words, chase_words, output_words : int
        See `rtl.layouts.descriptor_layout`.
    """

    layer: int
    lengths: np.ndarray
    taps: list[np.ndarray]
    descriptor: Any
    input_words: int
    chase_words: int
    output_words: int


@dataclass(frozen=True)
class Decoded:
    """The integer network of an image (its layers' scales are 1), and the passes of its program."""

    image: Image
    config: EngineConfig
    network: QuantizedNetwork
    passes: list[DecodedPass]


@dataclass
class _Memories:
    """Memory contents as unsigned fields: program words, slice words and entry planes as bits."""

    program: np.ndarray
    slices: np.ndarray
    planes: list[np.ndarray]


def decode(image: Image, config: EngineConfig) -> Decoded:
    """What an image holds.

    Raises
    ------
    UserError
        If the image's contents contradict each other.
    """
    try:
        return _network(image, config)
    except (IndexError, ValueError) as error:
        raise UserError(f"the image's contents contradict each other ({error}); compile it again") from None


def _network(image: Image, config: EngineConfig) -> Decoded:
    memories = _memories(image.engine, config)
    header: Any = header_layout().from_bits(int.from_bytes(image.engine[:HEADER_BYTES], "little"))
    passes = _descriptors(memories, int(header.layers), config)
    layers: list[QuantizedLayer] = []
    decoded: list[DecodedPass] = []
    # Which input each column of the layer is; -1 for none.
    columns = image.input_order
    inputs = int(columns.max(initial=0)) + 1
    number = 0
    signed = image.input_signed
    for fields in image.layers:
        rows = len(fields["output_order"])
        if fields["output_words"] == 0 or rows * inputs > VALUES_LIMIT:
            raise ValueError(f"a layer of {fields['output_words']} words, {rows} rows and {inputs} columns")
        slots = fields["output_order"] // config.pes
        pes = fields["output_order"] % config.pes
        codes = np.zeros((rows, inputs), np.uint8)
        bias = np.zeros(rows, np.int64)
        first = 0
        while first < fields["output_words"]:
            descriptor, codebook = passes[number]
            grid, lengths, taps = _codes(memories, descriptor, config)
            decoded.append(DecodedPass(
                len(layers), lengths, taps, descriptor, int(descriptor.input_words), int(descriptor.chase_words),
                int(descriptor.output_words)))
            biases = _biases(memories, descriptor, config)
            count = int(descriptor.output_words)
            here = (slots >= first) & (slots < first + count)
            used = columns >= 0
            codes[np.ix_(np.flatnonzero(here), columns[used])] = \
                grid[pes[here], slots[here] - first][:, np.flatnonzero(used)]
            bias[here] = biases[pes[here], slots[here] - first]
            first += count
            number += 1
        layers.append(QuantizedLayer(fields["name"], codes, codebook, bias, int(descriptor.multiplier),
                                     PRE_SHIFTS[int(descriptor.pre_shift)], bool(descriptor.relu),
                                     bool(descriptor.input_signed), 1.0, 1.0, 1.0))
        if layers[-1].input_signed != signed:
            raise ValueError("the sign of a layer's inputs")
        signed = not layers[-1].relu
        columns = np.full(fields["output_words"] * config.pes, -1, np.int64)
        columns[fields["output_order"]] = np.arange(rows)
        inputs = rows
    network = QuantizedNetwork("image", tuple(layers), image.input_scale, image.input_signed, config.act_bits)
    return Decoded(image, config, network, decoded)


def _memories(engine: bytes, config: EngineConfig) -> _Memories:
    """Fills memories section by section, as the loader does."""
    pes, plane_bits = config.pes, config.plane_bits
    program = np.zeros((config.program_depth, DESCRIPTOR_WORD_BITS // 8), np.uint8)
    slices = np.zeros((pes, config.slice_depth, -(-config.slice_word_bits // 8)), np.uint8)
    planes = [np.zeros((pes, config.entry_depth, -(-bits // 8)), np.uint8) for bits in plane_bits]
    at = HEADER_BYTES
    while at < len(engine) - 4:
        section: Any = section_layout().from_bits(
            int.from_bytes(b"\0" + engine[at + 1:at + SECTION_BYTES], "little"))
        kind, pe, start, count = engine[at], int(section.pe), int(section.start), int(section.count)
        at += SECTION_BYTES
        target = program if kind == SectionKind.PROGRAM.value else \
            (slices if kind == SectionKind.SLICES.value else planes[kind - SectionKind.ENTRIES.value])[pe]
        length = count * target.shape[1]
        target[start:start + count] = np.frombuffer(engine[at:at + length], np.uint8).reshape(count, -1)
        at += length
    return _Memories(program, slices, planes)


def _descriptors(memories: _Memories, count: int, config: EngineConfig) -> list[tuple[Any, np.ndarray]]:
    layout = descriptor_layout(config)
    value_bits = codebook_value_bits(config)
    at, found = 0, []
    content = memories.program.tobytes()
    for _ in range(count):
        descriptor = layout.from_bits(int.from_bytes(content[at:at + layout.size // 8], "little"))
        at += layout.size // 8
        codebook_bytes = codebook_words(config) * 4
        if config.direct_weights:
            values = np.arange(1 << config.code_bits)
            codebook = np.where(values >> (config.code_bits - 1), values - (1 << config.code_bits), values)
        else:
            codebook = np.frombuffer(content[at:at + codebook_bytes], f"<i{value_bits // 8}")
        at += codebook_bytes
        found.append((descriptor, codebook.astype(np.int64)))
    return found


def _fields(words: np.ndarray, word_bits: int, bits: int) -> np.ndarray:
    """Memory words ``[..., words, bytes]`` as unsigned fields ``[..., fields]``."""
    spread = np.unpackbits(words, axis=-1, bitorder="little")[..., :word_bits]
    spread = spread.reshape(*words.shape[:-2], -1, bits).astype(np.int64)
    return spread @ (1 << np.arange(bits))


def _codes(memories: _Memories, descriptor: Any,
           config: EngineConfig) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Weight codes uint8 ``[pes, rows of each PE, cols]`` of a pass, its slices' lengths, the entries' taps."""
    mode, bits = int(descriptor.index_mode), config.length_bits
    if descriptor.input_words > config.act_depth or descriptor.output_words > config.acc_depth:
        raise ValueError(f"a pass of {int(descriptor.input_words)} words of inputs and "
                         f"{int(descriptor.output_words)} rows")
    cols = int(descriptor.input_words) * config.pes
    slice_words = cols // config.block_cols
    stored = memories.slices[:, int(descriptor.slice_base):][:, :slice_words]
    lengths = _fields(stored, config.slice_word_bits, bits)
    lengths = np.where(lengths == (1 << bits) - 1, long_slice(bits), lengths)
    codes = np.zeros((config.pes, int(descriptor.output_words), cols), np.uint8)
    taps = []
    for pe in range(config.pes):
        total = int(lengths[pe].sum())
        words = -(-total // config.entries_per_word)
        base = int(descriptor.entry_base)
        narrow = config.index_bits[0]
        entries = _fields(memories.planes[0][pe, base:base + words], config.entry_word_bits, narrow + config.code_bits)
        index, code = entries[:total] & ((1 << narrow) - 1), entries[:total] >> narrow
        for plane in range(1, mode + 1):
            start = base - int(descriptor.plane_offsets[plane - 1])
            part_bits = config.index_bits[plane] - config.index_bits[plane - 1]
            part = _fields(memories.planes[plane][pe, start:start + words], config.plane_bits[plane], part_bits)
            index = index | part[:total] << config.index_bits[plane - 1]
        # A weight goes to the row `index` beyond the next one; a skip only moves on.
        moves = np.where(code == 0, (index + 1) << config.index_bits[mode], index + 1)
        reached = np.cumsum(moves)
        col = np.repeat(np.arange(cols), lengths[pe])
        starts = np.cumsum(lengths[pe]) - lengths[pe]
        before = np.concatenate([[0], reached])[starts]
        row = reached - before[col] - 1
        useful = code != 0
        codes[pe, row[useful], col[useful]] = code[useful]
        taps.append(np.where(useful, 0, -1).astype(np.int16))
    return codes, lengths, taps


def _biases(memories: _Memories, descriptor: Any, config: EngineConfig) -> np.ndarray:
    """Biases int64 ``[pes, rows of each PE]`` of a pass."""
    base, rows = int(descriptor.bias_base), int(descriptor.output_words)
    words = memories.planes[0][:, base:base + rows * config.bias_words]
    bits = np.unpackbits(words, axis=-1, bitorder="little")[..., :config.entry_word_bits]
    bits = bits.reshape(config.pes, rows, -1)[..., :config.acc_bits].astype(np.int64)
    unsigned = bits @ (1 << np.arange(config.acc_bits))
    return np.where(unsigned >> (config.acc_bits - 1), unsigned - (1 << config.acc_bits), unsigned)
