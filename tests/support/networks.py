# SPDX-License-Identifier: Apache-2.0
"""Random integer networks, and the engines that tests run them on."""

import itertools
import math
from dataclasses import replace

import numpy as np

from host.network.graph import INPUT
from host.network.layers import Geometry, taps_met
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from rtl.config import EngineConfig
from rtl.numbers import Activation

SMALL = EngineConfig(pes=4, index_bits=(3, 4, 6), entries_per_word=4, entry_depth=512, slice_word_bits=16,
                     slice_depth=256, act_depth=32, acc_depth=8, queue_depth=16, program_depth=256, packet_bytes=128)
"""Everything in small, so that layers take several passes and biases several words."""

TABLES = replace(SMALL, act_table=True, program_depth=1024)
"""The same with tables of activation functions."""

WIDE_ACTS = EngineConfig(pes=2, act_bits=16, weight_bits=6, code_bits=6, direct_weights=True, index_bits=(4,),
                         entries_per_word=2, entry_depth=512, length_bits=5, slice_word_bits=10, slice_depth=256,
                         act_depth=64, acc_depth=64, queue_depth=16, packet_bytes=64)
"""16-bit activations, weights without a codebook."""

SHARED = replace(SMALL, pes=8, pes_per_requantizer=4, index_bits=(4,))
"""Two clusters, in each of which all PEs share a requantiser."""

QUEUED = replace(SHARED, beat_queue_depth=16)
"""The same with a queue of beats in each cluster."""

CONVOLUTIONS = EngineConfig(pes=4, index_bits=(4, 6), entries_per_word=4, entry_depth=4096, slice_word_bits=16,
                            slice_depth=1024, act_depth=800, acc_depth=256, tap_bits=2, queue_depth=16,
                            program_depth=4096, packet_bytes=128)
"""Runs small convolutions, with kernels of up to 4 x 4 taps in one pass."""

WIDE_TAPS = EngineConfig(pes=2, act_bits=16, weight_bits=6, code_bits=6, direct_weights=True, index_bits=(6, 7, 8),
                         entries_per_word=2, entry_depth=4096, length_bits=5, slice_word_bits=10, slice_depth=1024,
                         act_depth=2048, acc_depth=512, tap_bits=3, queue_depth=16, program_depth=4096,
                         packet_bytes=64)
"""Up to 8 x 8 taps in one pass; slices may be no longer than 63 entries."""

LENET = [(6, Geometry((1, 12, 12), (5, 5), padding=(2, 2), pool=2, pool_stride=2)),
         (8, Geometry((6, 6, 6), (3, 3), pool=2, pool_stride=2))]
"""Output channels and geometries of two convolutions, in small as in LeNet-5."""


def random_network(rng: np.random.Generator, config: EngineConfig, sizes: list[int], density: float, *,
                   extreme: bool = False, signed: bool = False) -> QuantizedNetwork:
    """Layers of the given sizes; requantised so that outputs are neither all zero nor all saturated."""
    layers: list[QuantizedLayer] = []
    for number, (cols, rows) in enumerate(itertools.pairwise(sizes)):
        layers.append(_layer(rng, config, f"fc{number + 1}", (rows, cols), density,
                             signed if number == 0 else layers[-1].activation.signed, extreme=extreme,
                             last=number == len(sizes) - 2))
    return QuantizedNetwork("random", tuple(layers), 1.0, signed, config.act_bits)


def random_convolutions(rng: np.random.Generator, config: EngineConfig, geometries: list[tuple[int, Geometry]],
                        sizes: list[int], density: float, *, signed: bool = False) -> QuantizedNetwork:
    """Convolutions, each with its number of output channels, and then fully connected layers of the given sizes."""
    layers: list[QuantizedLayer] = []
    for number, (rows, geometry) in enumerate(geometries):
        cols = geometry.in_shape[0] // geometry.groups * math.prod(geometry.kernel)
        layer = _layer(rng, config, f"conv{number + 1}", (rows, cols), density,
                       layers[-1].activation.signed if layers else signed, last=number == len(geometries) - 1)
        taps = np.tile(taps_met(geometry), cols // math.prod(geometry.kernel))
        layers.append(replace(layer, codes=layer.codes * taps, geometry=geometry))
    for number, rows in enumerate(sizes):
        layers.append(_layer(rng, config, f"fc{number + 1}", (rows, layers[-1].outputs), density,
                             layers[-1].activation.signed, last=number == len(sizes) - 1))
    return QuantizedNetwork("random", tuple(layers), 1.0, signed, config.act_bits)


def with_tables(rng: np.random.Generator, network: QuantizedNetwork, share: float = 0.7) -> QuantizedNetwork:
    """The network with random tables for some of its layers, some of which hold no 0; values are in no order."""
    layers = []
    for layer in network.layers:
        low, high = (-128, 128) if layer.activation.signed else (0, 256)
        table = rng.integers(low, high, 256) * (rng.random(256) < 0.8)
        table = np.where(table == 0, 7, table) if rng.random() < 0.3 else table
        layers.append(replace(layer, table=table) if rng.random() < share else layer)
    return replace(network, layers=tuple(layers))


def random_branches(rng: np.random.Generator, config: EngineConfig, shape: tuple[int, int, int], count: int, *,
                    signed: bool = False) -> QuantizedNetwork:
    """``count`` convolutions of maps of one shape, each of any value before it; most add another of these values."""
    signs, layers = {INPUT: signed}, list[QuantizedLayer]()
    channels = shape[0]
    for number in range(count):
        source = str(rng.choice(list(signs)[-3:]))
        kernel = int(rng.choice([1, 3]))
        geometry = Geometry(shape, (kernel, kernel), padding=(kernel // 2, kernel // 2))
        layer = _layer(rng, config, f"conv{number + 1}", (channels, channels * kernel ** 2), 0.4, signs[source],
                       last=rng.random() < 0.3)
        layer = replace(layer, geometry=geometry, source=source)
        if rng.random() < 0.7:
            added = str(rng.choice(list(signs)[-3:]))
            layer = replace(layer, added=added, added_signed=signs[added],
                            added_weight=int(rng.integers(1, 3 << (config.weight_bits - 1))))
        layers.append(layer)
        signs[layer.name] = layer.activation.signed
    return QuantizedNetwork("branches", tuple(layers), 1.0, signed, config.act_bits)


def random_decoder(rng: np.random.Generator, config: EngineConfig, inputs: int, maps: list[tuple[int, int, int]],
                   density: float, *, signed: bool = False) -> QuantizedNetwork:
    """For each of the ``maps`` a fully connected layer that gives it, and a convolution that takes it.

    Some of the convolutions pool, some of the layers add the map to their sums. The last layer gives five values.
    """
    layers: list[QuantizedLayer] = []

    def add(name: str, shape: tuple[int, int], **fields) -> None:  # type: ignore[no-untyped-def]
        layers.append(replace(_layer(rng, config, name, shape, density, layers[-1].activation.signed if layers
                                     else signed, last=bool(rng.integers(2))), **fields))
    for number, (channels, height, width) in enumerate(maps):
        values = channels * height * width
        add(f"map{number}", (values, layers[-1].outputs if layers else inputs), out_map=(channels, height, width))
        given, stride, pads = layers[-1], int(rng.integers(1, 3)), int(rng.integers(2))
        pool = int(rng.integers(1, 3)) if min(height, width) > 2 else 1
        rows = channels if rng.integers(2) else int(rng.integers(1, 10))
        geometry = Geometry((channels, height, width), (1 + 2 * pads,) * 2, (stride, 1), (pads, pads), pool=pool,
                            pool_stride=pool)
        while min(geometry.out_shape) < 1:
            geometry = replace(geometry, pool=1, pool_stride=1)
        adds = (rows, *geometry.conv_shape) == given.out_map
        add(f"conv{number}", (rows, channels * math.prod(geometry.kernel)), geometry=geometry,
            **({"added": given.name, "added_signed": given.activation.signed, "added_weight": 3} if adds else {}))
        layers[-1] = replace(layers[-1], codes=layers[-1].codes * np.tile(taps_met(geometry), channels))
        if (rows, *geometry.out_shape) == given.out_map:
            add(f"again{number}", (values, layers[-1].outputs), out_map=given.out_map, added=given.name,
                added_signed=given.activation.signed, added_weight=5)
    add("fc", (5, layers[-1].outputs))
    return QuantizedNetwork("decoder", tuple(layers), 1.0, signed, config.act_bits)


def random_geometry(rng: np.random.Generator, channels: int, groups: int, largest: int = 5) -> Geometry:
    """A convolution of few small channels, with a kernel of at most ``largest`` rows and columns.

    Rows begin with as many zeros as columns end with, and the other way round.
    """
    while True:
        kernel, stride, padding = (rng.integers(low, high, 2).tolist()
                                   for low, high in ((1, largest + 1), (1, 4), (0, 3)))
        pool = int(rng.integers(1, 4))
        rows, cols = rng.integers(1, 12, 2).tolist()
        geometry = Geometry((channels, rows, cols), tuple(kernel), tuple(stride), tuple(padding), groups, pool,
                            int(rng.integers(1, pool + 1)), tuple(padding[::-1]))
        if min(*geometry.conv_shape, *geometry.out_shape) >= 1:
            return geometry


def _layer(rng: np.random.Generator, config: EngineConfig, name: str, shape: tuple[int, int], density: float,
           input_signed: bool, *, last: bool, extreme: bool = False) -> QuantizedLayer:
    rows, cols = shape
    high = (1 << config.code_bits) - 1
    codes = np.where(rng.random((rows, cols)) < density, rng.integers(1, high + 1, (rows, cols)), 0)
    codes[:, rng.random(cols) < 0.1] = 0
    codes[rng.random(rows) < 0.1] = 0
    codebook = _codebook(rng, config, extreme)
    activation = Activation.RELU if not last or rng.integers(2) else Activation.IDENTITY
    spread = int(np.abs(codebook).max()) * (1 << config.act_bits) // 2
    bias = rng.integers(-spread, spread + 1, rows)
    total = max(1, int(density * cols) + 1) ** 0.5 * spread
    multiplier = int(np.clip((1 << config.act_bits) / total * 2.0 ** (27 - config.act_bits), 1, 65535))
    return QuantizedLayer(name, codes.astype(np.uint8), codebook, bias.astype(np.int64), multiplier, 0,
                          activation, input_signed, 1.0, 1.0, 1.0)


def _codebook(rng: np.random.Generator, config: EngineConfig, extreme: bool) -> np.ndarray:
    values = np.arange(1 << config.code_bits)
    if config.direct_weights:
        return np.where(values >> (config.code_bits - 1), values - (1 << config.code_bits), values)
    limit = 1 << (config.weight_bits - 1)
    codebook = rng.choice([-limit, limit - 1], len(values)) if extreme else rng.integers(-limit, limit, len(values))
    codebook[codebook == 0] = 1
    codebook[0] = 0
    return codebook.astype(np.int64)


def random_acts(rng: np.random.Generator, network: QuantizedNetwork, images: int, density: float, *,
                extreme: bool = False) -> np.ndarray:
    """Input activations int64 ``[images, inputs]``."""
    bits, signed = network.act_bits, network.input_signed
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    shape = (images, network.inputs)
    values = rng.choice([low, high], shape) if extreme else rng.integers(low, high + 1, shape)
    return np.where(rng.random(shape) < density, values, 0)
