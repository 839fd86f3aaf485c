# SPDX-License-Identifier: Apache-2.0
"""How much the outputs of a network change if one of its layers is rounded."""

import numpy as np
import torch

from host.datasets import as_inputs
from host.network.layers import Network
from host.training.forward import complete, layer_outputs, layer_sums, tensors

__all__ = ["OutputChange"]

MACS = 1 << 37
"""Examples on which changes are measured: as many, at least 2, as take `MACS` multiplications for one choice each of
all layers."""


class OutputChange:
    """Measures on examples what a rounded layer changes, all others being as they are in floats.

    Parameters
    ----------
    network : Network
    images : uint8 or float array, shape ``[n, ...]``
        Examples of its inputs.

    Attributes
    ----------
    places : int64 array
        The examples that are taken, by their place in ``images``.
    """

    @torch.no_grad()
    def __init__(self, network: Network, images: np.ndarray) -> None:
        count = min(len(images), max(2, MACS // (network.multiplications * len(network.layers))))
        self.places = np.linspace(0, len(images) - 1, count).astype(np.int64)
        *hidden, last = tensors(network)
        # What the engine gives: all outputs then have the range that its integers have, and count alike.
        self._layers = [*hidden, last._replace(scale=None, offset=None)]
        self._values = [torch.from_numpy(as_inputs(images[self.places]))]
        for layer in self._layers:
            self._values.append(layer_outputs(layer, layer_sums(layer, self._values)))

    @torch.no_grad()
    def of(self, number: int, outputs: np.ndarray) -> float:
        """Mean squared change of the network's outputs, before their ``output_scale`` and offset.

        Parameters
        ----------
        number : int
            The layer.
        outputs : float array, shape ``[len(places), outputs]``
            What it gives, rounded.
        """
        rounded = torch.from_numpy(outputs.astype(np.float32))
        found = complete(self._layers, [*self._values[:number + 1], rounded])[-1]
        return float((found - self._values[-1]).square().mean())
