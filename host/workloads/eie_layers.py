# SPDX-License-Identifier: Apache-2.0
"""The layers that benchmarks measure: sizes and densities, random matrices and activations, and an engine that holds
them.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from host.cycle_model.predict import Prediction, predict
from host.decoding.decode import Decoded, decode
from host.image.image import Image, parse_image
from host.packing.image_writer import image_file
from host.packing.pack import PackedNetwork, pack
from host.quantization.golden_model import forward
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from host.quantization.quantize import requant_constants
from nonzero.errors import UserError
from rtl.config import EngineConfig
from rtl.numbers import act_range

__all__ = ["CONFIG", "EIE_LAYERS", "PUBLISHED_US", "Compiled", "Layer", "Options", "Published", "compile_drawn",
           "compile_layer", "draw", "draw_acts", "draw_codes"]


@dataclass(frozen=True)
class Layer:
    """A fully connected layer.

    Attributes
    ----------
    inputs, outputs : int
    weight_density, act_density : float
        Shares that are not zero.
    eie_ratio : float, optional
        EIE's cycles over its useful multiplications / 64, as published.
    """

    name: str
    inputs: int
    outputs: int
    weight_density: float
    act_density: float
    eie_ratio: float | None = None


EIE_LAYERS = (
    Layer("Alex-6", 9216, 4096, 0.09, 0.351, 1.28),
    Layer("Alex-7", 4096, 4096, 0.09, 0.353, 1.14),
    Layer("Alex-8", 4096, 1000, 0.25, 0.375, 1.32),
    Layer("VGG-6", 25088, 4096, 0.04, 0.183, 2.32),
    Layer("VGG-7", 4096, 4096, 0.04, 0.375, 1.75),
    Layer("VGG-8", 4096, 1000, 0.23, 0.411, 1.10),
    Layer("NT-We", 4096, 600, 0.10, 1.0, 1.67),
    Layer("NT-Wd", 600, 8791, 0.11, 1.0, 1.23),
    Layer("NT-LSTM", 1201, 2400, 0.10, 1.0, 1.34),
)
"""The layers of Han et al., "EIE" (ISCA 2016), tables III and IV; ``eie_ratio`` derived from the latter at 800 MHz."""


class Published(NamedTuple):
    """Microseconds for one vector, as published.

    Attributes
    ----------
    eie_theory, eie : float
        EIE (64 PEs, 800 MHz), theoretical and actual time.
    cpu_dense, cpu_sparse : float
        Core i7-5930K with MKL.
    gpu_dense, gpu_sparse : float
        Titan X.
    """

    eie_theory: float
    eie: float
    cpu_dense: float
    cpu_sparse: float
    gpu_dense: float
    gpu_sparse: float


PUBLISHED_US = {
    "Alex-6": Published(28.1, 30.3, 7516, 3067, 542, 135),
    "Alex-7": Published(11.7, 12.2, 6187, 1282, 243, 65.8),
    "Alex-8": Published(8.9, 9.9, 1135, 891, 80.5, 54.6),
    "VGG-6": Published(28.1, 34.4, 35023, 3774, 1468, 167),
    "VGG-7": Published(7.9, 8.7, 5373, 545, 243, 39.8),
    "VGG-8": Published(7.3, 8.4, 774, 777, 80.5, 48.0),
    "NT-We": Published(5.2, 8.0, 605, 261, 65, 17.7),
    "NT-Wd": Published(13.0, 13.9, 1361, 437, 90.1, 41.1),
    "NT-LSTM": Published(6.5, 7.5, 471, 260, 51.9, 18.5),
}
"""Batch 1, table IV of the same paper."""

CONFIG = EngineConfig(pes=64, acc_bits=28, index_bits=(3, 4, 5, 6), entry_depth=32768, slice_depth=4096, act_depth=512,
                      acc_depth=256, queue_depth=64, packet_bytes=4096)
"""One engine that holds each of the nine layers; a PE has 131,072 entries, as EIE's. A bias fills an entry word."""

UNEVEN = 4
"""Greatest over least density of rows, and of columns, in an uneven matrix."""


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes
    ----------
    config : EngineConfig
        The engine; its memories grow if a layer needs it.
    uneven : bool
        Densities vary from row to row and from column to column.
    balance, order : bool
        Whether the packer shares rows out by their work, and orders them to save skips (`host.packing.pack.pack`).
    """

    config: EngineConfig = CONFIG
    uneven: bool = False
    balance: bool = True
    order: bool = True


@dataclass(frozen=True)
class Compiled:
    """A layer that was drawn, packed, read back and predicted.

    Attributes
    ----------
    network : QuantizedNetwork
        The layer as it was drawn.
    acts : int64 array, shape ``[n, inputs]``
        Input activations.
    packed : PackedNetwork
    image : Image
    decoded : Decoded
        Contents of the image.
    outputs : list of int64 array ``[n, rows]``
        Results of the golden model for the matrix as it was drawn, not as it was read back.
    prediction : Prediction
        Counters by the cycle model.
    """

    network: QuantizedNetwork
    acts: np.ndarray
    packed: PackedNetwork
    image: Image
    decoded: Decoded
    outputs: list[np.ndarray]
    prediction: Prediction

    @property
    def config(self) -> EngineConfig:
        return self.packed.config

    @property
    def useful_macs(self) -> np.ndarray:
        """Non-zero weight times non-zero activation, straight from the matrix: int64 ``[n]``."""
        (layer,) = self.network.layers
        return (self.acts != 0) @ np.count_nonzero(layer.codes, axis=0)

    @property
    def imbalance(self) -> float:
        """Useful multiplications of the busiest PE over their mean, averaged over the inputs."""
        active = (self.acts != 0)[:, np.maximum(self.image.input_order, 0)] & (self.image.input_order >= 0)
        work = sum(active @ one.encoded.counts.T for one in self.packed.layers[0].passes)
        assert isinstance(work, np.ndarray)
        return float((work.max(axis=1) / np.maximum(work.mean(axis=1), 1e-9)).mean())


def draw(layer: Layer, config: EngineConfig, seed: int, vectors: int, *,
         uneven: bool = False) -> tuple[QuantizedNetwork, np.ndarray]:
    """A random matrix and random input activations of the layer's densities.

    Each weight and each activation is non-zero by itself. In an uneven matrix, rows have densities of their own,
    spread evenly on a logarithmic scale over a factor of `UNEVEN`, and so have columns. Biases and codebook are
    random, and outputs are requantised so that they fill their range.

    Parameters
    ----------
    layer : Layer
    config : EngineConfig
        Gives the widths of codes, weights, activations and accumulators.
    seed : int
        With the layer's name decides all that is random.
    vectors : int
        Number of input vectors.
    uneven : bool
        Whether densities vary from row to row and from column to column.

    Returns
    -------
    network : QuantizedNetwork
        The layer, with a ReLU.
    acts : int64 array, shape ``[vectors, inputs]``

    Raises
    ------
    UserError
        If a sum could overflow the accumulator.
    """
    rng = np.random.default_rng([seed, *layer.name.encode()])
    codes = draw_codes(rng, layer, config.code_bits, uneven=uneven)
    limit = 1 << (config.weight_bits - 1)
    # As many positive weights as negative ones, so that neither kind of output prevails.
    half = rng.integers(1, limit, (1 << config.code_bits) // 2 - 1)
    codebook = np.concatenate([[0, 1], half, -half])
    bias = rng.integers(-limit, limit, layer.outputs) * limit
    acts = draw_acts(rng, vectors, layer.inputs, layer.act_density, config)
    high = act_range(config.act_bits, signed=False)[1]
    longest = int(np.count_nonzero(codes, axis=1).max(initial=0))
    bound = longest * high * int(np.abs(codebook).max()) + int(np.abs(bias).max())
    if bound >= 1 << (config.acc_bits - 1):
        raise UserError(f"layer '{layer.name}': sums can reach {bound}, more than {config.acc_bits} bits hold")
    typical = max(1.0, longest * layer.act_density) ** 0.5 * high * limit / 3 + limit * limit / 2
    multiplier, pre_shift = requant_constants(layer.name, high / (2 * typical), (-bound, bound), config.act_bits,
                                              relu=True)
    one = QuantizedLayer(layer.name, codes, codebook, bias.astype(np.int64), multiplier, pre_shift,
                         True, False, 1.0, 1.0, 1.0)
    return QuantizedNetwork(layer.name, (one,), 1.0, False, config.act_bits), acts


def draw_codes(rng: np.random.Generator, layer: Layer, code_bits: int, *, uneven: bool = False) -> np.ndarray:
    """Weight codes, each non-zero by itself: uint8 ``[outputs, inputs]``.

    Parameters
    ----------
    rng : np.random.Generator
    layer : Layer
        Gives the shape and the density.
    code_bits : int
        Bits of a code.
    uneven : bool
        See `draw`.
    """
    codes = np.zeros((layer.outputs, layer.inputs), np.uint8)
    share = np.float32(layer.weight_density) * _spread(rng, layer.inputs, uneven)
    for row, factor in zip(codes, _spread(rng, layer.outputs, uneven), strict=True):
        chosen = rng.random(layer.inputs, np.float32) < share * factor
        row[chosen] = rng.integers(1, 1 << code_bits, int(chosen.sum()))
    return codes


def draw_acts(rng: np.random.Generator, vectors: int, inputs: int, density: float, config: EngineConfig) -> np.ndarray:
    """Unsigned activations, each non-zero by itself: int64 ``[vectors, inputs]``.

    Parameters
    ----------
    rng : np.random.Generator
    vectors, inputs : int
        The shape.
    density : float
        Probability that an activation is not zero, 0 to 1.
    config : EngineConfig
        Gives ``act_bits``.
    """
    high = act_range(config.act_bits, signed=False)[1]
    return np.where(rng.random((vectors, inputs)) < density, rng.integers(1, high + 1, (vectors, inputs)), 0)


def _spread(rng: np.random.Generator, count: int, uneven: bool) -> np.ndarray:
    """Factors of the density with a mean of about 1."""
    factors = np.exp2(rng.uniform(0, np.log2(UNEVEN), count) if uneven else np.zeros(count))
    return (factors / factors.mean()).astype(np.float32)


def compile_drawn(network: QuantizedNetwork, acts: np.ndarray, options: Options) -> Compiled:
    """Packs a layer, reads its image back, and predicts what it does with the activations.

    Parameters
    ----------
    network : QuantizedNetwork
        One layer, from `draw`.
    acts : int64 array, shape ``[vectors, inputs]``
    options : Options

    Raises
    ------
    UserError
        If no engine holds the layer.
    """
    packed = compile_layer(network, options)
    image = parse_image(image_file(packed), packed.config)
    decoded = decode(image, packed.config)
    outputs = forward(network, acts)
    return Compiled(network, acts, packed, image, decoded, outputs, predict(decoded, acts, outputs))


def compile_layer(network: QuantizedNetwork, options: Options) -> PackedNetwork:
    """Packs a layer for `Options.config`; if its memories are too small, for one with larger ones.

    Depths are doubled until they suffice; beyond the greatest depth, words of entries get twice as wide.

    Raises
    ------
    UserError
        If no engine holds it.
    """
    (layer,) = network.layers
    config = options.config
    config = replace(config, acc_depth=_enough(config.acc_depth, -(-layer.rows // config.pes)))
    packer = partial(pack, network, balance=options.balance, order=options.order)
    try:
        return packer(config)
    except UserError:
        most = 1 << 16
        roomy = replace(config, entry_depth=most, slice_depth=most, act_depth=most)
    try:
        packed = packer(roomy)
    except UserError:
        roomy = replace(roomy, entries_per_word=2 * config.entries_per_word)
        packed = packer(roomy, preset="greatest")
    entries = max(start + len(words) for plane in packed.planes for parts in plane for start, words in parts)
    acts = packed.input_words + packed.layers[0].assignment.words
    fitting = replace(roomy, entry_depth=_enough(config.entry_depth, entries),
                      slice_depth=_enough(config.slice_depth, len(packed.slices[0])),
                      act_depth=_enough(config.act_depth, acts))
    return packer(fitting)


def _enough(depth: int, needed: int) -> int:
    return max(depth, 1 << (needed - 1).bit_length())
