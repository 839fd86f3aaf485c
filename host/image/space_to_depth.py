# SPDX-License-Identifier: Apache-2.0
"""Folds the network's first convolution (space to depth): its input is laid out so that the engine runs it fastest.

The phases of a stride become channels (space to depth), so that one scan with stride 1 does what took a pass for each
phase. With two bands, the upper and the lower part of the output become groups, so that an output channel can be shared
by two PEs.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np

from host.network.layers import Geometry
from host.quantization.integer_network import QuantizedLayer

__all__ = ["Fold"]


@dataclass(frozen=True)
class Fold:
    """A convolution and how it is folded.

    Channels of the folded input are in the order of band, channel, row phase and column phase; its rows of outputs in
    the order of band and row.

    Attributes
    ----------
    geometry : Geometry
        The convolution.
    bands : int
        1, or 2 for an output of at least two rows.
    """

    geometry: Geometry
    bands: int

    @functools.cached_property
    def folded(self) -> Geometry:
        """The convolution that the engine runs: stride 1, and padding that is part of the input."""
        shape = self.geometry
        phases = shape.stride[0] * shape.stride[1]
        out = self.band_rows, shape.out_shape[1]
        rows, cols = ((pooled - 1) * shape.pool_stride + shape.pool - 1 + kernel
                      for pooled, kernel in zip(out, self._kernel, strict=True))
        return Geometry((self.bands * shape.in_shape[0] * phases, rows, cols), self._kernel,
                        groups=self.bands * shape.groups, pool=shape.pool, pool_stride=shape.pool_stride)

    @property
    def band_rows(self) -> int:
        """Pooled rows of a band; the last band may have some below the output."""
        return -(-self.geometry.out_shape[0] // self.bands)

    @functools.cached_property
    def values(self) -> np.ndarray:
        """Which input each value of the folded input is, -1 for none: int64 ``[folded.inputs]``."""
        shape, folded = self.geometry, self.folded
        channels, height, width = shape.in_shape
        steps = np.array([0, self.band_rows * shape.pool_stride])[:self.bands]
        rows = (steps[:, None, None] + np.arange(folded.in_shape[1]) + self._first[0]) * shape.stride[0] \
            + np.arange(shape.stride[0])[:, None]
        cols = (np.arange(folded.in_shape[2]) + self._first[1]) * shape.stride[1] + np.arange(shape.stride[1])[:, None]
        # Band, channel, row phase, column phase, row, column.
        row, col = rows[:, None, :, None, :, None], cols[:, None, :]
        inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
        channel = np.arange(channels)[:, None, None, None, None]
        return np.where(inside, (channel * height + row) * width + col, -1).ravel()

    def layer(self, layer: QuantizedLayer) -> QuantizedLayer:
        """The folded convolution made of ``layer``, with its weights once for each band."""
        codes = np.zeros((layer.rows, self._cols), np.uint8)
        codes[:, self._places] = layer.codes
        return replace(layer, codes=np.tile(codes, (self.bands, 1)), bias=np.tile(layer.bias, self.bands),
                       geometry=self.folded)

    def unfolded(self, layer: QuantizedLayer) -> QuantizedLayer:
        """The convolution from which `layer` made ``layer``. Raises `ValueError` if no convolution gives it.

        That is so if the bands differ, or a weight lies outside the kernel.
        """
        rows = layer.rows // self.bands
        codes, bias = layer.codes[:rows, self._places], layer.bias[:rows]
        original = replace(layer, codes=codes, bias=bias, geometry=self.geometry)
        back = self.layer(original)
        if not (np.array_equal(back.codes, layer.codes) and np.array_equal(back.bias, layer.bias)):
            raise ValueError("the bands of a convolution")
        return original

    @property
    def _first(self) -> list[int]:
        """Row and column, in strides, of the first pixel that the first tap meets: at most 0."""
        return [-padding // stride for padding, stride in zip(self.geometry.padding, self.geometry.stride, strict=True)]

    @property
    def _kernel(self) -> tuple[int, int]:
        shape = self.geometry
        rows, cols = ((kernel - 1 - padding) // stride - first + 1 for kernel, padding, stride, first
                      in zip(shape.kernel, shape.padding, shape.stride, self._first, strict=True))
        return rows, cols

    @property
    def _cols(self) -> int:
        """Weights of a folded row."""
        return self.folded.in_shape[0] // self.folded.groups * self._kernel[0] * self._kernel[1]

    @property
    def _places(self) -> np.ndarray:
        """Place of each weight of a row in a folded row: int64 ``[cols]``."""
        shape = self.geometry
        (row_step, row_phase), (col_step, col_phase) = (
            np.divmod(np.arange(kernel) - padding, stride)
            for kernel, padding, stride in zip(shape.kernel, shape.padding, shape.stride, strict=True))
        channels = np.arange(shape.in_shape[0] // shape.groups)[:, None, None]
        phase = (channels * shape.stride[0] + row_phase[:, None]) * shape.stride[1] + col_phase
        tap = (row_step[:, None] - self._first[0]) * self._kernel[1] + col_step - self._first[1]
        places: np.ndarray = phase * (self._kernel[0] * self._kernel[1]) + tap
        return places.ravel()
