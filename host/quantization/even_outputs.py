# SPDX-License-Identifier: Apache-2.0
"""Moves and scales the outputs of a network alike, so that each of them has the engine's whole range of integers.

The weights and the outputs of the last layer are rounded with one scale each. If one output spans thousands and another
one spans ones, the small one is lost; so is one that changes little about a great mean. So the middle of each output's
range is taken off its bias, and its row is divided by the range. Whoever reads the outputs undoes that
(`host.network.layers.Linear.output_scale`): nothing but the rounding changes.
"""

from dataclasses import replace

import numpy as np

from host.network.layers import Network
from host.quantization.losses import compared, float_values, last_values
from rtl.numbers import Activation

__all__ = ["even_outputs", "with_outputs_as_read"]

UNEVEN = 1.25
"""Ratio of the ranges, or of a range around 0 to the range, from which on they are made alike."""


def even_outputs(network: Network, images: np.ndarray) -> Network:
    """``network`` with outputs that span the same range around 0, and what makes them as they were.

    It stays as it is if they do already, or if its last layer is not linear: then what its function gives cannot be
    moved or scaled in the weights.

    Parameters
    ----------
    network : Network
    images : uint8 or float array, shape ``[n, ...]``
        Examples of its inputs.
    """
    last = network.layers[-1]
    if last.activation is not Activation.IDENTITY or last.added is not None or last.fixed \
            or (last.geometry is not None and last.geometry.pool > 1):
        return network
    outputs = last_values(float_values(network), compared(network, images)).reshape(-1, last.rows,
                                                                                  last.outputs // last.rows)
    low, high = outputs.min(axis=(0, 2)), outputs.max(axis=(0, 2))
    offset, reach = (low + high) / 2, (high - low) / 2
    reach = np.where(reach > 0, reach, reach.max() or 1)
    if not np.isfinite(reach).all() \
            or np.maximum(np.abs(low), np.abs(high)).max() <= UNEVEN * min(reach.min(), reach.max()):
        return network
    scale = reach / reach.max()
    weight, bias = (one.astype(np.float32) for one in (last.weight / scale[:, np.newaxis],
                                                       (last.bias - offset) / scale))
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        return network
    even = replace(last, weight=weight, bias=bias, output_scale=scale.astype(np.float32),
                   output_offset=offset.astype(np.float32))
    return replace(network, layers=(*network.layers[:-1], even))


def with_outputs_as_read(network: Network) -> Network:
    """``network`` whose last layer gives the outputs themselves, without an ``output_scale`` and offset."""
    last = network.layers[-1]
    if last.output_scale is None or last.output_offset is None:
        return network
    whole = replace(last, weight=last.weight * last.output_scale[:, np.newaxis],
                    bias=last.bias * last.output_scale + last.output_offset, output_scale=None, output_offset=None)
    return replace(network, layers=(*network.layers[:-1], whole))
