# SPDX-License-Identifier: Apache-2.0
"""Checks whether layers fit an engine: every problem names layer, memory, sizes and a remedy."""

import math
from collections.abc import Sequence

from host.network.activations import needs_table
from host.network.graph import is_chain, sources
from host.network.layers import LARGEST_POOL, Linear
from host.packing.act_bases import act_words
from host.packing.boundaries import input_shape
from host.packing.mapping import MappedLayer
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from rtl.config import RANGES, EngineConfig
from rtl.descriptor import act_table_words, codebook_words, descriptor_words, largest, tap_table_words

__all__ = ["problems_of_layers", "problems_of_memories"]

MOST_ACCUMULATORS = largest("row_pitch")


def problems_of_layers(layers: Sequence[QuantizedLayer | Linear], config: EngineConfig, preset: str) -> list[str]:
    """Every layer that cannot run on the engine, whatever its weights.

    Parameters
    ----------
    layers : sequence of QuantizedLayer or Linear
        Layers in the order of computation.
    config : EngineConfig
    preset : str
        Name of the configuration in errors.

    Returns
    -------
    list of str
        A problem and its way out, each; empty if all layers fit.
    """
    problems = [problem for layer in layers if layer.geometry
                for problem in _problems_of_convolution(layer, config, preset)]
    for layer, (source, added) in zip(layers, sources(layers), strict=True):
        if added is not None and not config.tap_bits:
            problems.append(f"layer '{layer.name}' adds the outputs of '{layer.added}' to its sums, preset '{preset}' "
                            "cannot keep sums between two passes; use a configuration with tap_bits = 2")
        if not config.act_table and (layer.table is not None if isinstance(layer, QuantizedLayer)
                                     else needs_table(layer.activation)):
            way_out = "act_table = true" if config.act_bits == 8 else "act_bits = 8 and act_table = true"
            problems.append(f"layer '{layer.name}' has an activation function that takes a table, preset '{preset}' "
                            f"has no tables; use a configuration with {way_out}")
        if source < 0:
            found = input_shape(layers)
            if layer.geometry and (found.in_shape[0], found.pixels) != (layer.geometry.in_shape[0],
                                                                        layer.geometry.pixels):
                problems.append(f"layer '{layer.name}' takes the input as {_sizes(layer.geometry.in_shape)} values, "
                                f"but another layer as {_sizes(found.in_shape)}; let all take it in one shape")
            continue
        before = layers[source]
        if before.outputs != layer.inputs:
            problems.append(f"layer '{layer.name}' takes {layer.inputs} values, but layer '{before.name}' gives "
                            f"{before.outputs}")
        elif layer.geometry and (before.map_shape[0], math.prod(before.map_shape)) != (
                layer.geometry.in_shape[0], layer.inputs):
            problems.append(f"layer '{layer.name}' takes {_sizes(layer.geometry.in_shape)} values, but layer "
                            f"'{before.name}' gives {_sizes(before.map_shape)}; the engine cannot change the shape "
                            "between them")
    return problems


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _problems_of_convolution(layer: QuantizedLayer | Linear, config: EngineConfig, preset: str) -> list[str]:
    if not config.tap_bits:
        problem = (f"layer '{layer.name}' is a convolution, preset '{preset}' has fully connected layers only; use a "
                   "configuration with tap_bits = 2")
        return [problem]
    shape, problems = layer.shape, []
    if not (1 <= shape.pool <= LARGEST_POOL and 1 <= shape.pool_stride <= shape.pool):
        problems.append(f"layer '{layer.name}': windows of max pooling must be 1 to {LARGEST_POOL} wide and at most as "
                        f"far apart, not {shape.pool} wide and {shape.pool_stride} apart")
    if min(*shape.conv_shape, *shape.out_shape) < 1:
        problems.append(f"layer '{layer.name}' has no outputs: its kernel or its pooling window exceeds its input")
    elif layer.rows % shape.groups or shape.in_shape[0] % shape.groups \
            or layer.cols != shape.in_shape[0] // shape.groups * math.prod(shape.kernel):
        problems.append(f"layer '{layer.name}': its {layer.rows} x {layer.cols} weights do not fit {shape.in_shape[0]} "
                        f"input channels in {shape.groups} groups and a kernel of "
                        f"{shape.kernel[0]} x {shape.kernel[1]}")
    elif math.prod(shape.computed_shape) > min(config.acc_depth, MOST_ACCUMULATORS):
        rows, cols = shape.computed_shape
        needs = rows * cols
        most = _power(needs)
        way_out = f"a configuration with acc_depth = {most}" if most <= MOST_ACCUMULATORS else "smaller inputs"
        problems.append(f"layer '{layer.name}' needs {needs} accumulators in each PE for the {rows} x {cols} outputs "
                        f"of a channel, preset '{preset}' has {config.acc_depth}; use {way_out}")
    return problems


def problems_of_memories(quantized: QuantizedNetwork, mapped: list[MappedLayer], config: EngineConfig,
                         preset: str) -> list[str]:
    """Every memory that is too small, with the layer at which it overflows.

    Parameters
    ----------
    quantized : QuantizedNetwork
    mapped : list of MappedLayer
        Its layers on the PEs (`host.packing.mapping.map_network`).
    config : EngineConfig
    preset : str
        Name of the configuration in errors.

    Returns
    -------
    list of str
        A problem and its way out, each; empty if all memories suffice.
    """
    problems = []
    kept = quantized.weights_kept / max(1, quantized.weights_total)
    entry_words = slice_words = program_words = 0
    overflown: set[str] = set()
    others = "" if is_chain(quantized.layers) else ", and what later layers still read"
    total = sum(_entry_words(one, config) for one in mapped)
    all_slices, all_program = (sum(count(one, config) for one in mapped) for count in (_slice_words, _program_words))
    for one, act_needs in zip(mapped, act_words(mapped, sources(quantized.layers)), strict=True):
        layer, needs = one.layer, _entry_words(one, config)
        entry_words += needs
        slice_words += _slice_words(one, config)
        program_words += _program_words(one, config)
        if entry_words > config.entry_depth and "entries" not in overflown:
            overflown.add("entries")
            biases = sum(each.assignment.words for each in mapped) * config.bias_words
            fits = max(0.0, kept * (config.entry_depth - biases) / max(1, total - biases))
            kib = sum(config.plane_bits) / 8 / 1024
            way_out = f"lower --density to {fits * 0.98:.3f} (now {kept:.3f}) or use a preset with more" if fits else \
                f"use a preset with more, or a configuration with entry_depth = {_power(total)}"
            problems.append(
                f"layer '{layer.name}' needs {needs * kib:.1f} KiB of weight memory in each PE and the whole network "
                f"{total * kib:.1f}, preset '{preset}' has {config.entry_depth * kib:.1f}; {way_out}")
        if slice_words > config.slice_depth and "slices" not in overflown:
            overflown.add("slices")
            problems.append(f"layer '{layer.name}' brings the slice memory to {slice_words} words in each PE, preset "
                            f"'{preset}' has {config.slice_depth}; use a preset with more, or a configuration "
                            f"with slice_depth = {_power(all_slices)}")
        if program_words > config.program_depth and "program" not in overflown:
            overflown.add("program")
            problems.append(f"layer '{layer.name}' brings the program to {program_words} words, preset '{preset}' has "
                            f"{config.program_depth}; use a configuration with program_depth = {_power(all_program)}")
        if act_needs > config.act_depth:
            most = _power(act_needs)
            way_out = f"use a preset with more, or a configuration with act_depth = {most}"
            if most > RANGES["act_depth"][1]:
                way_out = f"no engine has more than {RANGES['act_depth'][1]}; make the model's inputs smaller"
            problems.append(f"layer '{layer.name}' needs {act_needs} words of activation memory for its inputs and "
                            f"outputs{others}, preset '{preset}' has {config.act_depth}; {way_out}")
    return problems


def _power(words: int) -> int:
    """The depth of the smallest memory that holds this many words: a power of two."""
    return 1 << (words - 1).bit_length()


def _slice_words(one: MappedLayer, config: EngineConfig) -> int:
    return sum(encoded.slice_words(config) for encoded in one.passes)


def _program_words(one: MappedLayer, config: EngineConfig) -> int:
    tables = codebook_words(config) + (tap_table_words(config) if one.layer.geometry else 0)
    act_tables = 0 if one.layer.table is None else len(one.assignment.passes) * act_table_words(config)
    return len(one.passes) * (descriptor_words(config) + tables) + act_tables


def _entry_words(one: MappedLayer, config: EngineConfig) -> int:
    return sum(encoded.entry_words(config) for encoded in one.passes) + one.assignment.words * config.bias_words
