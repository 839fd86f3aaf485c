# SPDX-License-Identifier: Apache-2.0
"""Small networks that use much of what an engine can do, one for each preset."""

import math
from dataclasses import dataclass, replace

import numpy as np

from host.decoding.decode import decode
from host.image.image import Image, parse_image
from host.network.layers import Geometry, taps_met
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from rtl.config import EngineConfig
from rtl.numbers import MULTIPLIER_BITS, Activation

from .draft import ENTRIES, Draft, Section

__all__ = ["good_image"]


@dataclass(frozen=True)
class Shape:
    """Fully connected layers that are drawn.

    Attributes
    ----------
    inputs : int
    layers : tuple of (int, float)
        Rows of each layer and density of its weights.
    rows_in_pass : int
        Most rows of each PE in a pass; fewer than the engine could hold, so that small layers have several passes.
    """

    inputs: int
    layers: tuple[tuple[int, float], ...]
    rows_in_pass: int


SHAPES = {
    "tiny": Shape(7, ((30, 0.2), (35, 0.1), (6, 0.15)), 8),
    "up5k": Shape(5, ((16, 0.25), (19, 0.2), (5, 0.25)), 8),
    "small": Shape(13, ((11, 0.3), (67, 0.2)), 8),
    # More than 16 rows of a PE, so that the upper bits of an index are needed.
    "default": Shape(10, ((13, 0.3), (285, 0.2)), 18),
    "medium": Shape(14, ((21, 0.3), (131, 0.1)), 8),
    "large": Shape(24, ((21, 0.2), (259, 0.06)), 8),
    "wide": Shape(40, ((50, 0.2), (70, 0.1)), 8),
}

CONVOLUTIONS = (
    # The first runs in two bands, with padding and overlapping windows. The second has a stride: four scans, of which
    # all but the last leave their sums in the accumulators.
    (6, Geometry((1, 8, 8), (5, 5), (1, 1), (2, 2), 1, 3, 2)),
    (5, Geometry((6, 3, 3), (3, 3), (2, 2), (1, 1))),
)
OUTPUTS = 7


def good_image(preset: str, config: EngineConfig, seed: int) -> Image:
    """The image of a seeded network of two or three layers; the inputs of every other layer are signed.

    Parameters
    ----------
    preset : str
        Name of the preset; decides the sizes of fully connected layers.
    config : EngineConfig
        That of the preset.
    seed : int
        Decides weights and biases.
    """
    rng = np.random.default_rng(seed)
    while True:
        layers = _convolutions(rng, config) if config.tap_bits else _matrices(rng, config, SHAPES[preset])
        network = QuantizedNetwork("drawn", tuple(layers), 1.0, True, config.act_bits)
        rows = config.acc_depth if config.tap_bits else SHAPES[preset].rows_in_pass
        packed = replace(pack(network, replace(config, acc_depth=rows)), config=config)
        image = parse_image(image_file(packed), config)
        if len(config.index_bits) == 1:
            return image
        widened = _widened(image, config)
        if widened is not None:
            return widened


def _matrices(rng: np.random.Generator, config: EngineConfig, shape: Shape) -> list[QuantizedLayer]:
    layers: list[QuantizedLayer] = []
    for rows, density in shape.layers:
        layers.append(_layer(rng, config, (rows, layers[-1].rows if layers else shape.inputs), density, len(layers)))
    return layers


def _convolutions(rng: np.random.Generator, config: EngineConfig) -> list[QuantizedLayer]:
    layers: list[QuantizedLayer] = []
    for rows, geometry in CONVOLUTIONS:
        channels = geometry.in_shape[0]
        layer = _layer(rng, config, (rows, channels * math.prod(geometry.kernel)), 0.4, len(layers))
        layers.append(replace(layer, codes=layer.codes * np.tile(taps_met(geometry), channels), geometry=geometry))
    return [*layers, _layer(rng, config, (OUTPUTS, layers[-1].outputs), 0.3, len(layers))]


def _layer(rng: np.random.Generator, config: EngineConfig, shape: tuple[int, int], density: float,
           number: int) -> QuantizedLayer:
    """Outputs are neither all zero nor all saturated."""
    codes = np.where(rng.random(shape) < density, rng.integers(1, 1 << config.code_bits, shape), 0)
    limit = 1 << (config.weight_bits - 1)
    codebook = np.concatenate([[0], rng.integers(1, limit, (1 << config.code_bits) - 1)])
    codebook *= rng.choice([-1, 1], len(codebook))
    spread = limit << (config.act_bits - 2)
    multiplier = (1 << 27) // (spread * (2 + int(density * shape[1])))
    signed = number % 2 == 0
    return QuantizedLayer(f"layer {number + 1}", codes.astype(np.uint8), codebook,
                          rng.integers(-spread, spread, shape[0]), min(multiplier, (1 << MULTIPLIER_BITS) - 1), 0,
                          Activation.RELU if signed else Activation.IDENTITY, signed, 1.0, 1.0, 1.0)


def _widened(image: Image, config: EngineConfig) -> Image | None:
    """The same network with indices in two planes in the pass of most rows; None if that has skips."""
    decoded = decode(image, config)
    if any(int(one.descriptor.index_mode) for one in decoded.passes):
        return image
    number = max(range(len(decoded.passes)), key=lambda number: int(decoded.passes[number].descriptor.output_words))
    one, draft = decoded.passes[number], Draft(image.engine, config)
    if any((taps < 0).any() for taps in one.taps):
        return None
    draft.set_field(number, "index_mode", 1)
    draft.set_field(number, "plane_offsets", int(one.descriptor.entry_base))
    words = -(-one.lengths.sum(axis=1) // config.entries_per_word)
    draft.sections += [Section(ENTRIES + 1, pe, 0, count, bytearray(count * draft.word_bytes[ENTRIES + 1]))
                       for pe, count in enumerate(words.tolist()) if count]
    return replace(image, engine=draft.sealed())
