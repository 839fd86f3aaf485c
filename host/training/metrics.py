# SPDX-License-Identifier: Apache-2.0
"""Figures of how well outputs fit: the error of classes, mean squared error and R2 of values, and the area under the
ROC curve."""

import math

import numpy as np

__all__ = ["area_under_curve", "error_percent", "mean_squared_error", "metrics", "r_squared"]


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
    """The figures that there are for these labels, without those that are NaN: ``error``, ``mse``, ``r2``, ``auc``.

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
        found = {"mse": mean_squared_error(outputs, labels), "r2": r_squared(outputs, labels)}
        if outputs.shape[1] == 1 and np.isin(labels, (0, 1)).all():
            found["auc"] = area_under_curve(outputs[:, 0], labels[:, 0] == 1)
    else:
        found = {"error": error_percent(outputs, labels)}
        if outputs.shape[1] == 2:
            found["auc"] = area_under_curve(outputs[:, 1] - outputs[:, 0], labels == 1)
    return {name: value for name, value in found.items() if not math.isnan(value)}
