# SPDX-License-Identifier: Apache-2.0
"""Figures of how well outputs fit: the error of classes, mean squared error and R2 of values, and the area under the
ROC curve."""

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["METRICS", "Metric", "area_under_curve", "error_percent", "mean_squared_error", "metrics", "r_squared"]


@dataclass(frozen=True)
class Metric:
    """A figure, as reports show it.

    Attributes
    ----------
    title : str
        Its name.
    form : str
        Format of its value, without the unit.
    unit : str
        Its unit; empty for none.
    """

    title: str
    form: str
    unit: str = ""

    def text(self, value: float) -> str:
        """The number ``value`` with its unit."""
        return f"{self.form.format(value)}{self.unit}"

    @property
    def axis(self) -> str:
        """Title and unit, for a chart."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


METRICS = {"error": Metric("error", "{:.2f}", "%"), "mse": Metric("MSE", "{:.4g}"), "r2": Metric("R2", "{:.4f}"),
           "auc": Metric("AUC", "{:.4f}")}
"""The figures by their name in ``report.json``: `error_percent`, `mean_squared_error`, `r_squared` and
`area_under_curve`."""


def error_percent(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Percentage of examples whose greatest output is not their label.

    Parameters
    ----------
    outputs : array, shape ``[n, classes]``
    labels : int64 array, shape ``[n]``
    """
    return 100 * int((outputs.argmax(axis=1) != labels).sum()) / len(labels)


def mean_squared_error(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Mean over all examples and outputs of the squared difference.

    Parameters
    ----------
    outputs, targets : array, shape ``[n, outputs]``
    """
    return float(np.square(outputs.astype(np.float64) - targets).mean())


def r_squared(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Coefficient of determination: 1 less the sum of squared differences over the targets' own sum of squares.

    The latter is about the mean of each output. 1 is perfect, 0 is as good as always giving the mean; NaN for targets
    that are all alike. With several outputs both sums are over all of them, so that each counts by its variance.

    Parameters
    ----------
    outputs, targets : array, shape ``[n, outputs]``
    """
    targets = targets.astype(np.float64)
    spread = float(np.square(targets - targets.mean(axis=0)).sum())
    return 1 - float(np.square(outputs - targets).sum()) / spread if spread else math.nan


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive example has a greater score than a negative one.

    Equal scores count one half. From the ranks, as J. Hanley and B. McNeil, "The meaning and use of the area under a
    receiver operating characteristic (ROC) curve", Radiology 143, 1982. NaN without examples of both kinds.

    Parameters
    ----------
    scores : array, shape ``[n]``
    positive : bool array, shape ``[n]``
    """
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # from 1; equal scores share their mean rank
    ones = int(positive.sum())
    pairs = ones * (len(positive) - ones)
    return (float(ranks[places][positive].sum()) - ones * (ones + 1) / 2) / pairs if pairs else math.nan


def metrics(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The figures that there are for these labels, by their name in `METRICS`.

    The first is the one by which training judges, and the lower, the better: the error of classes, the mean squared
    error of targets. Two classes also have an area under the curve, of the second output less the first; so has a
    single output whose targets are 0 and 1, for instance a score of anomaly.

    Parameters
    ----------
    outputs : array, shape ``[n, outputs]``
    labels : int64 array, shape ``[n]``, or float32 array, shape ``[n, outputs]``
        Classes, or targets.
    """
    if labels.dtype.kind == "f":
        first, more = {"mse": mean_squared_error(outputs, labels)}, {"r2": r_squared(outputs, labels)}
        if outputs.shape[1] == 1 and np.isin(labels, (0, 1)).all():
            more["auc"] = area_under_curve(outputs[:, 0], labels[:, 0] == 1)
    else:
        first, more = {"error": error_percent(outputs, labels)}, {}
        if outputs.shape[1] == 2:
            more["auc"] = area_under_curve(outputs[:, 1] - outputs[:, 0], labels == 1)
    return first | {name: value for name, value in more.items() if not math.isnan(value)}
