# SPDX-License-Identifier: Apache-2.0
"""Measures the error that a step of the compiler adds; if it is large, a note names the step and the worst layer."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from host.datasets import as_inputs
from host.network.layers import Network
from host.quantization.golden_model import forward
from host.quantization.integer_network import QuantizedNetwork, quantize_inputs
from host.training.forward import complete, logits, tensors

__all__ = ["float_values", "integer_values", "loss_notes"]

POINTS = 2.0
"""Percentage points of test error that a step may cost without a note."""

RELATIVE = 0.05
"""Change of the outputs, by their root mean square, that a step may cost without a note where there are no labels."""

INPUTS = 256
MACS = 1 << 32
"""Inputs on which layers are compared; fewer, at least 2, where they would take more multiplications than `MACS`."""

WAYS_OUT = {
    "pruning": "give --data to retrain, or keep more with --density",
    "weight sharing": "give --data to fine-tune it, more --share-epochs, or an engine with more code_bits",
    "quantisation": "give --calib inputs like those that it will see, or an engine with more act_bits",
}
"""Advice for the user, by the step that lost accuracy."""

Values = Callable[[np.ndarray], list[np.ndarray]]
"""The activations for inputs: what goes into the first layer, and what comes out of each; each ``[n, values]``."""


def loss_notes(step: str, before: Network, after: Values, images: np.ndarray,
               errors: Sequence[float | None] = ()) -> list[str]:
    """A note if a step added a large error.

    Parameters
    ----------
    step : str
        A key of `WAYS_OUT`.
    before : Network
        The network before the step.
    after : callable
        Computes the step's result, with as many values behind each layer.
    images : array, shape ``[n, ...]``
        Inputs to compare the layers on.
    errors : (float, float), optional
        Test error before and after the step, in percent; without them the outputs are compared.
    """
    first, last = errors if len(errors) == 2 else (None, None)
    if first is not None and last is not None:
        if last - first <= POINTS:
            return []
        cost = f"{last - first:.1f} points of test error ({first:.2f} % before, {last:.2f} % after)"
    changes = _changes(before, after, images, first is not None)
    if first is None:
        if changes[-1] <= RELATIVE:
            return []
        cost = f"{100 * changes[-1]:.0f} % of the outputs' root mean square on the calibration inputs"
    worst = int(np.argmax(np.diff(changes, prepend=0)))
    where = f"layer '{before.layers[worst - 1].name}' loses" if worst else "the rounding of the inputs loses"
    return [f"{step} costs {cost}; {where} most; {WAYS_OUT[step]}"]


def _changes(before: Network, after: Values, images: np.ndarray, sure: bool) -> list[float]:
    """Change of the outputs, as a share of their root mean square, if the inputs (first), and then one layer more
    each time, are as after the step. If the total change is small, the changes by layer are not measured, unless
    ``sure``."""
    layers = tensors(before)
    macs = sum(layer.weight.size * (math.prod(layer.geometry.conv_shape) if layer.geometry else 1)
               for layer in before.layers)
    count = min(len(images), INPUTS, max(2, MACS // (macs * len(layers))))
    chosen = images[np.linspace(0, len(images) - 1, count).astype(np.int64)]
    values = after(chosen)
    with torch.no_grad():
        exact = logits(layers, torch.from_numpy(as_inputs(chosen))).double()
        known = [torch.from_numpy(one.astype(np.float32)) for one in values]
        size = float(exact.norm()) or 1.0

        def change(number: int) -> float:
            rest = complete(layers, known[:number + 1])[-1].double()
            return float((rest - exact).norm()) / size
        whole = change(len(layers))
        if not sure and whole <= RELATIVE:
            return [whole]
        return [*map(change, range(len(layers))), whole]


def float_values(network: Network) -> Values:
    """The values that the float network ``network`` computes."""
    def compute(images: np.ndarray) -> list[np.ndarray]:
        inputs = torch.from_numpy(as_inputs(images))
        hidden: list[torch.Tensor] = [inputs]
        with torch.no_grad():
            outputs = logits(tensors(network), inputs, hidden=hidden)
        return [values.numpy() for values in (*hidden, outputs)]
    return compute


def integer_values(quantized: QuantizedNetwork) -> Values:
    """The values that the integer network ``quantized`` computes, times its scales."""
    def compute(images: np.ndarray) -> list[np.ndarray]:
        acts = quantize_inputs(quantized, images)
        outputs = forward(quantized, acts)
        return [acts * quantized.input_scale, *(values * layer.output_scale for values, layer
                                                in zip(outputs, quantized.layers, strict=True))]
    return compute
