# SPDX-License-Identifier: Apache-2.0
"""Reads an engine image back into the integer network that it holds; shares no code with the encoder, whose inverse it
is.

It is how the compiler verifies its own output, and where a bare image gets its golden model from.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from host.decoding.adder import Adder
from host.decoding.layer_reader import LayerReader
from host.decoding.memory_reader import Memories, Memory, read_biases, read_weights
from host.image.image import Image
from host.image.program import program_passes, sections
from host.network.graph import sources
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
    source : int
        Number of the layer whose outputs it scans; -1 for the network's input.
    """

    layer: int
    lengths: np.ndarray
    taps: list[np.ndarray]
    descriptor: Any
    source: int


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


class _Value(NamedTuple):
    """The network's input or a layer's outputs in the activation memory.

    Attributes
    ----------
    columns : int64 array, shape ``[words * pes]``
        Which value each place holds, -1 for none.
    base : int
        Address of the first word.
    signed : bool
    inputs : int
        Number of values.
    """

    columns: np.ndarray
    base: int
    signed: bool
    inputs: int


class _Named(NamedTuple):
    """What `host.network.graph.sources` reads of a layer."""

    name: str
    source: str | None
    added: str | None


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
    # The network's input and the outputs of each layer; the places of a fully connected layer's inputs say which input
    # each activation is, -1 for none.
    values = [_Value(image.input_values, 0, image.input_signed, int(image.input_values.max(initial=0)) + 1)]
    if len(image.input_values) != image.input_words * config.pes or image.input_words > config.act_depth:
        raise ValueError(f"inputs of {image.input_words} words")
    wires = sources([_Named(fields["name"], fields.get("source"), fields.get("added")) for fields in image.layers])
    drained = image.input_words
    for number, (fields, (source, added)) in enumerate(zip(image.layers, wires, strict=True)):
        fold, taken = fields.get("fold"), values[source + 1]
        geometry, inputs = fold.folded if fold else fields.get("geometry"), taken.inputs
        if geometry is not None and (geometry.inputs == inputs or (geometry.inputs > inputs and source < 0)):
            inputs = geometry.inputs
        elif geometry is not None:
            raise ValueError(f"a convolution of {geometry.inputs} inputs after {inputs} values")
        # A convolution of several pixels, which skips some words, waits until all are drained.
        ready = 0 if number and geometry is not None and geometry.pixels > 1 else drained
        reader = LayerReader(fields, taken.columns, taken.base,
                             ready if source == number - 1 else len(taken.columns) // config.pes, inputs, config)
        adder = None if added is None else Adder(reader, values[added + 1].columns, values[added + 1].base)
        while not reader.complete:
            descriptor, codebook, tap_table, act_table = passes[len(decoded)]
            one = read_weights(memories, descriptor, config)
            biases = read_biases(memories, descriptor, config)
            if adder is not None and adder.comes(passes[len(decoded):]):
                adder.add(descriptor, codebook, act_table, one, biases)
            else:
                reader.add(descriptor, codebook, tap_table, act_table, one, biases)
            scanned = source if added is None or adder is None or not adder.took else added
            decoded.append(DecodedPass(number, one.lengths, one.taps, descriptor, scanned))
        begin, end = fields["output_base"], fields["output_base"] + fields["output_words"]
        if end > config.act_depth:
            raise ValueError("a layer's outputs beyond the memory")
        if reader.drains > 1 and begin < taken.base + reader.input_words and taken.base < end:
            raise ValueError("a layer that overwrites its inputs between its passes")
        layer = fold.unfolded(reader.layer()) if fold else reader.layer()
        if layer.input_signed != taken.signed:
            raise ValueError("the sign of a layer's inputs")
        if adder is not None and added is not None:
            layer = adder.layer(layer, values[added + 1].signed)
        layers.append(replace(layer, source=fields.get("source")))
        drained = reader.words - int(decoded[-1].descriptor.output_words) if reader.pixels == 1 else 0
        columns = np.full(reader.words * config.pes, -1, np.int64)
        columns[fields["output_order"]] = np.arange(len(fields["output_order"]))
        values.append(_Value(columns, fields["output_base"], layer.activation.signed, len(fields["output_order"])))
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


def _descriptors(memories: Memories, count: int,
                 config: EngineConfig) -> list[tuple[Any, np.ndarray, np.ndarray, np.ndarray]]:
    """Descriptor, codebook, tap table and table of the activation function of each pass."""
    def read(first: int, words: int) -> bytes:
        return memories.program.read(slice(0, 1), first, words).tobytes()

    found, banks = [], []
    for one in program_passes(read, count, config):
        table = np.frombuffer(one.act_table, np.int8 if one.descriptor.activation.signed else np.uint8)
        banks += [int(one.descriptor.table_bank)] * bool(one.descriptor.table)
        found.append((one.descriptor, _codebook(one.codebook, config),
                      np.frombuffer(one.tap_table, "<u2").astype(np.int64), table.astype(np.int64)))
    if banks != [number % 2 for number in range(len(banks))]:
        raise ValueError("the banks of the tables")
    return found


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
