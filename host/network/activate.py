# SPDX-License-Identifier: Apache-2.0
"""The activation functions of layers, for NumPy arrays; `host.training.forward.activations` is the same for torch."""

from collections.abc import Callable

import numpy as np

from rtl.numbers import Activation

__all__ = ["activate"]

FUNCTIONS: dict[Activation, Callable[[np.ndarray], np.ndarray]] = {
    Activation.IDENTITY: lambda sums: sums, Activation.RELU: lambda sums: np.maximum(sums, 0)}
"""Each activation function, for arrays of sums."""


def activate(sums: np.ndarray, activation: Activation) -> np.ndarray:
    """The function ``activation`` of each sum, in floats: an array of the shape and number format of ``sums``."""
    return FUNCTIONS[activation](sums)
