# SPDX-License-Identifier: Apache-2.0
"""Reads an engine image back into the integer network that it holds; shares no code with the encoder, whose inverse it
is.

It is how the compiler verifies its own output, and where a bare image gets its golden model from.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from host.decoding.layer_reader import LayerReader
from host.decoding.memory_reader import Memories, Memory, read_biases, read_weights
from host.image.image import Image
from host.image.program import program_passes, sections
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from nonzero.errors import UserError
from rtl.config import EngineConfig
from rtl.descriptor import codebook_value_bits
from rtl.image_format import HEADER_BYTES, SectionKind, header_layout, section_memories

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
    descriptor : rtl.descriptor.whole_descriptor
    """

    layer: int
    lengths: np.ndarray
    taps: list[np.ndarray]
    descriptor: Any


@dataclass(frozen=True)
class Decoded:
    """Contents of an image.

    Attributes
    ----------
    image : Image
    config : EngineConfig
        The engine that it was made for.
    network : QuantizedNetwork
        The integer network; the scales of its layers are 1, because the engine does not need them.
    passes : list of DecodedPass
        Passes in the order of the program.
    """

    image: Image
    config: EngineConfig
    network: QuantizedNetwork
    passes: list[DecodedPass]


def decode(image: Image, config: EngineConfig) -> Decoded:
    """Reads the integer network and the passes that an image holds.

    Parameters
    ----------
    image : Image
    config : EngineConfig
        The engine that the image was made for.

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
    header: Any = header_layout().from_bits(int.from_bytes(image.engine[:HEADER_BYTES], "little"))
    memories = _memories(image.engine, config)
    passes = _descriptors(memories, int(header.layers), config)
    layers: list[QuantizedLayer] = []
    decoded: list[DecodedPass] = []
    # Which input each activation before the layer is; -1 for none.
    columns, input_base, ready = image.input_values, 0, image.input_words
    if len(columns) != ready * config.pes or ready > config.act_depth:
        raise ValueError(f"inputs of {ready} words")
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
            decoded.append(DecodedPass(len(layers), one.lengths, one.taps, descriptor))
        begin, end = fields["output_base"], fields["output_base"] + fields["output_words"]
        if end > config.act_depth:
            raise ValueError("a layer's outputs beyond the memory")
        if reader.drains > 1 and begin < input_base + reader.input_words and input_base < end:
            raise ValueError("a layer that overwrites its inputs between its passes")
        layers.append(fold.unfolded(reader.layer()) if fold else reader.layer())
        if layers[-1].input_signed != signed:
            raise ValueError("the sign of a layer's inputs")
        signed = layers[-1].activation.signed
        ready = reader.words - int(decoded[-1].descriptor.output_words) if reader.pixels == 1 else 0
        columns, input_base = np.full(reader.words * config.pes, -1, np.int64), fields["output_base"]
        columns[fields["output_order"]] = np.arange(len(fields["output_order"]))
        inputs = len(fields["output_order"])
    if len(decoded) != len(passes):
        raise ValueError(f"{len(passes)} passes, of which the layers have {len(decoded)}")
    network = QuantizedNetwork("image", tuple(layers), image.input_scale, image.input_signed, config.act_bits)
    return Decoded(image, config, network, decoded)


def _memories(engine: bytes, config: EngineConfig) -> Memories:
    """Fills memories section by section, as the loader does."""
    kinds: dict[int, Memory] = {}
    for kind, (width, depth) in section_memories(config).items():
        name, pes = ("words of the program", 1) if kind == SectionKind.PROGRAM.value else \
            ("slices" if kind == SectionKind.SLICES.value else "entries", config.pes)
        kinds[kind] = Memory(name, pes, depth, width)
    for section in sections(engine, config):
        kinds[section.kind].fill(section.pe, section.start, section.words)
    program, slices, *planes = (kinds[kind] for kind in sorted(kinds))
    return Memories(program, slices, planes)


def _descriptors(memories: Memories, count: int, config: EngineConfig) -> list[tuple[Any, np.ndarray, np.ndarray]]:
    """Descriptor, codebook and tap table of each pass."""
    def read(first: int, words: int) -> bytes:
        return memories.program.read(slice(0, 1), first, words).tobytes()

    return [(one.descriptor, _codebook(one.codebook, config), np.frombuffer(one.tap_table, "<u2").astype(np.int64))
            for one in program_passes(read, count, config)]


def _codebook(content: bytes, config: EngineConfig) -> np.ndarray:
    """The integer weight of each code: int64 ``[2**code_bits]``."""
    if config.direct_weights:
        values = np.arange(1 << config.code_bits)
        return np.where(values >> (config.code_bits - 1), values - (1 << config.code_bits), values)
    value_bits = codebook_value_bits(config)
    codebook = np.frombuffer(content, f"<i{value_bits // 8}").astype(np.int64)
    # No weight has code 0: the engine never looks at its value.
    codebook[0] = 0
    if (codebook >> (config.weight_bits - 1) != codebook >> value_bits).any():
        raise ValueError(f"a weight of more than {config.weight_bits} bits")
    return codebook
