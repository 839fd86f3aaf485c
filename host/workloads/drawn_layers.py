# SPDX-License-Identifier: Apache-2.0
"""Random matrices and activations of a layer's densities."""

import numpy as np

from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from host.quantization.requant_constants import requant_constants
from host.workloads.eie_layers import Layer
from nonzero.errors import UserError
from rtl.config import EngineConfig
from rtl.numbers import Activation, act_range

__all__ = ["draw", "draw_acts", "draw_codes"]

UNEVEN = 4
"""Greatest over least density of rows, and of columns, in an uneven matrix."""


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
                                              signed=Activation.RELU.signed)
    one = QuantizedLayer(layer.name, codes, codebook, bias.astype(np.int64), multiplier, pre_shift,
                         Activation.RELU, False, 1.0, 1.0, 1.0)
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
