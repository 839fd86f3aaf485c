# SPDX-License-Identifier: Apache-2.0
"""A network in the integers that the engine computes with; `host.quantization.quantize` makes it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from host.network.layers import Geometry
from rtl.numbers import Activation, act_range, requant_shift, requantize

__all__ = ["QuantizedLayer", "QuantizedNetwork", "accumulator_bounds", "quantize_inputs", "spare_activation",
           "spare_bias"]

ACT_BITS = 8
"""Width of an activation in an engine with tables."""


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer in integers.

    Attributes
    ----------
    codes : uint8 array, shape ``[rows, cols]``
        Weight codes; 0 is no weight. No other code stands for a weight of 0.
    codebook : int64 array, shape ``[2**code_bits]``
        The integer weight of each code. The first is 0; with direct weights it is two's complement.
    bias : int64 array, shape ``[rows]``
        Biases in units of ``input_scale * weight_scale``; they fit the accumulator.
    multiplier, pre_shift : int
        Requantisation constants (`rtl.numbers.requantize`).
    activation : Activation
        The function of its sums, if there is no ``table``; whether the outputs are two's complement or unsigned.
    input_signed : bool
        Whether the input activations are two's complement.
    input_scale, weight_scale, output_scale : float
        A float is its integer times the scale. ``output_scale`` of the last layer may be a float64 array, shape
        ``[outputs]``: a scale for each output (`host.quantization.even_outputs`).
    output_offset : float, or float64 array, shape ``[outputs]``
        What is added to a float output.
    geometry : Geometry, optional
        Geometry of a convolution; None for a fully connected layer.
    source, added : str, optional
        Layers whose outputs it takes, see `host.network.graph`.
    added_weight : int
        By what the added activations are multiplied: their scale in units of ``input_scale * weight_scale``.
    added_signed : bool
        Whether they are two's complement.
    table : int64 array, shape ``[256]``, optional
        The layer's table of its activation function: the activation by the bits of its place; None if it has none. Max
        pooling takes the greatest of these activations.
    out_map : (int, int, int), optional
        Channels, rows and columns of a fully connected layer's outputs, see `host.network.layers.Linear`.
    """

    name: str
    codes: np.ndarray
    codebook: np.ndarray
    bias: np.ndarray
    multiplier: int
    pre_shift: int
    activation: Activation
    input_signed: bool
    input_scale: float
    weight_scale: float
    output_scale: Any
    geometry: Geometry | None = None
    source: str | None = None
    added: str | None = None
    added_weight: int = 0
    added_signed: bool = False
    table: np.ndarray | None = None
    out_map: tuple[int, int, int] | None = None
    output_offset: Any = 0.0

    def floats(self, integers: np.ndarray) -> np.ndarray:
        """The outputs ``integers`` ``[n, outputs]`` as floats, float64."""
        found: np.ndarray = integers * self.output_scale + self.output_offset
        return found

    @property
    def rows(self) -> int:
        return int(self.codes.shape[0])

    @property
    def cols(self) -> int:
        return int(self.codes.shape[1])

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.shape.inputs

    @property
    def shape(self) -> Geometry:
        """The geometry; a fully connected layer is a convolution of one pixel."""
        return self.geometry or Geometry((self.cols, 1, 1), (1, 1))

    @property
    def outputs(self) -> int:
        """Values that it gives."""
        return self.rows * math.prod(self.shape.out_shape)

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of its outputs; a vector is a map of one pixel."""
        return self.out_map or (self.rows, *self.shape.out_shape)

    @property
    def weights(self) -> np.ndarray:
        """Integer weights, int64 ``[rows, cols]``."""
        return self.codebook[self.codes]

    @property
    def channel_codes(self) -> np.ndarray:
        """Whether each row has a weight for each input channel: uint8 ``[rows, channels]``. Of a fully connected layer,
        the codes themselves."""
        if self.geometry is None:
            return self.codes
        groups, channels = self.geometry.groups, self.geometry.in_shape[0]
        found = np.zeros((groups, self.rows // groups, groups, channels // groups), np.uint8)
        weights: np.ndarray = np.any(self.codes.reshape(*found.shape[:2], found.shape[3], -1), axis=3)
        for group in range(groups):
            found[group, :, group] = weights[group]
        return found.reshape(self.rows, channels)

    @property
    def weights_kept(self) -> int:
        return int(np.count_nonzero(self.codes))


@dataclass(frozen=True)
class QuantizedNetwork:
    """A chain of integer layers.

    Attributes
    ----------
    layers : tuple of QuantizedLayer
    input_scale : float
        A float input is its integer times this; 1/255 for images of bytes.
    input_signed : bool
        Whether input activations are two's complement.
    act_bits : int
        Width of an activation.
    input_shape : tuple of int, optional
        Axes of an input, if they are known.
    """

    name: str
    layers: tuple[QuantizedLayer, ...]
    input_scale: float
    input_signed: bool
    act_bits: int
    input_shape: tuple[int, ...] | None = None

    @property
    def inputs(self) -> int:
        return self.layers[0].inputs

    @property
    def input_axes(self) -> tuple[int, ...]:
        """Axes of an input; where they are not known, those of the first convolution, or one."""
        first = self.layers[0].geometry
        return self.input_shape or (first.in_shape if first else (self.inputs,))

    @property
    def outputs(self) -> int:
        return self.layers[-1].outputs

    @property
    def weights_total(self) -> int:
        return sum(layer.codes.size for layer in self.layers)

    @property
    def weights_kept(self) -> int:
        return sum(layer.weights_kept for layer in self.layers)


def quantize_inputs(quantized: QuantizedNetwork, images: np.ndarray) -> np.ndarray:
    """Input activations of images: int64 ``[n, inputs]``, rounded and clipped to the range of the network's inputs.

    Parameters
    ----------
    quantized : QuantizedNetwork
        Gives the scale, the sign and the width of an input.
    images : uint8 or float array, shape ``[n, ...]``
        Bytes mean 0 to 1.
    """
    flat = images.reshape(len(images), -1)
    values = flat / 255 if flat.dtype == np.uint8 else flat.astype(np.float64)
    low, high = act_range(quantized.act_bits, signed=quantized.input_signed)
    return np.clip(np.rint(values / quantized.input_scale), low, high).astype(np.int64)


def spare_bias(layer: QuantizedLayer, acc_bits: int) -> int:
    """The bias of a PE's slots without a row, for which the activation is 0 if there is one, so that it is skipped.

    Parameters
    ----------
    layer : QuantizedLayer
    acc_bits : int
        Width of an accumulator.
    """
    if layer.table is None or layer.table[0] == 0:
        return 0
    half, scale = len(layer.table) // 2, 2.0 ** (requant_shift(ACT_BITS) + layer.pre_shift) / layer.multiplier
    low, high = act_range(acc_bits, signed=True)
    places = np.flatnonzero(layer.table == 0)
    for place in sorted(((places + half) % (2 * half) - half).tolist(), key=abs):
        bias = round(place * scale)
        if low <= bias <= high and spare_activation(layer, bias) == 0:
            return bias
    return 0


def spare_activation(layer: QuantizedLayer, bias: int) -> int:
    """What a slot without a row gives with the bias ``bias``, in a ``layer`` with a table; 0 in others."""
    if layer.table is None:
        return 0
    place = requantize(bias, multiplier=layer.multiplier, pre_shift=layer.pre_shift, signed=True, act_bits=ACT_BITS,
                       clamp=np.clip)
    return int(layer.table[int(place) & (len(layer.table) - 1)])


def accumulator_bounds(weights: np.ndarray, bias: np.ndarray, act_bits: int, *, input_signed: bool,
                       added_weight: int = 0, added_signed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest value of any partial sum, in any order, with the bias or without: int64 ``[rows]`` each.

    Parameters
    ----------
    weights : int64 array, shape ``[rows, cols]``
    bias : int64 array, shape ``[rows]``
    act_bits : int
        Width of an activation.
    input_signed : bool
        Whether the input activations are two's complement.
    added_weight, added_signed
        See `QuantizedLayer`.
    """
    low, high = act_range(act_bits, signed=input_signed)
    # low <= 0 <= high, so that each of these products can also be left out of a partial sum.
    greatest = np.maximum(weights * low, weights * high).sum(axis=1) + bias.clip(min=0)
    least = np.minimum(weights * low, weights * high).sum(axis=1) + bias.clip(max=0)
    low, high = act_range(act_bits, signed=added_signed)
    return least + added_weight * low, greatest + added_weight * high
