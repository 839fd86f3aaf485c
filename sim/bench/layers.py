# SPDX-License-Identifier: Apache-2.0
"""The layers that are measured: sizes and densities, random matrices and activations, the engine that holds them."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from host.errors import UserError
from host.pack import PackedNetwork, pack
from host.quantize import QuantizedLayer, QuantizedNetwork, requant_constants
from rtl.config import EngineConfig
from rtl.numbers import act_range

__all__ = ["CONFIG", "EIE_LAYERS", "Layer", "Options", "compile_layer", "draw", "draw_acts"]


@dataclass(frozen=True)
class Layer:
    """A fully connected layer.

    Attributes
    ----------
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

CONFIG = EngineConfig(pes=64, acc_bits=28, index_bits=(3, 4, 5, 6), entry_depth=32768, slice_depth=4096, act_depth=512,
                      acc_depth=256, queue_depth=64, packet_bytes=4096)
"""One engine that holds each of the nine layers; a PE has 131,072 entries, as EIE's. A bias fills an entry word."""

UNEVEN = 4
"""Greatest over least density of rows, and of columns, in an uneven matrix."""


@dataclass(frozen=True)
class Options:
    """What a run varies.

    Attributes
    ----------
    config : EngineConfig
        The engine; its memories grow if a layer needs it.
    uneven : bool
        Densities vary from row to row and from column to column.
    balance, order : bool
        Whether the packer shares rows out by their work, and orders them to save skips (`host.pack.pack`).
    """

    config: EngineConfig = CONFIG
    uneven: bool = False
    balance: bool = True
    order: bool = True


def draw(layer: Layer, config: EngineConfig, seed: int, vectors: int, *,
         uneven: bool = False) -> tuple[QuantizedNetwork, np.ndarray]:
    """A random matrix and random input activations of the layer's densities.

    Each weight and each activation is non-zero by itself. In an uneven matrix, rows have densities of their own,
    spread evenly on a logarithmic scale over a factor of `UNEVEN`, and so have columns. Biases and codebook are
    random, and outputs are requantised so that they fill their range.

    Returns
    -------
    network : QuantizedNetwork
        The layer, with a ReLU.
    acts : int64 array, shape ``[vectors, inputs]``
    """
    rng = np.random.default_rng([seed, *layer.name.encode()])
    codes = np.zeros((layer.outputs, layer.inputs), np.uint8)
    share = np.float32(layer.weight_density) * _spread(rng, layer.inputs, uneven)
    for row, factor in zip(codes, _spread(rng, layer.outputs, uneven), strict=True):
        chosen = rng.random(layer.inputs, np.float32) < share * factor
        row[chosen] = rng.integers(1, 1 << config.code_bits, int(chosen.sum()))
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


def draw_acts(rng: np.random.Generator, vectors: int, inputs: int, density: float, config: EngineConfig) -> np.ndarray:
    """Unsigned activations, each non-zero by itself: int64 ``[vectors, inputs]``."""
    high = act_range(config.act_bits, signed=False)[1]
    return np.where(rng.random((vectors, inputs)) < density, rng.integers(1, high + 1, (vectors, inputs)), 0)


def _spread(rng: np.random.Generator, count: int, uneven: bool) -> np.ndarray:
    """Factors of the density with a mean of about 1."""
    factors = np.exp2(rng.uniform(0, np.log2(UNEVEN), count) if uneven else np.zeros(count))
    return (factors / factors.mean()).astype(np.float32)


def compile_layer(network: QuantizedNetwork, options: Options) -> PackedNetwork:
    """Packs a layer for `Options.config`; for one with memories doubled until they hold it, if that does not.

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
        packed = packer(roomy, preset="greatest")
    entries = max(start + len(words) for plane in packed.planes for parts in plane for start, words in parts)
    acts = packed.input_words + packed.layers[0].assignment.words
    fitting = replace(config, entry_depth=_enough(config.entry_depth, entries),
                      slice_depth=_enough(config.slice_depth, len(packed.slices[0])),
                      act_depth=_enough(config.act_depth, acts))
    return packer(fitting)


def _enough(depth: int, needed: int) -> int:
    return max(depth, 1 << (needed - 1).bit_length())
