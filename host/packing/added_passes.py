# SPDX-License-Identifier: Apache-2.0
"""Passes that add another layer's activations to a layer's sums: a residual connection.

The accumulators keep the sums of the layer's own weights, and the scan goes over the other layer's outputs, each with
one weight for its own channel. That weight is the ratio of two scales; if it exceeds the greatest weight of the engine,
several passes add a part of it each.
"""

from dataclasses import replace

import numpy as np

from host.network.layers import Geometry, Linear
from host.packing.balance_rows import Assignment
from host.packing.conv_scans import scans
from host.packing.encode import EncodedPass, encode_pass
from host.quantization.integer_network import QuantizedLayer
from rtl.config import EngineConfig

__all__ = ["added_geometry", "added_passes", "parts_of"]


def added_geometry(layer: QuantizedLayer | Linear) -> Geometry:
    """The convolution that adds: one tap for each channel of the sums of ``layer``, pooled as ``layer`` pools."""
    shape = layer.shape
    return Geometry((layer.rows, *shape.conv_shape), (1, 1), groups=layer.rows, pool=shape.pool,
                    pool_stride=shape.pool_stride)


def parts_of(weight: int, config: EngineConfig) -> list[int]:
    """The integer by which each pass multiplies.

    Parameters
    ----------
    weight : int
        Their sum, above 0.
    config : EngineConfig
        None of them is above its greatest weight.
    """
    most = (1 << ((config.code_bits if config.direct_weights else config.weight_bits) - 1)) - 1
    whole, rest = divmod(weight, most)
    return [most] * whole + [rest] * (rest > 0)


def added_passes(layer: QuantizedLayer, channels: np.ndarray, assignment: Assignment, slots: range,
                 config: EngineConfig) -> list[EncodedPass] | None:
    """The passes that add for the rows of these slots; None if a slice is longer than any length can say.

    Parameters
    ----------
    layer : QuantizedLayer
        A layer with ``added``.
    channels : int64 array
        Which channel of the added outputs each activation of a pixel is, -1 for none.
    assignment : Assignment
        PE and slot of each of the layer's rows.
    slots : range
    config : EngineConfig
    """
    scan, = scans(added_geometry(layer), 1 << config.tap_bits, config.tap_bits)
    found = []
    for part in parts_of(layer.added_weight, config):
        codes = np.full((layer.rows, 1), part if config.direct_weights else 1, np.uint8)
        one = encode_pass(codes, channels, assignment, slots, config, scan, layer.rows)
        if one is None:
            return None
        found.append(replace(one, added=part))
    return found
