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

__all__ = ["WAYS_OUT", "Values", "compared", "float_values", "integer_values", "last_values", "loss_notes",
           "output_changes", "signal_to_noise", "way_out"]

POINTS = 2.0
"""Percentage points of test error that a step may cost without a note."""

RELATIVE = 0.05
"""Change of the outputs, over their standard deviation, that a step may cost without a note where there are no labels.
"""

INPUTS = 256
MACS = 1 << 32
"""Inputs on which layers are compared; fewer, at least 2, where they would take more multiplications than `MACS`."""

WAYS_OUT = {
    "pruning": "give --data to retrain, or keep more with --density",
    "weight sharing": "give --data to fine-tune it, more --share-epochs, or an engine with more code_bits",
    "quantisation": "give --calib inputs like those that it will see, or an engine with more act_bits",
}
"""Advice for the user, by the step that lost accuracy."""

WITH_DATA = {
    "pruning": "keep more with --density, or retrain longer with another --recipe",
    "weight sharing": "give more --share-epochs, or an engine with more code_bits",
}
"""Advice where there is --data already, in the place of `WAYS_OUT`."""

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
    changes = output_changes(before, after, images, sure=first is not None)
    if first is None:
        if changes[-1] <= RELATIVE:
            return []
        cost = f"{100 * changes[-1]:.0f} % of the outputs' standard deviation on the calibration inputs"
    worst = int(np.argmax(np.diff(changes, prepend=0)))
    where = f"layer '{before.layers[worst - 1].name}' loses" if worst else "the rounding of the inputs loses"
    return [f"{step} costs {cost}; {where} most; {way_out(step, has_data=first is not None)}"]


def way_out(step: str, *, has_data: bool) -> str:
    """Advice for the user where ``step``, a key of `WAYS_OUT`, loses; ``has_data``: there is --data already."""
    return WITH_DATA.get(step, WAYS_OUT[step]) if has_data else WAYS_OUT[step]


def output_changes(before: Network, after: Values, images: np.ndarray, *, sure: bool = True) -> list[float]:
    """What each layer's share in a step changes the network's outputs.

    Parameters
    ----------
    before : Network
        The network before the step.
    after : callable
        Computes the step's result, with as many values behind each layer.
    images : array, shape ``[n, ...]``
        Inputs; of many, some are taken (`compared`).
    sure : bool
        Measure by layer even if the total change is small.

    Returns
    -------
    list of float
        Change of the outputs, as a share of their standard deviation (what all inputs give alike tells nothing), if
        the inputs (first), and then one layer more each time, are as after the step. Without ``sure`` the total change
        alone if it is at most `RELATIVE`.
    """
    layers = tensors(before)
    chosen = compared(before, images)
    values = after(chosen)
    with torch.no_grad():
        exact = logits(layers, torch.from_numpy(as_inputs(chosen))).double()
        known = [torch.from_numpy(one.astype(np.float32)) for one in values]
        size = float((exact - exact.mean(0)).norm()) or float(exact.norm()) or 1.0

        def change(number: int) -> float:
            rest = complete(layers, known[:number + 1])[-1].double()
            return float((rest - exact).norm()) / size
        whole = change(len(layers))
        if not sure and whole <= RELATIVE:
            return [whole]
        return [*map(change, range(len(layers))), whole]


def compared(network: Network, images: np.ndarray) -> np.ndarray:
    """The inputs, evenly spread over ``images`` ``[n, ...]``, on which the layers of ``network`` are compared."""
    count = min(len(images), INPUTS, max(2, MACS // (network.multiplications * len(network.layers))))
    return images[np.linspace(0, len(images) - 1, count).astype(np.int64)]


def signal_to_noise(before: np.ndarray, after: np.ndarray) -> float:
    """Signal-to-noise ratio in dB of the values ``after`` a step: the power of those ``before`` over that of their
    difference. Infinite if nothing has changed; minus infinity if only noise is left of zeros."""
    signal = float(np.square(before.astype(np.float64)).sum())
    noise = float(np.square(after.astype(np.float64) - before).sum())
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def last_values(values: Values, images: np.ndarray) -> np.ndarray:
    """The network's outputs alone, float64 ``[n, outputs]``.

    Parameters
    ----------
    values : callable
        Computes the values behind each layer.
    images : array, shape ``[n, ...]``
        Any number of inputs.
    """
    return np.concatenate([values(images[first:first + INPUTS])[-1].astype(np.float64)
                           for first in range(0, len(images), INPUTS)])


def float_values(network: Network) -> Values:
    """The values that the float network ``network`` computes."""
    def compute(images: np.ndarray) -> list[np.ndarray]:
        inputs = torch.from_numpy(as_inputs(images))
        hidden: list[torch.Tensor] = [inputs]
        with torch.no_grad():
            outputs = logits(tensors(network), inputs, hidden=hidden)
        return [values.numpy() for values in (*hidden, outputs)]
    return compute


def integer_values(quantized: QuantizedNetwork, read_back: QuantizedNetwork | None = None) -> Values:
    """The values that an integer network computes, times its scales.

    Parameters
    ----------
    quantized : QuantizedNetwork
    read_back : QuantizedNetwork, optional
        The same network as its image has it, without scales (`host.decoding.decode`): it computes instead.
    """
    network = read_back or quantized

    def compute(images: np.ndarray) -> list[np.ndarray]:
        acts = quantize_inputs(quantized, images)
        outputs = forward(network, acts[:, :network.inputs])
        return [acts * quantized.input_scale, *(layer.floats(values) for values, layer
                                                in zip(outputs, quantized.layers, strict=True))]
    return compute
