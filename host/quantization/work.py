# SPDX-License-Identifier: Apache-2.0
"""Expected useful multiplications of each row of a layer: what packing balances over the PEs."""

import numba
import numpy as np

from host.network.layers import Geometry
from host.quantization.integer_network import QuantizedLayer

__all__ = ["layer_work", "row_work", "tap_activity"]


def layer_work(layer: QuantizedLayer, often: np.ndarray | None, *, dropped: float = 0) -> np.ndarray:
    """Expected useful multiplications of each row of a layer, float64 ``[rows]``.

    Parameters
    ----------
    layer : QuantizedLayer
    often : float or bool array, shape ``[inputs]``, optional
        Share of inferences in which each input is not zero.
    dropped : float
        Weight of a tap outside the output, beside 1 for one inside; only with stride 1.
    """
    shape = layer.shape
    often = np.ones(shape.inputs) if often is None else often
    activity = tap_activity(often, shape)
    if dropped:
        sent = np.asarray(often, np.float64).reshape(shape.groups, -1, shape.pixels).sum(axis=2)
        activity += dropped * (sent.repeat(shape.kernel[0] * shape.kernel[1], axis=1) - activity)
    groups = zip(np.split(layer.codes, shape.groups), activity, strict=True)
    return np.concatenate([row_work(codes, expected) for codes, expected in groups])


def row_work(codes: np.ndarray, often: np.ndarray) -> np.ndarray:
    """Expected useful multiplications of each row, float64 ``[rows]``.

    Parameters
    ----------
    codes : uint8 array, shape ``[rows, cols]``
    often : float array, shape ``[cols]``
        Share of inferences in which each input is not zero.
    """
    return _row_work(np.ascontiguousarray(codes), often.astype(np.float64))


def tap_activity(often: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Expected useful multiplications of a weight, for each group and tap: float64 ``[groups, cols]``.

    Parameters
    ----------
    often : float array, shape ``[inputs]``
        Share of inferences in which each input is not zero.
    geometry : Geometry
        Shapes of the convolution.
    """
    rows, cols = geometry.computed_shape
    step_row, step_col = geometry.stride
    padded = np.pad(often.reshape(geometry.in_shape), ((0, 0), *geometry.pads))
    found = np.zeros((geometry.in_shape[0], *geometry.kernel))
    for row, col in np.ndindex(geometry.kernel):
        met = padded[:, row:row + rows * step_row:step_row, col:col + cols * step_col:step_col]
        found[:, row, col] = met[:, :rows, :cols].sum(axis=(1, 2))
    return found.reshape(geometry.groups, -1)


@numba.njit(cache=True)
def _row_work(codes, often):  # type: ignore[no-untyped-def]
    work = np.zeros(codes.shape[0])
    for row in range(codes.shape[0]):
        for col in range(codes.shape[1]):
            if codes[row, col]:
                work[row] += often[col]
    return work
