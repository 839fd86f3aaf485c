# SPDX-License-Identifier: Apache-2.0
"""The activation functions of layers, for NumPy arrays; `host.training.forward.activations` is the same for torch."""

import numpy as np
import torch

from host.network.activations import apply
from host.network.function import AnyActivation, Function
from rtl.numbers import Activation

__all__ = ["activate"]


def activate(sums: np.ndarray, activation: AnyActivation) -> np.ndarray:
    """The function ``activation`` of each sum, in floats: an array of the shape and number format of ``sums``."""
    if isinstance(activation, Function):
        found: np.ndarray = apply(torch.from_numpy(np.ascontiguousarray(sums)), activation).numpy()
        return found
    return np.maximum(sums, 0) if activation is Activation.RELU else sums
