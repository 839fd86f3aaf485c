# SPDX-License-Identifier: Apache-2.0
"""Times methods side by side."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Timed", "Timing", "time_side_by_side"]

BLOCK_SECONDS = 2e-3
"""A block of calls takes at least this long, so that the time of reading the clock does not count."""


@dataclass(frozen=True)
class Timed:
    """Something to time.

    Attributes
    ----------
    call : callable
    seconds : callable
        Called with a call and a count; makes ``count`` calls and returns the seconds they took.
    """

    call: Callable[[], object]
    seconds: Callable[[Callable[[], object], int], float]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, over the blocks in which it was timed.

    Attributes
    ----------
    median, least : float
    quartiles : (float, float)
        The first and the third.
    calls : int
        Calls in a block.
    """

    median: float
    quartiles: tuple[float, float]
    least: float
    calls: int


def time_side_by_side(methods: dict[str, Timed], repeats: int) -> dict[str, Timing]:
    """Times each method in ``repeats`` blocks of calls.

    The methods take turns block by block, and each round begins with another method, so that noise hits all alike. A
    call that is not timed precedes each block, so that each method finds its own data in the caches.

    Parameters
    ----------
    methods : dict of Timed
        The methods by name.
    repeats : int
        Blocks of calls for each method, at least 1.

    Returns
    -------
    dict of Timing
        Seconds of one call, by the name of the method.
    """
    counts = {}
    for name, method in methods.items():
        method.call()
        counts[name] = max(1, math.ceil(BLOCK_SECONDS / max(method.seconds(method.call, 1), 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in methods}
    names = list(methods)
    for repeat in range(repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            method, count = methods[name], counts[name]
            method.call()
            samples[name].append(method.seconds(method.call, count) / count)
    found = {}
    for name, values in samples.items():
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
        found[name] = Timing(float(median), (float(low), float(high)), min(values), counts[name])
    return found
