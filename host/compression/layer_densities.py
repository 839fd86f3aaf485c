# SPDX-License-Identifier: Apache-2.0
"""The density of each layer: at the end of pruning, and in each round before."""

import numpy as np

from host.compression.recipe import PruneSettings
from host.network.layers import Linear, Network

__all__ = ["density_above", "round_keep", "spread_density", "targets"]


def spread_density(network: Network, density: float) -> dict[str, float]:
    """Shares an overall density out over the layers: the Erdos-Renyi rule.

    A layer's density is proportional to ``(rows + cols) / (rows * cols)``, at most 1, so that wide layers,
    which tolerate it best, lose most; for a convolution the two channel counts and the two edges of its kernel are
    added up instead of rows and columns. D. Mocanu et al., Nature Communications 9:2383 (2018), "Methods";
    U. Evci et al., "Rigging the Lottery", ICML 2020, section 3.

    Parameters
    ----------
    network : Network
    density : float
        Share of the weights to keep, 0 to 1. Fixed layers do not count: they stay whole.

    Returns
    -------
    dict of float
        Density of each layer by its name, 0 to 1.
    """
    keep = {layer.name: 1.0 for layer in network.layers if layer.fixed}
    left = {layer.name: layer for layer in network.layers if not layer.fixed}
    wanted = density * sum(layer.weight.size for layer in left.values())
    while left:
        factor = wanted / sum(map(_lengths, left.values()))
        full = [name for name, layer in left.items()
                if factor * _lengths(layer) >= layer.weight.size]
        if not full:
            return keep | {name: factor * _lengths(layer) / layer.weight.size for name, layer in left.items()}
        for name in full:
            keep[name] = 1.0
            wanted -= left.pop(name).weight.size
    return keep


def _lengths(layer: Linear) -> int:
    """Sum of the axes of a layer's weights."""
    if layer.geometry is None:
        return layer.rows + layer.cols
    return layer.rows + layer.geometry.in_shape[0] // layer.geometry.groups + sum(layer.geometry.kernel)


def density_above(weight: np.ndarray, quality: float) -> float:
    """Fraction of the weights whose magnitude reaches a threshold.

    Parameters
    ----------
    weight : float array, shape ``[rows, cols]``
    quality : float
        The threshold, in standard deviations of the weights that are not zero.
    """
    alive = weight[weight != 0]
    threshold = quality * alive.std(dtype=np.float64) if alive.size else 0.0
    return float(np.count_nonzero(np.abs(alive) >= threshold) / weight.size)


def targets(network: Network, settings: PruneSettings) -> dict[str, float]:
    """Final density by layer; with the allocation "global", one density for all.

    A fixed layer stays whole.

    Parameters
    ----------
    network : Network
        The network before pruning.
    settings : PruneSettings
        They say how much is kept, and how that is shared out over the layers.
    """
    return _wanted(network, settings) | {layer.name: 1.0 for layer in network.layers if layer.fixed}


def _wanted(network: Network, settings: PruneSettings) -> dict[str, float]:
    names = [layer.name for layer in network.layers]
    if settings.density is not None:
        if settings.allocation == "erdos-renyi":
            return spread_density(network, settings.density)
        return dict.fromkeys(names, settings.density)
    if settings.keep is not None:
        return {name: settings.keep.get(name, 1.0) for name in names}
    quality = settings.quality if isinstance(settings.quality, dict) else dict.fromkeys(names, settings.quality or 0.0)
    return {layer.name: density_above(layer.weight, quality.get(layer.name, 0.0)) for layer in network.layers}


def round_keep(network: Network, final: dict[str, float], settings: PruneSettings, index: int) -> dict[str, float]:
    """The density of each layer after round ``index``.

    Parameters
    ----------
    network : Network
        The network at the start of the round.
    final : dict
        Result of `targets` for the dense network.
    settings : PruneSettings
    index : int
        Number of the round, from 0.

    Returns
    -------
    dict
        Kept fraction of the weights, by the layer's name.
    """
    left = 1 - (index + 1) / settings.rounds
    if settings.schedule == "greedy":
        return targets(network, settings) if settings.quality is not None else final
    first = {name: max(target, settings.first_density) for name, target in final.items()}
    if settings.schedule == "cubic":
        return {name: target + (first[name] - target) * left ** 3 for name, target in final.items()}
    return {name: target * (first[name] / max(target, 1e-9)) ** left for name, target in final.items()}
