# SPDX-License-Identifier: Apache-2.0
"""Scales channels between layers, so that one scale for a layer's weights and one for its outputs lose little.

The engine has one scale for all weights of a layer, and one for all its outputs. A channel that spans little of that
range is rounded coarsely; in depthwise convolutions this costs most. A channel behind a ReLU, or without an activation
function, may be divided by any positive number, if the weights of its readers are multiplied by that: the network
computes the same. So each value between layers gets the divisors, out of a few choices, that least change what its
readers compute, once weights and outputs are rounded.

After M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.1,
whose divisors follow from the weights alone; here the ranges of the outputs are a choice as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from tqdm import tqdm

from host.datasets import as_inputs
from host.network.graph import sources
from host.network.layers import Linear, Network
from host.training.forward import activations, layer_outputs, layer_sums, tensors, weighted_sums
from rtl.numbers import Activation, act_range

__all__ = ["even_channels"]

VALUES = 1 << 22
"""Values that the examples have for the largest layer, at most, unless these are only 2 examples."""

EXPONENTS = (0.25, 0.5, 0.75, 1.0)
"""Powers of the ranges that are tried as divisors."""

LIMIT = 64.0
"""Greatest divisor, and the least one's inverse."""

CLIPS = (1.0, 0.8, 0.6, 0.45, 0.3)
"""Shares of the greatest output that are tried as the greatest representable one."""

HELPED_BITS = 1
"""Bits by which weights are finer here than they will be: `host.compression.round_weights` makes good most of their
error."""


def even_channels(network: Network, images: np.ndarray, *, weight_bits: int, act_bits: int) -> Network:
    """``network`` with channels that lose less by rounding; what it computes stays.

    Parameters
    ----------
    network : Network
    images : uint8 or float array, shape ``[n, ...]``
        Examples of its inputs.
    weight_bits, act_bits : int
        Bits that weights and activations are going to have.
    """
    largest = max(max(layer.inputs, layer.outputs) for layer in network.layers)
    count = min(len(images), max(2, VALUES // largest))
    chosen = images[np.linspace(0, len(images) - 1, count).astype(np.int64)]
    values = [torch.from_numpy(as_inputs(chosen))]
    layers, readers = list(network.layers), _readers(network.layers)
    with torch.no_grad():
        places = tqdm(sources(layers), "scaling channels", unit="layer", leave=False, disable=None)
        for number, wires in enumerate(places):
            evened = tensors(replace(network, layers=tuple(layers)))[number]
            values.append(layer_outputs(evened, layer_sums(evened, values)))
            if readers[number]:
                trial = _Trial(layers, number, readers[number], values[wires.source + 1], values[-1],
                               weight_bits + HELPED_BITS, act_bits)
                best = min(trial.choices(), key=trial.error)
                layers = trial.scaled(best)
                values[-1] = values[-1] / trial.each_output(best)
    return replace(network, layers=tuple(layers))


def _readers(layers: Sequence[Linear]) -> list[list[int]]:
    """For each layer those that take its outputs, all as their source; none if its channels may not be scaled."""
    read: list[list[int]] = [[] for _ in layers]
    held = {len(layers) - 1}
    for number, (source, added) in enumerate(sources(layers)):
        if source >= 0:
            read[source].append(number)
        if added is not None:
            held |= {number, added}
        if layers[number].fixed:
            held |= {number, source}
    for number, layer in enumerate(layers):
        if not isinstance(layer.activation, Activation) or layer.rows != layer.map_shape[0]:
            held.add(number)
    return [[] if number in held else found for number, found in enumerate(read)]


class _Trial:
    """Tries divisors of the channels that the layer ``number`` gives to ``readers``.

    ``inputs`` and ``outputs`` are this layer's on the examples; weights get ``weight_bits``, outputs ``act_bits``.
    """

    def __init__(self, layers: list[Linear], number: int, readers: list[int], inputs: torch.Tensor,
                 outputs: torch.Tensor, weight_bits: int, act_bits: int) -> None:
        self.layers, self.number, self.readers = layers, number, readers
        self.inputs, self.outputs, self.weight_bits, self.act_bits = inputs, outputs, weight_bits, act_bits
        self.exact = [_sums(layers[reader], layers[reader].weight, outputs) for reader in readers]
        self.powers = [float((sums - sums.mean(0)).square().mean()) or 1.0 for sums in self.exact]

    def choices(self) -> Iterator[np.ndarray]:
        """Divisors of the channels, float64 ``[channels]``: all 1 first."""
        layer = self.layers[self.number]
        yield np.ones(layer.rows)
        reach = self.outputs.abs().reshape(len(self.outputs), layer.rows, -1).amax((0, 2)).double().numpy()
        taken = np.max([_each_channel(self.layers[one], layer.rows) for one in self.readers], axis=0)
        given = np.abs(layer.weight).max(axis=1, initial=0).astype(np.float64)
        alive = (reach > 0) & (taken > 0) & (given > 0)
        if alive.sum() < 2:
            return
        for ranges in (reach, given / np.where(alive, taken, 1)):
            middle = np.exp(np.log(ranges[alive]).mean())
            even = np.where(alive, np.clip(np.where(alive, ranges, 1) / middle, 1 / LIMIT, LIMIT), 1)
            for exponent in EXPONENTS:
                yield even ** exponent

    def scaled(self, divisors: np.ndarray) -> list[Linear]:
        """All layers, with the outputs of this one divided by ``divisors``."""
        layers = list(self.layers)
        layer = layers[self.number]
        layers[self.number] = replace(layer, weight=(layer.weight / divisors[:, np.newaxis]).astype(np.float32),
                                      bias=(layer.bias / divisors).astype(np.float32))
        for one in self.readers:
            layers[one] = replace(layers[one], weight=_multiplied(layers[one], divisors))
        return layers

    def each_output(self, divisors: np.ndarray) -> torch.Tensor:
        """``divisors`` for each of the outputs: ``[outputs]``."""
        return torch.from_numpy(np.repeat(divisors, self.outputs.shape[1] // len(divisors)).astype(np.float32))

    def error(self, divisors: np.ndarray) -> float:
        """Mean squared change of what the readers compute, over its variance, summed over them."""
        layers = self.scaled(divisors)
        layer = layers[self.number]
        sums = weighted_sums(self.inputs, _rounded(layer.weight, self.weight_bits), torch.from_numpy(layer.bias),
                             layer.geometry)
        outputs = self._acts(activations(sums, layer.activation, layer.geometry), signed=layer.activation.signed)
        changes = [_sums(layers[one], _rounded(layers[one].weight, self.weight_bits).numpy(), outputs) - exact
                   for one, exact in zip(self.readers, self.exact, strict=True)]
        return sum(float(change.square().mean()) / power for change, power in zip(changes, self.powers, strict=True))

    def _acts(self, outputs: torch.Tensor, *, signed: bool) -> torch.Tensor:
        """The ``outputs`` rounded to activations."""
        low, high = act_range(self.act_bits, signed=signed)
        greatest = float(outputs.abs().max()) or 1.0
        rounded = [torch.clamp(torch.round(outputs / step), low, high) * step
                   for step in (greatest * clip / high for clip in CLIPS)]
        return min(rounded, key=lambda acts: float((acts - outputs).square().mean()))


def _rounded(weight: np.ndarray, bits: int) -> torch.Tensor:
    step = float(np.abs(weight).max(initial=0)) / ((1 << (bits - 1)) - 1) or 1.0
    return torch.from_numpy((np.rint(weight / step) * step).astype(np.float32))


def _sums(layer: Linear, weight: np.ndarray, inputs: torch.Tensor) -> torch.Tensor:
    return weighted_sums(inputs, torch.from_numpy(weight), torch.zeros(layer.rows), layer.geometry)


def _each_channel(layer: Linear, channels: int) -> np.ndarray:
    """The greatest magnitude of the weights that ``layer`` has for each of its input's ``channels``."""
    groups = layer.geometry.groups if layer.geometry else 1
    weight = np.abs(layer.weight).reshape(groups, layer.rows // groups, channels // groups, -1)
    return weight.max(axis=(1, 3), initial=0).ravel().astype(np.float64)


def _multiplied(layer: Linear, factors: np.ndarray) -> np.ndarray:
    """The weights of ``layer`` for an input whose channels are divided by ``factors``."""
    groups = layer.geometry.groups if layer.geometry else 1
    weight = layer.weight.reshape(groups, layer.rows // groups, len(factors) // groups, -1)
    return (weight * factors.reshape(groups, 1, -1, 1)).reshape(layer.weight.shape).astype(np.float32)
