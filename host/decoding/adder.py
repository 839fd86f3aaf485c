# SPDX-License-Identifier: Apache-2.0
"""Reads the passes that add another layer's outputs to a layer's sums, and refuses those that do anything else."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from host.decoding.layer_reader import LayerReader, channels_of
from host.decoding.memory_reader import PassWeights
from host.network.layers import Geometry
from host.quantization.integer_network import QuantizedLayer, accumulator_bounds
from rtl.descriptor import LayerKind

__all__ = ["Adder"]


class Adder:
    """Takes the passes that add, after those of the same rows with the layer's own weights.

    Parameters
    ----------
    reader : LayerReader
        Reads the layer; it is told of each pass.
    columns : int64 array, shape ``[words * pes]``
        Which of the added values each place of the activation memory holds, -1 for none.
    base : int
        Address of their first word.

    Raises
    ------
    ValueError, IndexError
        Raised by every method if the passes contradict the layer or each other.
    """

    def __init__(self, reader: LayerReader, columns: np.ndarray, base: int) -> None:
        self.reader, self.base, self.words = reader, base, len(columns) // reader.config.pes
        shape = reader.shape
        self.shape = Geometry((len(reader.bias), *shape.conv_shape), (1, 1), groups=len(reader.bias), pool=shape.pool,
                              pool_stride=shape.pool_stride)
        self.channels = channels_of(columns, self.shape, reader.config.pes)
        self.count = int(reader.fields["added_passes"])
        self.weights = np.zeros(len(reader.bias), np.int64)
        self.signed: bool | None = None
        self.took = False
        if reader.bands != 1 or self.count < 1:
            raise ValueError("a layer that adds in bands, or by no pass")

    def comes(self, following: Sequence[tuple[Any, ...]]) -> bool:
        """Whether the first of the passes ``following`` is one of those that add: the last ones before a drain."""
        left = next((number for number, one in enumerate(following) if not one[0].hold_sums), len(following))
        self.took = left < self.count
        return self.took

    def add(self, descriptor: Any, codebook: np.ndarray, act_table: np.ndarray, one: PassWeights,
            biases: np.ndarray) -> None:
        """Takes a pass.

        Parameters
        ----------
        descriptor : `rtl.descriptor.whole_descriptor`
        codebook : int64 array, shape ``[2**code_bits]``
        act_table : int64 array
            Table of the activation function; empty for none.
        one : PassWeights
        biases : int64 array, shape ``[pes, slots]``
        """
        reader, slots = self.reader, int(descriptor.output_words)
        kind = LayerKind.CONVOLUTION if reader.geometry else LayerKind.FULLY_CONNECTED
        rows, cols = self.shape.in_shape[1:]
        out_rows, out_cols = self.shape.computed_shape
        pixel_words = len(self.channels) // reader.config.pes
        if descriptor.kind != kind or self.signed not in (None, bool(descriptor.input_signed)):
            raise ValueError("a pass that adds, of another kind or sign")
        self.signed = bool(descriptor.input_signed)
        reader.expect(descriptor, {
            "input_base": self.base, "input_words": self.words, "chase_words": self.words, "tap_bits": 0,
            "pool": self.shape.pool, "pool_step": self.shape.pool_stride, "pixel_words": pixel_words,
            "pixel_step": pixel_words, "row_step": cols * pixel_words, "first_x": 0, "first_y": 0, "first_row": 0,
            "scan_cols": min(cols, out_cols), "scan_rows": min(rows, out_rows), "out_cols": out_cols,
            "out_rows": out_rows, "row_pitch": out_cols * slots, "band_step": 0,
            "output_pixel_words": reader.pixel_words,
        })
        here = (reader.slots >= reader.first) & (reader.slots < reader.first + slots)
        row_of = np.full((reader.config.pes, slots), -1, np.int64)
        row_of[reader.pes[here], reader.slots[here] - reader.first] = np.flatnonzero(here)
        found, channels = row_of[one.pe, one.slot], self.channels[one.col]
        if (found < 0).any() or not np.array_equal(found, channels) or not np.array_equal(np.sort(found),
                                                                                           np.flatnonzero(here)):
            raise ValueError("a pass that adds other channels than its own")
        values = codebook[one.codes]
        if (values <= 0).any() or (values != values[:1]).any():
            raise ValueError("a pass that adds by several weights")
        if not np.array_equal(biases[reader.pes[here], reader.slots[here] - reader.first], reader.bias[here]):
            raise ValueError("the biases of a pass that adds")
        self.weights[found] += values
        reader.end_group(descriptor, act_table)

    def layer(self, layer: QuantizedLayer, signed: bool) -> QuantizedLayer:
        """The layer with its sum.

        Parameters
        ----------
        layer : QuantizedLayer
            The layer, without what it adds.
        signed : bool
            Whether the added activations are two's complement.
        """
        weight = int(self.weights[0])
        if (self.weights != weight).any() or signed != self.signed:
            raise ValueError("the weight or the sign of what a layer adds")
        config, limit = self.reader.config, 1 << (self.reader.config.acc_bits - 1)
        least, most = accumulator_bounds(layer.weights, layer.bias, config.act_bits, input_signed=layer.input_signed,
                                         added_weight=weight, added_signed=signed)
        if (least < -limit).any() or (most >= limit).any():
            raise ValueError("sums that the accumulators do not hold")
        return replace(layer, added=self.reader.fields["added"], added_weight=weight, added_signed=signed)

    @property
    def values(self) -> int:
        """Number of values that are added."""
        return math.prod(self.shape.in_shape)
