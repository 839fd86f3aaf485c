# SPDX-License-Identifier: Apache-2.0
"""Makes the two factors of a product span the same range.

``x y`` is computed as ``((k x + y)**2 - (k x - y)**2) / (4 k)``, whatever ``k`` is. If one factor is much greater than
the other, both squares are nearly equal and their difference is lost in rounding. So ``k`` is the ratio of the ranges.
"""

from dataclasses import replace

import numpy as np

from host.network.function import Function
from host.network.graph import sources
from host.network.layers import Linear, Network
from host.quantization.losses import compared, float_values

__all__ = ["even_products"]


def even_products(network: Network, images: np.ndarray) -> Network:
    """``network`` with products whose factors span the same range; what it computes stays.

    Parameters
    ----------
    network : Network
    images : uint8 or float array, shape ``[n, ...]``
        Examples of its inputs.
    """
    halves = {number: one for number, one in enumerate(sources(network.layers))
              if _is_half(network.layers[number]) and one.added is not None}
    if not halves:
        return network
    values = float_values(network)(compared(network, images))
    layers = list(network.layers)
    for number, (source, added) in halves.items():
        assert added is not None
        ratio = _range(values[added + 1]) / _range(values[source + 1])
        sign = np.sign(layers[number].weight[0, 0])
        layers[number] = replace(layers[number], weight=np.full_like(layers[number].weight, sign * ratio),
                                 activation=Function("square", (float(sign) / (4 * ratio),)))
    return replace(network, layers=tuple(layers))


def _is_half(layer: Linear) -> bool:
    """Whether a layer is one of the two squares of a product: constant weights that are alike, and a square."""
    return layer.fixed and isinstance(layer.activation, Function) and layer.activation.kind == "square" \
        and layer.weight.shape[1] == 1 and bool(np.all(np.abs(layer.weight) == np.abs(layer.weight[0, 0]))) \
        and not layer.bias.any()


def _range(values: np.ndarray) -> float:
    found = float(np.abs(values).max(initial=0))
    return found if np.isfinite(found) and found > 0 else 1.0
