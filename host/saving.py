# SPDX-License-Identifier: Apache-2.0
"""Writes a network as a safetensors file, which `host.loading` reads again."""

import numpy as np
from safetensors.numpy import save

from host.graph import Linear, Network

__all__ = ["safetensors_file"]


def safetensors_file(network: Network) -> bytes:
    """The weights and biases of a network by the names of its layers, as in a state dictionary: float32.

    Poolings, whose weights are fixed, are left out. Normalisations are folded in, and neurons that were removed are
    missing: `host.loading` takes the file for the network that it was if that was fully connected or is one of
    `host.zoo`.
    """
    tensors = {}
    for layer in network.layers:
        if not layer.fixed:
            tensors[f"{layer.name}.weight"] = np.ascontiguousarray(_kernels(layer), np.float32)
            tensors[f"{layer.name}.bias"] = np.ascontiguousarray(layer.bias, np.float32)
    return save(tensors)


def _kernels(layer: Linear) -> np.ndarray:
    """The weights in torch's shape."""
    if layer.geometry is None:
        return layer.weight
    channels = layer.geometry.in_shape[0] // layer.geometry.groups
    return layer.weight.reshape(layer.rows, channels, *layer.geometry.kernel)
