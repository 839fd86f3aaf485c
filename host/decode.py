# SPDX-License-Identifier: Apache-2.0
"""Reads an engine image back into the integer network that it holds: the encoder's inverse, written apart from it.

It is how the compiler verifies its own output, and where a bare image gets its golden model from.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from host.errors import UserError
from host.image import Image
from host.layer_reader import LayerReader
from host.memories import Memories, read_biases, read_weights
from host.quantize import QuantizedLayer, QuantizedNetwork
from rtl.config import EngineConfig
from rtl.layouts import (
    DESCRIPTOR_WORD_BITS,
    HEADER_BYTES,
    SECTION_BYTES,
    LayerKind,
    SectionKind,
    codebook_value_bits,
    codebook_words,
    descriptor_layout,
    header_layout,
    section_layout,
    tap_table_words,
)

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
    # Which input each activation before the layer is; -1 for none.
    columns, input_base, ready = image.input_values, 0, image.input_words
    inputs = int(columns.max(initial=0)) + 1
    signed = image.input_signed
    for fields in image.layers:
        fold = fields.get("fold")
        geometry = fold.folded if fold else fields.get("geometry")
        if geometry is not None and (geometry.inputs == inputs or (geometry.inputs > inputs and not layers)):
            inputs = geometry.inputs
        elif geometry is not None:
            raise ValueError(f"a convolution of {geometry.inputs} inputs after {inputs} values")
        reader = LayerReader(fields, columns, input_base, ready, inputs, config)
        while not reader.complete:
            descriptor, codebook, tap_table = passes[len(decoded)]
            one = read_weights(memories, descriptor, config)
            reader.add(descriptor, codebook, tap_table, one, read_biases(memories, descriptor, config))
            decoded.append(DecodedPass(
                len(layers), one.lengths, one.taps, descriptor, int(descriptor.input_words),
                int(descriptor.chase_words), int(descriptor.output_words)))
        begin, end = fields["output_base"], fields["output_base"] + fields["output_words"]
        if reader.drains > 1 and begin < input_base + reader.input_words and input_base < end:
            raise ValueError("a layer that overwrites its inputs between its passes")
        layers.append(fold.unfolded(reader.layer()) if fold else reader.layer())
        if layers[-1].input_signed != signed:
            raise ValueError("the sign of a layer's inputs")
        signed = not layers[-1].relu
        ready = reader.words - decoded[-1].output_words if reader.pixels == 1 else 0
        columns, input_base = np.full(reader.words * config.pes, -1, np.int64), fields["output_base"]
        columns[fields["output_order"]] = np.arange(len(fields["output_order"]))
        inputs = len(fields["output_order"])
    network = QuantizedNetwork("image", tuple(layers), image.input_scale, image.input_signed, config.act_bits)
    return Decoded(image, config, network, decoded)


def _memories(engine: bytes, config: EngineConfig) -> Memories:
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
    return Memories(program, slices, planes)


def _descriptors(memories: Memories, count: int, config: EngineConfig) -> list[tuple[Any, np.ndarray, np.ndarray]]:
    """Of each pass its descriptor, codebook and tap table."""
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
        tables = tap_table_words(config) * 4 if descriptor.kind == LayerKind.CONVOLUTION else 0
        tap_table = np.frombuffer(content[at:at + tables], "<u2").astype(np.int64)
        at += tables
        found.append((descriptor, codebook.astype(np.int64), tap_table))
    return found
