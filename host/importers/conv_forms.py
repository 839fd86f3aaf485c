# SPDX-License-Identifier: Apache-2.0
"""Other forms of convolutions as plain ones: over one axis, and with gaps in the kernel."""

import math
from dataclasses import replace

import numpy as np

from host.importers.source_layers import ConvPart
from host.importers.stored_tensor import StoredTensor
from host.importers.supported_layers import LARGEST_KERNEL

__all__ = ["over_two_axes", "without_gaps"]


def over_two_axes(weight: StoredTensor) -> StoredTensor:
    """The ``weight`` of a convolution over one axis, ``[outputs, inputs / groups, taps]``, with a kernel of one row."""
    if weight.problem or len(weight.shape) != 3:
        return weight
    shape = (*weight.shape[:2], 1, weight.shape[2])
    return StoredTensor(shape, weight.values, lambda: weight.read().reshape(shape))


def without_gaps(part: ConvPart) -> ConvPart:
    """The convolution ``part`` with zeros in the gaps of its kernel, if that is no larger than kernels may be.

    The zeros are weights that are pruned from the beginning: they take neither memory nor cycles.
    """
    weight, (rows, cols) = part.weight, part.dilation
    if part.dilation == (1, 1) or weight.problem or len(weight.shape) != 4 or min(rows, cols) < 1:
        return part
    kernel = (weight.shape[2] - 1) * rows + 1, (weight.shape[3] - 1) * cols + 1
    if max(kernel) > LARGEST_KERNEL:
        return part
    shape = (*weight.shape[:2], *kernel)

    def read() -> np.ndarray:
        spread = np.zeros(shape, np.float32)
        spread[:, :, ::rows, ::cols] = weight.read()
        return spread
    return replace(part, weight=StoredTensor(shape, math.prod(shape), read), dilation=(1, 1))
