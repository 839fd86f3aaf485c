# SPDX-License-Identifier: Apache-2.0
"""Compares a compiled network with floats: how often they agree, what each step of the compiler lost, and where."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from host.network.layers import Network
from host.quantization.integer_network import QuantizedNetwork
from host.quantization.losses import Values, compared, float_values, last_values, output_changes, signal_to_noise
from host.training.metrics import r_squared
from host.verification.reference import Reference
from rtl.numbers import act_range

__all__ = ["AGREEMENT", "OUTPUTS", "READING", "FloatCheck", "Labelled", "Step", "StepLoss", "float_check"]

READING = "reading the model file"
"""The first step, measured if the float outputs come from elsewhere: a file may be read otherwise than was meant."""

AGREEMENT = "agreement"
"""Unit of a loss without labels: percent of the inputs whose greatest output is another one."""

OUTPUTS = "R2 of the outputs"
"""Unit of a loss without labels where the outputs are values: percent of the float outputs' variance that is lost
(`host.training.metrics.r_squared`)."""

ALL = 100.0
"""Points of a loss that leaves nothing."""


class Step(NamedTuple):
    """A step of the compiler.

    Attributes
    ----------
    name : str
        A key of `host.quantization.losses.WAYS_OUT`.
    before : Network
        The float network before it.
    after : callable
        Computes its result, with as many values behind each layer.
    """

    name: str
    before: Network
    after: Values


class Labelled(NamedTuple):
    """Figures of labelled test data.

    Attributes
    ----------
    unit : str
        What they are percent of, such as "test error".
    percents : sequence of float
        Of the network as it was read, and after each step; the lower, the better.
    """

    unit: str
    percents: Sequence[float]


@dataclass(frozen=True)
class StepLoss:
    """What a step lost.

    Attributes
    ----------
    name : str
        `READING`, or that of the `Step`.
    points : float
        Its part of the whole loss, in percentage points; negative if it has made the network better.
    unit : str
        What the points are of.
    change : float
        Norm of the change of the outputs over their norm before the step.
    snr_db : tuple of float
        For each layer the signal-to-noise ratio in dB of its outputs after the step to those before; none of `READING`.
    """

    name: str
    points: float
    unit: str
    change: float
    snr_db: tuple[float, ...] = ()


@dataclass(frozen=True)
class FloatCheck:
    """A compiled network beside floats.

    Attributes
    ----------
    reference : str
        What it was compared with.
    inputs : int
        Number of inputs.
    agreement : float or None
        Share of the inputs, 0 to 1, for which the same output is the greatest; None for a single output, for as many as
        the inputs, and for an image.
    relative_error : float
        Norm of the difference of the outputs over the norm of the float outputs.
    steps : tuple of StepLoss
    layers : tuple of str
        Names of the layers.
    clipped : tuple of float
        For each layer the share of the float network's values, 0 to 1, that are beyond the integers' range.
    worst_layer : str or None
        The layer that changes the outputs most in the step `worst`; None for the inputs' rounding, or `READING`.
    """

    reference: str
    inputs: int
    agreement: float | None
    relative_error: float
    steps: tuple[StepLoss, ...]
    layers: tuple[str, ...]
    clipped: tuple[float, ...]
    worst_layer: str | None

    @property
    def points(self) -> float:
        """The whole loss, in percentage points, at most 100; a negative one is a gain."""
        # Rounded, so that a limit of 2 allows 2.
        return round(min(ALL, sum(step.points for step in self.steps)), 6)

    @property
    def unit(self) -> str:
        """What the points are of."""
        return " and ".join(dict.fromkeys(step.unit for step in self.steps))

    @property
    def worst(self) -> StepLoss:
        """The step that lost most points; of several, the one that changed the outputs most."""
        return _worst(self.steps)

    @property
    def where(self) -> str:
        """The step and the layer that lost most, as a sentence says it."""
        if self.worst.name == READING:
            return READING
        return f"{self.worst.name}, " + (f"in layer '{self.worst_layer}'" if self.worst_layer else "of the inputs")

    def text(self) -> str:
        """The figures in one line."""
        agrees = "" if self.agreement is None else \
            f"the greatest output is the same on {100 * self.agreement:.2f} % of {self.inputs:,} inputs, "
        return (f"{agrees}relative error {100 * self.relative_error:.2f} %, beside {self.reference}; "
                f"{max(0.0, self.points):.2f} points of {self.unit} lost; the worst step is {self.where}")

    def figures(self) -> dict[str, Any]:
        """For ``report.json``: the schema is in `host.reporting.report`."""
        return {"reference": self.reference, "inputs": self.inputs, "agreement": self.agreement,
                "relative_error": self.relative_error, "points": self.points,
                "worst": {"step": self.worst.name, "layer": self.worst_layer},
                "steps": [{"name": step.name, "points": step.points, "unit": step.unit, "change": step.change}
                          for step in self.steps],
                "layers": [{"name": name, "clipped": self.clipped[number], "snr_db": {
                    step.name: step.snr_db[number] for step in self.steps if step.snr_db}}
                    for number, name in enumerate(self.layers)]}


def float_check(reference: Reference, network: Network, steps: Sequence[Step], quantized: QuantizedNetwork,
                labelled: Labelled | None = None) -> FloatCheck:
    """Compares what a compilation has made of a network with the float outputs ``reference``.

    Parameters
    ----------
    reference : Reference
    network : Network
        The float network as it was read.
    steps : sequence of Step
        In their order; the last one's result are the integers.
    quantized : QuantizedNetwork
        Gives the range of each layer's integers.
    labelled : Labelled, optional
        Figures by which the loss is measured; without them the outputs are compared with the reference's.
    """
    outputs = [reference.outputs, *(reference.ended(last_values(values, reference.inputs)) for values in
                                    (float_values(network), *(step.after for step in steps)))]
    unit, losses = _losses(network, reference.outputs, outputs)
    points = np.diff(losses)
    units = [unit] * len(points)
    if labelled is not None:
        points[1:] = np.diff(labelled.percents)
        units[1:] = [labelled.unit] * len(steps)
    changes = [_relative(after, before) for before, after in itertools.pairwise(outputs)]
    few = compared(network, reference.inputs)
    before_last: list[np.ndarray] = []
    found = [StepLoss(READING, float(points[0]), units[0], changes[0])] if not reference.own else []
    for number, step in enumerate(steps, 1):
        before_last = float_values(step.before)(few)[1:]
        ratios = map(signal_to_noise, before_last, step.after(few)[1:])
        found.append(StepLoss(step.name, float(points[number]), units[number], changes[number], tuple(ratios)))
    worst = next((step for step in steps if step.name == _worst(found).name), None)
    agreement = None if network.outputs == 1 or _alike(network) else _agreement(outputs[-1], reference.outputs)
    return FloatCheck(reference.name, len(reference.inputs), agreement, _relative(outputs[-1], reference.outputs),
                      tuple(found), tuple(layer.name for layer in quantized.layers),
                      tuple(map(_clipped, before_last, *zip(*_ranges(quantized), strict=True))),
                      None if worst is None else _worst_layer(worst, few))


def _worst(steps: Sequence[StepLoss]) -> StepLoss:
    return max(steps, key=lambda step: (step.points, step.change))


def _worst_layer(step: Step, images: np.ndarray) -> str | None:
    """The layer that changes the outputs most in a step; None for the rounding of the inputs."""
    number = int(np.argmax(np.diff(output_changes(step.before, step.after, images), prepend=0)))
    return step.before.layers[number - 1].name if number else None


def _alike(network: Network) -> bool:
    """Whether the outputs are values of one kind, no choice: as many as the inputs, as an autoencoder's, or several
    pixels."""
    return network.outputs >= network.inputs or network.layers[-1].map_shape[1:] != (1, 1)


def _losses(network: Network, exact: np.ndarray, outputs: Sequence[np.ndarray]) -> tuple[str, list[float]]:
    """Unit of the loss without labels, and how many points each of ``outputs`` has lost against ``exact``.

    Which output is the greatest says nothing if it is always the same, as a single output is. Outputs that are alike
    have one mean.
    """
    alike = _alike(network)
    if not alike and len(np.unique(exact.argmax(axis=1))) > 1:
        return AGREEMENT, [ALL * (1 - _agreement(one, exact)) for one in outputs]

    def lost(one: np.ndarray) -> float:
        explained = r_squared(one.reshape(-1, 1), exact.reshape(-1, 1)) if alike else r_squared(one, exact)
        return ALL * min(1.0, _relative(one, exact) ** 2 if math.isnan(explained) else 1 - explained)
    return OUTPUTS, list(map(lost, outputs))


def _agreement(outputs: np.ndarray, exact: np.ndarray) -> float:
    return float((outputs.argmax(axis=1) == exact.argmax(axis=1)).mean())


def _relative(outputs: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(outputs - exact) / (np.linalg.norm(exact) or 1.0))


def _ranges(quantized: QuantizedNetwork) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each layer the floats between which its outputs, or each of them, are not clipped."""
    found = []
    for layer in quantized.layers:
        low, high = act_range(quantized.act_bits, signed=layer.activation.signed)
        found.append((layer.floats(np.array(low - 0.5)), layer.floats(np.array(high + 0.5))))
    return found


def _clipped(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    return float(((values < low) | (values > high)).mean())
