# SPDX-License-Identifier: Apache-2.0
"""Tables of activation functions: what each of the 256 places means, and which activation lies there."""

from typing import NamedTuple

import numpy as np

from host.compression.shared_network import SharedLayer
from host.network.activate import activate
from host.quantization.golden_model import max_pooled
from host.quantization.requant_constants import requant_constants
from rtl.numbers import MULTIPLIER_BITS, act_range, requant_shift, requantize

__all__ = ["ActTable", "choose_table"]

SHARES = 2.0 ** (-np.arange(9) / 2)
"""Shares of the least and of the greatest sum that are tried as the ends of the table."""

SAMPLE = 1 << 16
"""Sums on which these are compared."""

FINALISTS = 8
"""Ranges that are tried on all outputs, if only the greatest of these matters."""

FLAT = 1 / 512
"""Share of the function's range that the values beyond the ends may differ by, if the outputs' values matter."""


class ActTable(NamedTuple):
    """A layer's table and how sums find their place in it.

    Attributes
    ----------
    offset : int
        Is added to the biases, so that the table begins at the least sum that matters.
    constants : (int, int)
        Multiplier and pre-shift, as of `rtl.numbers.requantize`.
    output_scale : float
    table : int64 array, shape ``[256]``
        As of `host.quantization.integer_network.QuantizedLayer`.
    """

    offset: int
    constants: tuple[int, int]
    output_scale: float
    table: np.ndarray

    def look_up(self, sums: np.ndarray, act_bits: int) -> np.ndarray:
        """Activations of sums without the offset: int64, of the same shape.

        Parameters
        ----------
        sums : int64 array
        act_bits : int
            Width of an activation.
        """
        places = requantize(sums + self.offset, multiplier=self.constants[0], pre_shift=self.constants[1], signed=True,
                            act_bits=act_bits, clamp=np.clip)
        found: np.ndarray = self.table[places & (len(self.table) - 1)]
        return found


def choose_table(layer: SharedLayer, config, sums: np.ndarray, sum_scale: float,  # type: ignore[no-untyped-def]
                 bounds: tuple[int, int], winners: np.ndarray | None, *, clips: bool) -> tuple[ActTable, np.ndarray]:
    """The table with the least mean squared error of the function's values, and the layer's outputs with it.

    The places of a table mean sums at equal distances, from a least to a greatest one. Sums beyond these get the value
    at the end. Both are chosen by themselves: most functions hardly change on one side, or on both.

    Parameters
    ----------
    layer : SharedLayer
        Its activation function takes a table.
    config : EngineConfig
    sums : int64 array, shape ``[n, outputs]``
        Sums on the examples, before pooling.
    sum_scale : float
        A sum in floats is its integer times this.
    bounds : (int, int)
        Least and greatest sum that is possible.
    winners : int64 array, shape ``[n]``, optional
        The greatest output of each example: the table is the one with which it is right most often.
    clips : bool
        Values beyond the ends may be wrong, if that helps the others.
    """
    some = sums.ravel()[::max(1, sums.size // SAMPLE)]
    exact = activate(some * sum_scale, layer.activation)
    low, high = float(sums.min()) * sum_scale, float(sums.max()) * sum_scale
    found: list[tuple[float, ActTable]] = []
    for least in _ends(layer, low, exact, clips=clips, negative=True):
        for greatest in _ends(layer, high, exact, clips=clips, negative=False):
            one = _table(layer, config, (least, greatest), sum_scale, bounds)
            error = np.square(one.look_up(some, config.act_bits) * one.output_scale - exact).mean()
            found.append((float(error), one))
    found.sort(key=lambda pair: pair[0])
    best = [one for _, one in found[:1 if winners is None else FINALISTS]]
    tried = [(one, _outputs(layer, one, sums, config.act_bits)) for one in best]
    if winners is None:
        return tried[0]
    return min(tried, key=lambda pair: int((pair[1].argmax(axis=1) != winners).sum()))


def _ends(layer: SharedLayer, end: float, exact: np.ndarray, *, clips: bool, negative: bool) -> np.ndarray:
    """Sums at which the table may begin, or end if not ``negative``; ``end`` is the last one on that side."""
    if (end >= 0) == negative:
        return np.array([end])
    ends = end * SHARES
    if clips:
        return ends
    values = activate(ends, layer.activation)
    kept: np.ndarray = ends[np.abs(values - values[0]) <= FLAT * (exact.max() - exact.min())]
    return kept


def _outputs(layer: SharedLayer, one: ActTable, sums: np.ndarray, act_bits: int) -> np.ndarray:
    outputs = one.look_up(sums, act_bits)
    if layer.geometry is not None and layer.geometry.pool > 1:
        return max_pooled(outputs, layer.geometry)
    return outputs


def _table(layer: SharedLayer, config, ends: tuple[float, float], sum_scale: float,  # type: ignore[no-untyped-def]
           bounds: tuple[int, int]) -> ActTable:
    """The table for sums from the first of ``ends`` to the second."""
    places = config.table_entries
    shift, least_place = requant_shift(config.act_bits), -places // 2
    # A multiplier of all ones without pre-shift is the greatest ratio that the engine has.
    step = max((ends[1] - ends[0]) / (places - 1), sum_scale * 2.0 ** shift / ((1 << MULTIPLIER_BITS) - 1))
    offset = round((least_place * step - ends[0]) / sum_scale)
    moved = bounds[0] + min(offset, 0), bounds[1] + max(offset, 0)
    multiplier, pre_shift = requant_constants(layer.name, sum_scale / step, moved, config.act_bits, signed=True)
    # What a place means follows from the integers, not from what was wanted.
    step = sum_scale * 2.0 ** (shift + pre_shift) / multiplier
    values = activate(np.arange(least_place, places + least_place) * step - offset * sum_scale, layer.activation)
    low, high = act_range(config.act_bits, signed=layer.activation.signed)
    scale = max(float(values.max()) / high, float(values.min()) / low if low else 0.0) or 1.0
    acts = np.clip(np.rint(values / scale), low, high).astype(np.int64)
    return ActTable(offset, (multiplier, pre_shift), scale, np.roll(acts, least_place))
