# SPDX-License-Identifier: Apache-2.0
"""k-means in one dimension, from three kinds of first centres (Deep Compression, ICLR 2016, section 3.2)."""

import numpy as np

__all__ = ["INITIALISATIONS", "cluster"]

MAX_ITERATIONS = 1000
"""k-means comes to rest far earlier; the limit only rules out endless loops."""

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
        Of the "random" one.

    Returns
    -------
    centres : float64 array
        Ascending, at most ``count``; every one has weights.
    members : int64 array, shape ``[n]``
        The index of the centre of each weight.
    """
    values = weights.astype(np.float64)
    distinct = np.unique(values)
    if len(distinct) <= count:
        return distinct, np.searchsorted(distinct, values)
    centres = _first_centres(values, distinct, count, initialisation, seed)
    members = np.zeros(len(values), np.int64)
    for _ in range(MAX_ITERATIONS):
        before = members
        members = np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
        if np.array_equal(members, before):
            break
        sizes = np.bincount(members, minlength=count)
        sums = np.bincount(members, values, minlength=count)
        centres = np.where(sizes > 0, sums / np.maximum(sizes, 1), centres)
        empty = np.flatnonzero(sizes == 0)
        if empty.size:  # around 0, where pruning has left no weights: better spent on those far from any centre
            distances = np.abs(distinct - centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, distinct)])
            centres[empty] = distinct[np.argsort(-distances, kind="stable")[:empty.size]]
            centres.sort()
    used, members = np.unique(members, return_inverse=True)
    return centres[used], members


def _first_centres(values: np.ndarray, distinct: np.ndarray, count: int, initialisation: str,
                   seed: int) -> np.ndarray:
    if initialisation == "linear":
        return np.linspace(distinct[0], distinct[-1], count)
    if initialisation == "density":
        return np.quantile(values, (np.arange(count) + 0.5) / count)
    return np.sort(np.random.default_rng(seed).choice(distinct, count, replace=False))
