# SPDX-License-Identifier: Apache-2.0
"""What sharing and quantising a network's weights costs, as a warning that names the step and the layer."""

from collections.abc import Sequence

import numpy as np

from host.datasets import as_inputs
from host.graph import Linear, Network
from host.quantize import QuantizedNetwork, quantize_inputs
from host.reference import convolve, forward
from host.sharing import SharedLayer, SharedNetwork

__all__ = ["loss_note", "quantizing_errors", "sharing_errors"]

POINTS = 2.0
"""Percentage points of test error."""

RELATIVE = 0.05
"""Of the outputs' spread: the root mean square of the error over that of the outputs less their means."""


def sharing_errors(network: Network, shared: SharedNetwork, images: np.ndarray) -> tuple[float, list[float]]:
    """Relative errors of the outputs, and of each layer's own, on the exact network's values.

    Parameters
    ----------
    images : uint8 or float32 array, shape ``[n, ...]``
    """
    exact = found = as_inputs(images).astype(np.float64)
    own = []
    for before, after in zip(network.layers, shared.layers, strict=True):
        wanted = _outputs(before, exact)
        own.append(_relative(_outputs(after, exact), wanted))
        exact, found = wanted, _outputs(after, found)
    return _relative(found, exact), own


def quantizing_errors(shared: SharedNetwork, quantized: QuantizedNetwork,
                      images: np.ndarray) -> tuple[float, list[float]]:
    """As `sharing_errors`, of the integers beside the shared weights; each layer's own on the engine's values."""
    exact, acts = as_inputs(images).astype(np.float64), quantize_inputs(quantized, images)
    values, own = acts * quantized.input_scale, []
    for layer, integers, outputs in zip(shared.layers, quantized.layers, forward(quantized, acts), strict=True):
        exact, wanted = _outputs(layer, exact), _outputs(layer, values)
        values = outputs * integers.output_scale
        own.append(_relative(values, wanted))
    return _relative(values, exact), own


def loss_note(step: str, names: Sequence[str], errors: tuple[float, Sequence[float]],
              points: float | None) -> list[str]:
    """A warning if a step loses more than `POINTS` of test error; without labels, more than `RELATIVE`.

    Parameters
    ----------
    step : str
        What was done, for instance "sharing weights".
    names : sequence of str
        Of the layers.
    errors : (float, sequence of float)
        From `sharing_errors` or `quantizing_errors`.
    points : float, optional
        Percentage points of test error that were added, if there are labels.
    """
    total, own = errors
    if not (total > RELATIVE if points is None else points > POINTS):
        return []
    worst = int(np.argmax(own))
    added = f"{points:.1f} points of test error" if points is not None else \
        f"accuracy: the outputs differ by {total:.0%} of their spread"
    return [(f"warning: {step} loses {added}; most of it in layer '{names[worst]}', whose outputs change by "
             f"{own[worst]:.0%} of theirs")]


def _outputs(layer: Linear | SharedLayer, inputs: np.ndarray) -> np.ndarray:
    sums = convolve(layer.weight, layer.bias, inputs, layer.geometry) if layer.geometry \
        else inputs @ layer.weight.T + layer.bias
    return np.maximum(sums, 0) if layer.relu else sums


def _relative(found: np.ndarray, wanted: np.ndarray) -> float:
    spread = float(np.square(wanted - wanted.mean(axis=0)).sum())
    error = float(np.square(found - wanted).sum())
    return (error / spread) ** 0.5 if spread else float(error > 0)
