# SPDX-License-Identifier: Apache-2.0
"""Random integer networks, and the engines that tests run them on."""

import itertools

import numpy as np

from host.quantize import QuantizedLayer, QuantizedNetwork
from rtl.config import EngineConfig

SMALL = EngineConfig(pes=4, index_bits=(3, 4, 6), entries_per_word=4, entry_depth=512, slice_word_bits=16,
                     slice_depth=256, act_depth=32, acc_depth=8, queue_depth=16, program_depth=256, packet_bytes=128)
"""Everything in small, so that layers take several passes and biases several words."""

WIDE_ACTS = EngineConfig(pes=2, act_bits=16, weight_bits=6, code_bits=6, direct_weights=True, index_bits=(4,),
                         entries_per_word=2, entry_depth=512, length_bits=5, slice_word_bits=10, slice_depth=256,
                         act_depth=64, acc_depth=64, queue_depth=16, packet_bytes=64)
"""16-bit activations, weights without a codebook."""


def random_network(rng: np.random.Generator, config: EngineConfig, sizes: list[int], density: float, *,
                   extreme: bool = False, signed: bool = False) -> QuantizedNetwork:
    """Layers of the given sizes; requantised so that outputs are neither all zero nor all saturated."""
    layers = []
    for number, (cols, rows) in enumerate(itertools.pairwise(sizes)):
        high = (1 << config.code_bits) - 1
        codes = np.where(rng.random((rows, cols)) < density, rng.integers(1, high + 1, (rows, cols)), 0)
        codes[:, rng.random(cols) < 0.1] = 0
        codes[rng.random(rows) < 0.1] = 0
        codebook = _codebook(rng, config, extreme)
        relu = number < len(sizes) - 2 or bool(rng.integers(2))
        spread = int(np.abs(codebook).max()) * (1 << config.act_bits) // 2
        bias = rng.integers(-spread, spread + 1, rows)
        total = max(1, int(density * cols) + 1) ** 0.5 * spread
        multiplier = int(np.clip((1 << config.act_bits) / total * 2.0 ** (27 - config.act_bits), 1, 65535))
        layers.append(QuantizedLayer(f"fc{number + 1}", codes.astype(np.uint8), codebook, bias.astype(np.int64),
                                     multiplier, 0, relu, signed if number == 0 else not layers[-1].relu,
                                     1.0, 1.0, 1.0))
    return QuantizedNetwork("random", tuple(layers), 1.0, signed, config.act_bits)


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
