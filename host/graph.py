# SPDX-License-Identifier: Apache-2.0
"""The network as the compiler sees it: an ordered list of layers with float weights."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Linear:
    """A fully connected layer, ``relu(weight @ x + bias)``.

    Attributes
    ----------
    name : str
        The layer's name in the model file, for instance ``fc1``.
    weight : float32 array, shape ``[rows, cols]``
        Rows are output neurons, columns inputs. A zero is a pruned weight.
    bias : float32 array, shape ``[rows]``
        Zeros if the layer has none.
    relu : bool
        Whether a ReLU follows.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray
    relu: bool

    @property
    def rows(self) -> int:
        return int(self.weight.shape[0])

    @property
    def cols(self) -> int:
        return int(self.weight.shape[1])

    @property
    def weights_kept(self) -> int:
        return int(np.count_nonzero(self.weight))

    @property
    def density(self) -> float:
        return self.weights_kept / self.weight.size


@dataclass(frozen=True)
class Network:
    """A chain of layers; each one's ``cols`` is the ``rows`` of the one before."""

    name: str
    layers: tuple[Linear, ...]

    @property
    def inputs(self) -> int:
        return self.layers[0].cols

    @property
    def outputs(self) -> int:
        return self.layers[-1].rows

    @property
    def weights_total(self) -> int:
        return sum(layer.weight.size for layer in self.layers)

    @property
    def weights_kept(self) -> int:
        return sum(layer.weights_kept for layer in self.layers)

    def with_weights(self, weights: dict[str, np.ndarray], biases: dict[str, np.ndarray]) -> "Network":
        """The same network with other weights and biases, by layer name."""
        layers = tuple(replace(layer, weight=weights[layer.name], bias=biases[layer.name])
                       for layer in self.layers)
        return replace(self, layers=layers)
