# SPDX-License-Identifier: Apache-2.0
"""Checks the scales of a quantised network on examples: levels that are not used, values that are clipped."""

from collections.abc import Sequence

import numpy as np

from host.compression.shared_network import SharedLayer
from host.network.activations import at_zero
from host.network.graph import sources
from host.quantization.golden_model import totals
from host.quantization.integer_network import QuantizedNetwork
from rtl.numbers import act_range, requant_shift

__all__ = ["CLIPPED", "clipped_inputs", "clipped_outputs", "dense_notes", "input_notes", "layer_notes",
           "output_notes"]

COMMON = 0.99
"""Share of the values that are no outliers."""

FEW = 1 / 16
"""Share of the levels: a note is given if all values but outliers use fewer."""

POOR_LEVELS = 4
"""An input, channel or output with at most this many levels says little, if others have more."""

POOR = 0.05
"""Share of such inputs, channels or outputs from which on a note is given."""

CLIPPED = 0.01
"""Share of an output's values, or of all inputs' values, from which on a note of clipping is given."""

MOST_NAMED = 8
"""Outputs that a note names."""


def input_notes(quantized: QuantizedNetwork, images: np.ndarray, examples: np.ndarray) -> list[str]:
    """Notes on inputs that their scale represents badly: a sentence each.

    Parameters
    ----------
    quantized : QuantizedNetwork
    images : uint8 or float32 array, shape ``[n, ...]``
        All that the scale was chosen on.
    examples : array, shape ``[n, ...]``
        Some of them.
    """
    if images.dtype == np.uint8:
        return []
    low, high = images.reshape(len(images), -1).min(axis=0), images.reshape(len(images), -1).max(axis=0)
    greatest = np.maximum(high, -low)
    what = "input"
    notes = []
    common, levels = _common(np.abs(examples) / quantized.input_scale), _levels(quantized, quantized.input_signed)
    if common < FEW * levels:
        notes.append(f"{COMMON:.0%} of the inputs that are not 0 use {round(common) + 1} of {levels + 1} levels: the "
                     f"greatest, {greatest.max():.4g} (input {int(greatest.argmax())}), sets the scale; take outliers "
                     "out of the calibration data, or clip the inputs")
    if images.ndim == 4:
        what, (low, high) = "channel", (edge(part.reshape(images.shape[1], -1), axis=1)
                                        for edge, part in ((np.min, low), (np.max, high)))
    return notes + _uneven(what, low, high, quantized.input_scale, levels, np.flatnonzero(np.maximum(high, -low)),
                           "scale the inputs alike, and train with that")


def layer_notes(quantized: QuantizedNetwork, outputs: list[np.ndarray]) -> list[str]:
    """Notes of hidden layers whose scale is set by few great outputs: a sentence each.

    Parameters
    ----------
    quantized : QuantizedNetwork
    outputs : list of int64 array, shape ``[n, outputs]``
        Outputs of every layer, from `host.quantization.golden_model.forward`.
    """
    notes = []
    for layer, values in zip(quantized.layers[:-1], outputs[:-1], strict=True):
        common, levels = _common(np.abs(values)), _levels(quantized, layer.activation.signed)
        if common < FEW * levels:
            notes.append(f"layer '{layer.name}': {COMMON:.0%} of its outputs that are not 0 use {round(common) + 1} of "
                         f"{levels + 1} levels, since a few are much greater; accuracy may suffer")
    return notes


def dense_notes(layers: Sequence[SharedLayer]) -> list[str]:
    """Notes of hidden layers whose function leaves no zeros: a sentence each.

    ``layers`` are those of the network with float values.
    """
    return [f"layer '{layer.name}': its {layer.activation.name} makes {at_zero(layer.activation):.3g} of "
            "0, so that hardly any of its outputs is 0 and can be skipped; the layers that take them need more cycles"
            for layer in layers[:-1] if at_zero(layer.activation) != 0]


def clipped_outputs(quantized: QuantizedNetwork, acts: np.ndarray, outputs: list[np.ndarray]) -> dict[int, float]:
    """The network's outputs that are often clipped: in a share of `CLIPPED` or more of the examples.

    Parameters
    ----------
    quantized : QuantizedNetwork
    acts : int64 array, shape ``[n, inputs]``
        Input activations.
    outputs : list of int64 array, shape ``[n, outputs]``
        Outputs of every layer.

    Returns
    -------
    dict
        The share of examples, 0 to 1, in which an output is beyond the greatest or least activation, by its number.
    """
    layer = quantized.layers[-1]
    if layer.table is not None:
        # Beyond the ends of a table, values are those at the ends.
        return {}
    low, high = act_range(quantized.act_bits, signed=layer.activation.signed)
    values, (source, added) = [acts, *outputs], sources(quantized.layers)[-1]
    sums = totals(layer.weights, layer.bias, values[source + 1], layer.geometry,
                  None if added is None else values[added + 1] * layer.added_weight)
    ratio = layer.multiplier / 2.0 ** (requant_shift(quantized.act_bits) + layer.pre_shift)
    shares = _beyond(sums * ratio, low if layer.activation.signed else -np.inf, high).mean(axis=0)
    return {int(number): float(shares[number]) for number in np.flatnonzero(shares >= CLIPPED)}


def output_notes(quantized: QuantizedNetwork, outputs: list[np.ndarray], clipped: dict[int, float], *,
                 classes: bool) -> list[str]:
    """Notes on outputs that their scale clips or represents badly: a sentence each.

    Parameters
    ----------
    quantized : QuantizedNetwork
    outputs : list of int64 array, shape ``[n, outputs]``
        Outputs of every layer.
    clipped : dict
        Result of `clipped_outputs`.
    classes : bool
        Only which output is the greatest matters.
    """
    notes = []
    if clipped:
        worst = sorted(clipped, key=lambda number: -clipped[number])
        named = ", ".join(f"{number} ({clipped[number]:.1%})" for number in worst[:MOST_NAMED])
        more = f" and {len(worst) - MOST_NAMED} more" if len(worst) > MOST_NAMED else ""
        why = ("the last scale is chosen for the greatest output to be the right class; do not take the outputs for "
               "values") if classes else "calibrate with more inputs"
        notes.append(f"values of outputs {named}{more} are clipped: {why}")
    if not classes:
        layer, last = quantized.layers[-1], outputs[-1]
        notes += _uneven("output", last.min(axis=0) * layer.output_scale, last.max(axis=0) * layer.output_scale,
                         layer.output_scale, _levels(quantized, layer.activation.signed), np.arange(layer.outputs),
                         "--outputs values gives each output a scale of its own")
    return notes


def clipped_inputs(quantized: QuantizedNetwork, images: np.ndarray) -> list[str]:
    """A note if many inputs exceed the range that the network takes.

    Parameters
    ----------
    quantized : QuantizedNetwork
    images : uint8 or float array, shape ``[n, ...]``
        Bytes mean 0 to 1.
    """
    low, high = act_range(quantized.act_bits, signed=quantized.input_signed)
    values = (images / 255 if images.dtype == np.uint8 else images) / quantized.input_scale
    share = float(_beyond(values, low, high).mean())
    if share < CLIPPED:
        return []
    scale = quantized.input_scale
    return [(f"{share:.1%} of the inputs are clipped: the network was calibrated for inputs from {low * scale:.4g} to "
             f"{high * scale:.4g}, but these go from {images.min():.4g} to {images.max():.4g}; calibrate with such "
             "inputs (--calib)")]


def _beyond(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (values > high + 0.5) | (values < low - 0.5)


def _levels(quantized: QuantizedNetwork, signed: bool) -> int:
    """Levels of a magnitude that is not 0."""
    return act_range(quantized.act_bits, signed=signed)[1]


def _common(magnitudes: np.ndarray) -> float:
    """The bound that `COMMON` of the magnitudes that are not 0 stay within; infinite if all are 0."""
    some = magnitudes[magnitudes > 0]
    return float(np.quantile(some, COMMON)) if some.size else np.inf


def _uneven(what: str, low: np.ndarray, high: np.ndarray, scale: float, levels: int, live: np.ndarray,
            way_out: str) -> list[str]:
    """A note if the ranges of inputs, channels or outputs are so unequal that small ones get at most `POOR_LEVELS`.

    ``live`` are the numbers of those that matter.
    """
    greatest = np.maximum(high, -low)
    own = np.rint(greatest / scale)
    poor = live[own[live] <= POOR_LEVELS]
    if not len(poor) or len(poor) < POOR * len(live) or own.max() <= POOR_LEVELS:
        return []
    first, best = poor[int(own[poor].argmax())], int(greatest.argmax())
    return [(f"{what} {best} spans {low[best]:.4g} to {high[best]:.4g} and sets the scale of all: {len(poor)} of the "
             f"{len(live)} {what}s get at most {int(own[first])} of {levels} levels ({what} {first} spans "
             f"{low[first]:.4g} to {high[first]:.4g}); {way_out}")]
