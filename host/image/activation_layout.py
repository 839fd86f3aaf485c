# SPDX-License-Identifier: Apache-2.0
"""Where the values of a layer boundary lie in the activation memory: pixel by pixel, each in whole words."""

from dataclasses import dataclass

import numpy as np

from host.quantization.integer_network import QuantizedLayer

__all__ = ["ActivationLayout"]


@dataclass(frozen=True)
class ActivationLayout:
    """Activations of a layer boundary.

    Attributes
    ----------
    channels : int64 array, shape ``[pixel_words * pes]``
        Which channel each activation of a pixel is; -1 where there is none.
    pes : int
    pixels : int
        Values of a channel; 1 between fully connected layers.
    """

    channels: np.ndarray
    pes: int
    pixels: int

    def read_by(self, layer: QuantizedLayer) -> "ActivationLayout":
        """The layout as ``layer``, the next one, sees it: a fully connected layer takes all pixels for one."""
        return self if layer.geometry else ActivationLayout(self.values, self.pes, 1)

    @property
    def pixel_words(self) -> int:
        return len(self.channels) // self.pes

    @property
    def words(self) -> int:
        return self.pixels * self.pixel_words

    @property
    def values(self) -> np.ndarray:
        """Which value, in torch's order (channel, row, column), each activation is; -1 for none: int64 array."""
        values = self.channels * self.pixels + np.arange(self.pixels)[:, None]
        return np.where(self.channels >= 0, values, -1).ravel()

    @property
    def channel_positions(self) -> np.ndarray:
        """Place of each channel in a pixel's activations, int64 ``[channels]``. Every channel must have one."""
        used = np.flatnonzero(self.channels >= 0)
        positions = np.empty(len(used), np.int64)
        positions[self.channels[used]] = used
        return positions
