# SPDX-License-Identifier: Apache-2.0
"""k-means in one dimension, from three kinds of first centres (Deep Compression, ICLR 2016, section 3.2)."""

import numpy as np

__all__ = ["INITIALISATIONS", "cluster"]

MAX_ITERATIONS = 1000
"""Steps, at most. k-means converges far earlier; the limit only rules out endless loops."""

INITIALISATIONS = ("linear", "density", "random")
"""Evenly between the least and the greatest weight, which keeps the few large ones represented; as many weights
between neighbours everywhere; weights drawn at random."""


def cluster(weights: np.ndarray, count: int, initialisation: str = "linear",
            seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Finds centres with little squared distance from the weights.

    Parameters
    ----------
    weights : float array, shape ``[n]``
    count : int
        Centres wanted.
    initialisation : str
        One of `INITIALISATIONS`.
    seed : int
        Seed of the initialisation "random".

    Returns
    -------
    centres : float64 array
        Ascending, at most ``count``; every one has weights.
    members : int64 array, shape ``[n]``
        The index of the centre of each weight.
    """
    values = weights.astype(np.float64)
    ordered = np.sort(values)
    distinct = ordered[np.diff(ordered, prepend=-np.inf) > 0]
    if len(distinct) <= count:
        return distinct, np.searchsorted(distinct, values)
    centres = _first_centres(values, distinct, count, initialisation, seed)
    # The weights of a centre lie side by side: their number and sum follow from where they end.
    before = np.concatenate([[0], np.cumsum(ordered)])
    ends = np.zeros(0, np.int64)
    for _ in range(MAX_ITERATIONS):
        last, ends = ends, np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2, side="right")
        if np.array_equal(last, ends):
            break
        places = np.concatenate([[0], ends, [len(ordered)]])
        sizes, sums = np.diff(places), np.diff(before[places])
        centres = np.where(sizes > 0, sums / np.maximum(sizes, 1), centres)
        empty = np.flatnonzero(sizes == 0)
        if empty.size:  # around 0, where pruning has left no weights: better spent on those far from any centre
            distances = np.abs(distinct - centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, distinct)])
            centres[empty] = distinct[np.argsort(-distances, kind="stable")[:empty.size]]
            centres.sort()
    members = np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
    sizes, sums = np.bincount(members, minlength=count), np.bincount(members, values, minlength=count)
    used = sizes > 0
    return sums[used] / sizes[used], (np.cumsum(used) - 1)[members]


def _first_centres(values: np.ndarray, distinct: np.ndarray, count: int, initialisation: str,
                   seed: int) -> np.ndarray:
    if initialisation == "linear":
        return np.linspace(distinct[0], distinct[-1], count)
    if initialisation == "density":
        return np.quantile(values, (np.arange(count) + 0.5) / count)
    return np.sort(np.random.default_rng(seed).choice(distinct, count, replace=False))
