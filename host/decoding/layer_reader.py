# SPDX-License-Identifier: Apache-2.0
"""Assembles a layer from its passes, and refuses passes that do not make up a layer."""

import math
from typing import Any

import numpy as np

from host.decoding.memory_reader import PassWeights
from host.image.space_to_depth import Fold
from host.network.layers import VALUES_LIMIT, Geometry
from host.quantization.integer_network import QuantizedLayer, accumulator_bounds, spare_activation, spare_bias
from rtl.config import EngineConfig
from rtl.descriptor import LayerKind, largest
from rtl.numbers import PRE_SHIFTS

__all__ = ["LayerReader", "channels_of"]


class LayerReader:
    """Takes the passes of a layer one by one and returns the layer.

    Parameters
    ----------
    fields : dict
        The layer in `host.image.image.Image`.
    columns : int64 array, shape ``[input_words * pes]``
        Which input each place of the activation memory before the layer holds; -1 for none.
    input_base : int
        Address of the first word of the layer's inputs.
    ready : int
        Number of these words that are there before the drain of the layer before has ended.
    inputs : int
        Number of the layer's inputs.
    config : EngineConfig

    Raises
    ------
    ValueError, IndexError
        Raised by every method if the passes contradict each other or the layer.
    """

    def __init__(self, fields: dict[str, Any], columns: np.ndarray, input_base: int, ready: int, inputs: int,
                 config: EngineConfig) -> None:
        self.fields, self.config, self.input_base, self.ready = fields, config, input_base, ready
        self.fold: Fold | None = fields.get("fold")
        self.geometry: Geometry | None = self.fold.folded if self.fold else fields.get("geometry")
        self.shape = self.geometry or Geometry((inputs, 1, 1), (1, 1))
        self.bands = self.fold.bands if self.fold else 1
        self.channels = channels_of(columns, self.shape, config.pes)
        self.input_words = len(columns) // config.pes
        self.pixel_words, places = _output_pixel(fields, self.shape, self.bands, config.pes)
        self.words = self.pixel_words * fields["output_order"].size // len(places)
        self.slots, self.pes = places // config.pes, places % config.pes
        if self.bands == 2:
            # The lower band: slots after those of the upper one, PEs rotated by half their number.
            self.slots = np.concatenate([self.slots, self.slots + self.pixel_words])
            self.pes = np.concatenate([self.pes, (self.pes + config.pes // 2) % config.pes])
        rows, cols = len(self.slots), self.shape.in_shape[0] // self.shape.groups * math.prod(self.shape.kernel)
        if rows % self.shape.groups or rows * cols > VALUES_LIMIT:
            raise ValueError(f"a layer of {fields['output_words']} words, {rows} rows and {cols} columns")
        self.codes, self.bias = np.zeros((rows, cols), np.uint8), np.zeros(rows, np.int64)
        self.weights = self.first = self.drains = 0
        self.table = np.zeros(0, np.int64)
        self.spare: set[int] = set()  # biases of slots without a row
        self.constants: tuple[Any, ...] | None = None
        # Slots of the pass before, if it left its sums in the accumulators.
        self.held = 0

    @property
    def pixels(self) -> int:
        """Pixels of the layer's output."""
        return self.fields["output_order"].size // (len(self.slots) // self.bands)

    @property
    def complete(self) -> bool:
        return self.first >= self.pixel_words * self.bands

    def add(self, descriptor: Any, codebook: np.ndarray, tap_table: np.ndarray, act_table: np.ndarray,
            one: PassWeights, biases: np.ndarray) -> None:
        """Takes a pass.

        Parameters
        ----------
        descriptor : `rtl.descriptor.whole_descriptor`
        codebook : int64 array, shape ``[2**code_bits]``
        tap_table : int64 array, shape ``[taps]``
            Accumulators between each tap and tap 0; empty for a fully connected layer.
        act_table : int64 array, shape ``[256]``
            Table of the activation function; empty for none.
        one : PassWeights
        biases : int64 array, shape ``[pes, slots]``

        Raises
        ------
        ValueError
            If the pass contradicts the passes before it, or the layer's shape.
        """
        slots = int(descriptor.output_words)
        constants = (int(descriptor.multiplier), int(descriptor.pre_shift), descriptor.activation,
                     int(descriptor.input_signed), codebook.tobytes())
        if self.constants not in (None, constants):
            raise ValueError("the constants of a layer's passes")
        self._check(descriptor, slots)
        self.constants, self.codebook = constants, codebook
        here = (self.slots >= self.first) & (self.slots < self.first + slots)
        row_of = np.full((self.config.pes, slots), -1, np.int64)
        row_of[self.pes[here], self.slots[here] - self.first] = np.flatnonzero(here)
        self.spare.update(biases[row_of < 0].tolist())
        rows, channels = row_of[one.pe, one.slot], self.channels[one.col]
        channels = channels - rows // (len(self.bias) // self.shape.groups) * (self.shape.in_shape[0]
                                                                              // self.shape.groups)
        if (rows < 0).any() or (channels < 0).any() or (channels >= self.shape.in_shape[0] // self.shape.groups).any():
            raise ValueError("a weight without a row or an input")
        taps = self._taps(descriptor, one.tap, tap_table, slots) if self.geometry else 0
        self.codes[rows, channels * math.prod(self.shape.kernel) + taps] = one.codes
        self.weights += len(rows)
        self.bias[here] = biases[self.pes[here], self.slots[here] - self.first]
        self._end_pass(descriptor, act_table, slots)

    def _end_pass(self, descriptor: Any, act_table: np.ndarray, slots: int) -> None:
        """The pass leaves its sums to the next one, or is drained through its table, if the layer has one."""
        self.held = slots if descriptor.hold_sums else 0
        if self.held:
            if len(act_table):
                raise ValueError("a table of a pass that is not drained")
            return
        if any(self.spare) and not len(act_table):
            raise ValueError("a bias without a row")
        if self.drains and not np.array_equal(self.table, act_table):
            raise ValueError("the tables of a layer's passes")
        self.table = act_table
        self.first += slots
        self.drains += 1

    def end_group(self, descriptor: Any, act_table: np.ndarray) -> None:
        """Takes up a pass which adds another layer's outputs to the sums of the pass before it.

        Parameters
        ----------
        descriptor : `rtl.descriptor.whole_descriptor`
        act_table : int64 array
            As of `add`.
        """
        slots = int(descriptor.output_words)
        if self.held != slots or self.constants is None:
            raise ValueError("a pass that adds to no sums")
        self.expect(descriptor, {"output_base": self.fields["output_base"] + self.first,
                                  "multiplier": self.constants[0], "pre_shift": self.constants[1]})
        if descriptor.activation != self.constants[2]:
            raise ValueError("activation of a pass")
        self._end_pass(descriptor, act_table, slots)

    def layer(self) -> QuantizedLayer:
        """The layer after all its passes, with scales of 1; still folded, if its image says so.

        Raises
        ------
        ValueError
            If no pass was added, or two passes hold the same weight; also if a sum can exceed the accumulator.
        """
        if self.constants is None or np.count_nonzero(self.codes) != self.weights:
            raise ValueError("weights in several passes")
        multiplier, pre_shift, activation, input_signed, _ = self.constants
        self._check_sums(bool(input_signed))
        layer = QuantizedLayer(self.fields["name"], self.codes, self.codebook, self.bias, multiplier,
                              PRE_SHIFTS[pre_shift], activation, bool(input_signed), 1.0, 1.0, 1.0,
                              self.geometry, table=self.table if len(self.table) else None)
        best = spare_bias(layer, self.config.acc_bits)
        if any(bias != best and spare_activation(layer, bias) for bias in self.spare):
            raise ValueError("a bias without a row")
        return layer

    def _check(self, descriptor: Any, slots: int) -> None:
        """Checks the descriptor's fields that follow from the layer."""
        kind = LayerKind.CONVOLUTION if self.geometry else LayerKind.FULLY_CONNECTED
        if descriptor.kind != kind or slots == 0 or self.first + slots > self.pixel_words * self.bands \
                or self.held not in (0, slots):
            raise ValueError(f"a pass of kind {descriptor.kind} and {slots} rows")
        first_pass = self.constants is None
        if (first_pass or self.geometry is None) and descriptor.input_base != self.input_base:
            raise ValueError("input_base of a pass")
        left = self.input_base + self.input_words - int(descriptor.input_base)
        # A word that is drained meanwhile may go to the scanner directly, without a read: it must be the next word of
        # the scan.
        self.expect(descriptor, {"output_base": self.fields["output_base"] + self.first, "input_words": left,
                                  "chase_words": self.ready if first_pass else left})
        if self.config.tap_bits:
            self._check_pixels(descriptor, slots)

    @staticmethod
    def expect(descriptor: Any, values: dict[str, int]) -> None:
        """Raises `ValueError` unless the fields of ``descriptor`` have these ``values``."""
        for name, value in values.items():
            if int(getattr(descriptor, name)) != value:
                raise ValueError(f"{name} of a pass")

    def _check_pixels(self, descriptor: Any, slots: int) -> None:
        """Checks the descriptor's fields that only an engine with convolutions has."""
        shape = self.shape
        (out_rows, out_cols), (pooled_rows, pooled_cols) = shape.computed_shape, shape.out_shape
        pixel_words = len(self.channels) // self.config.pes
        first_row = (int(descriptor.first_y) * out_cols + int(descriptor.first_x)) * slots
        expected = {
            "last_block": self._last_block(), "pool": shape.pool, "pool_step": shape.pool_stride,
            "pixel_words": pixel_words,
            "pixel_step": shape.stride[1] * pixel_words & largest("pixel_step"),
            "row_step": shape.stride[0] * shape.in_shape[2] * pixel_words & largest("row_step"),
            "out_cols": out_cols, "out_rows": out_rows, "first_row": first_row & largest("first_row"),
            "row_pitch": out_cols * slots,
            "pooled_cols": pooled_cols, "pooled_rows": pooled_rows, "output_pixel_words": self.pixel_words,
            "band_step": (math.prod(shape.out_shape) - 1) * self.pixel_words if self.bands == 2 else 0,
        }
        if self.geometry is None:
            expected |= {"tap_bits": 0, "first_x": 0, "first_y": 0, "scan_cols": 1, "scan_rows": 1}
        self.expect(descriptor, expected)
        if out_rows * out_cols * slots > self.config.acc_depth:
            raise ValueError("accumulators of a pass")

    def _check_sums(self, input_signed: bool) -> None:
        """Checks that no inputs make a sum overflow the accumulator."""
        config, limit = self.config, 1 << (self.config.acc_bits - 1)
        greatest = np.count_nonzero(self.codes, axis=1) * int(np.abs(self.codebook).max()) << config.act_bits
        rows = np.flatnonzero(np.abs(self.bias) + greatest >= limit)
        least, most = accumulator_bounds(self.codebook[self.codes[rows]], self.bias[rows], config.act_bits,
                                         input_signed=input_signed)
        if (least < -limit).any() or (most >= limit).any():
            raise ValueError("sums that the accumulators do not hold")

    def _last_block(self) -> int:
        """The last block of a pixel's last word that is scanned."""
        lanes = np.flatnonzero(self.channels[-self.config.pes:] >= 0)
        return int(lanes.max(initial=0) if self.geometry else self.config.pes - 1) // self.config.block_cols

    def _taps(self, descriptor: Any, taps: np.ndarray, tap_table: np.ndarray, slots: int) -> np.ndarray:
        """Places of the pass's taps in the kernel: row times columns plus column."""
        shape, bits = self.shape, int(descriptor.tap_bits)
        skipped = int(descriptor.input_base) - self.input_base
        pixel_words = len(self.channels) // self.config.pes
        origin = divmod(skipped // pixel_words, shape.in_shape[2])
        if skipped < 0 or skipped % pixel_words:
            raise ValueError("the first pixel of a pass")
        rows, cols = taps >> bits, taps & ((1 << bits) - 1)
        if (tap_table[taps] != (rows * shape.computed_shape[1] + cols) * slots).any():
            raise ValueError("the tap table of a pass")
        first, pixels = (("first_y", "first_x"), ("scan_rows", "scan_cols"))
        kernel = [_axis(axis, shape, numbers, origin[axis], int(getattr(descriptor, first[axis])),
                        int(getattr(descriptor, pixels[axis]))) for axis, numbers in enumerate((rows, cols))]
        return kernel[0] * shape.kernel[1] + kernel[1]


def _axis(axis: int, shape: Geometry, taps: np.ndarray, origin: int, first: int, pixels: int) -> np.ndarray:
    """Rows (axis 0) or columns of the kernel that the taps are; the scan must bring them every pixel they meet."""
    size, stride, padding = shape.in_shape[1 + axis], shape.stride[axis], shape.padding[axis]
    if origin + (pixels - 1) * stride >= size or pixels < 1:
        raise ValueError("pixels beyond the input of a pass")
    for tap in np.unique(taps).tolist():
        place = origin + padding + stride * (tap - first)
        met = np.arange(shape.computed_shape[axis]) * stride + place - padding
        met = met[(met >= 0) & (met < size)]
        scanned = len(met) == 0 or origin <= met[0] <= met[-1] <= origin + (pixels - 1) * stride
        if not 0 <= place < shape.kernel[axis] or not scanned:
            raise ValueError("a tap outside the kernel, or that misses pixels")
    return origin + padding + stride * (taps - first)


def channels_of(columns: np.ndarray, shape: Geometry, pes: int) -> np.ndarray:
    """Which input channel each activation of a pixel is; -1 for none: int64 array.

    Parameters
    ----------
    columns : int64 array, shape ``[words * pes]``
        Which input each place of the activation memory holds, -1 for none.
    shape : Geometry
    pes : int

    Raises
    ------
    ValueError
        If the pixels of the input do not follow each other.
    """
    pixels = columns.reshape(shape.pixels, -1)
    channels = np.where(pixels[0] >= 0, pixels[0] // shape.pixels, -1)
    expected = np.where(channels >= 0, channels * shape.pixels + np.arange(shape.pixels)[:, None], -1)
    if pixels.shape[1] == 0 or pixels.shape[1] % pes or not np.array_equal(pixels, expected):
        raise ValueError("the order of a convolution's inputs")
    return channels


def _output_pixel(fields: dict[str, Any], shape: Geometry, bands: int, pes: int) -> tuple[int, np.ndarray]:
    """Words of an output pixel, and the places of all channels in the first."""
    order, words = fields["output_order"], fields["output_words"]
    pixels = math.prod(fields["geometry"].out_shape) if "geometry" in fields else 1
    order, drained = order.reshape(-1, pixels), bands * math.prod(shape.out_shape)
    pixel_words = words // drained
    if words == 0 or words % drained or (order[:, 0] >= pixel_words * pes).any() \
            or not np.array_equal(order, order[:, :1] + np.arange(pixels) * pixel_words * pes):
        raise ValueError(f"a layer of {words} words and {order.size} outputs")
    return pixel_words, order[:, 0]
