# SPDX-License-Identifier: Apache-2.0
"""A network whose weights are codes into a small codebook; `host.compression.share_weights` makes it."""

from dataclasses import dataclass

import numpy as np

from host.network.function import AnyActivation
from host.network.layers import Conv2d, Geometry, Linear, Network

__all__ = ["SharedLayer", "SharedNetwork"]


@dataclass(frozen=True)
class SharedLayer:
    """A layer whose weights are codes.

    Attributes
    ----------
    codes : uint8 array, shape ``[rows, cols]``
        Index into `values`; 0 is no weight.
    values : float64 array, shape ``[2**code_bits]``
        Weight that each code stands for; the first is 0.
    bias : float64 array, shape ``[rows]``
    activation : AnyActivation
        The function of its sums.
    geometry : Geometry, optional
        Geometry of a convolution; None for a fully connected layer.
    fixed : bool
    source, added, out_map, output_scale, output_offset : optional
        See `host.network.layers.Linear`.
    """

    name: str
    codes: np.ndarray
    values: np.ndarray
    bias: np.ndarray
    activation: AnyActivation
    geometry: Geometry | None = None
    fixed: bool = False
    source: str | None = None
    added: str | None = None
    out_map: tuple[int, int, int] | None = None
    output_scale: np.ndarray | None = None
    output_offset: np.ndarray | None = None

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.geometry.inputs if self.geometry else int(self.codes.shape[1])

    @property
    def weight(self) -> np.ndarray:
        """Float64 ``[rows, cols]``."""
        return self.values[self.codes]


@dataclass(frozen=True)
class SharedNetwork:
    """A chain of layers with shared weights.

    Attributes
    ----------
    layers : tuple of SharedLayer
    losses, held_out_errors : tuple of float
        Values of each epoch of fine-tuning; the errors in percent.
    iterations : int
        Steps of the optimiser.
    seconds : float
        Wall-clock time of fine-tuning.
    """

    name: str
    layers: tuple[SharedLayer, ...]
    losses: tuple[float, ...] = ()
    held_out_errors: tuple[float, ...] = ()
    iterations: int = 0
    seconds: float = 0.0

    def as_network(self) -> Network:
        """The same weights in float32, one by one."""
        return Network(self.name, tuple(map(_as_layer, self.layers)))


def _as_layer(layer: SharedLayer) -> Linear:
    weight, bias = layer.weight.astype(np.float32), layer.bias.astype(np.float32)
    if layer.geometry is None:
        return Linear(layer.name, weight, bias, layer.activation, None, layer.fixed, layer.source, layer.added,
                      layer.out_map, layer.output_scale, layer.output_offset)
    return Conv2d(layer.name, weight, bias, layer.activation, layer.geometry, layer.fixed, layer.source, layer.added,
                  output_scale=layer.output_scale, output_offset=layer.output_offset)
