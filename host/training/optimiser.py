# SPDX-License-Identifier: Apache-2.0
"""The learning rate, and torch's settings under which a seed decides the result."""

import math

import torch

__all__ = ["one_cycle", "settle_torch"]


def settle_torch() -> None:
    """Makes torch's results on this machine depend on nothing but the seed; sets its global state.

    One thread: sums are then always added in one order, networks this small hardly gain from a second one,
    and ``set_flush_denormal`` only reaches the thread that calls it. Without flushing, the optimiser's
    states of pixels that are never lit decay into denormals, and an epoch takes ten times as long.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def one_cycle(peak: float, progress: float, *, warm_up: float = 0.15) -> float:
    """Learning rate of the one-cycle policy: a cosine up from 4% of the peak to the peak, then one down to 0.

    L. Smith and N. Topin, "Super-convergence", arXiv 1708.07120.

    Parameters
    ----------
    peak : float
        Greatest learning rate.
    progress : float
        Share of the training that is done, 0 to 1.
    warm_up : float
        Share of the training in which the rate rises, above 0 and below 1.
    """
    if progress < warm_up:
        return peak * (0.52 - 0.48 * math.cos(math.pi * progress / warm_up))
    return peak * (0.5 + 0.5 * math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))
