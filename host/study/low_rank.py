# SPDX-License-Identifier: Apache-2.0
"""Replaces layers by products of smaller ones, by singular value decomposition.

E. Denton et al., "Exploiting Linear Structure Within Convolutional Networks for Efficient Evaluation", NIPS 2014.
"""

from dataclasses import replace

import numpy as np

from host.network.layers import Conv2d, Linear, Network
from rtl.numbers import Activation

__all__ = ["biclustered", "equal_clusters", "factored"]

ITERATIONS = 50
"""Most iterations of the clustering, which comes to rest earlier."""


def factored(network: Network, share: float) -> Network:
    """Each fully connected layer as two (section 3.2).

    Parameters
    ----------
    network : Network
    share : float
        Parameters of the factors over those of the matrix; a layer where that leaves no rank stays whole, and so
        does the last, which is small.
    """
    layers: list[Linear] = []
    for layer in network.layers:
        rank = int(share * layer.weight.size / (layer.rows + layer.cols))
        if type(layer) is not Linear or rank < 1 or layer is network.layers[-1]:
            layers.append(layer)
            continue
        left, right = _factors(layer.weight, rank)
        layers += [Linear(f"{layer.name}.right", right, np.zeros(rank, np.float32), Activation.IDENTITY),
                   replace(layer, name=f"{layer.name}.left", weight=left)]
    return replace(network, layers=tuple(layers))


def biclustered(network: Network, share: float, clusters: int, seed: int = 0) -> Network:
    """Each convolution as two: its kernels to a few channels, then a mix of these at each pixel (section 3.3).

    Input and output channels are put into clusters of equal size; the weights between two clusters are replaced by
    factors of low rank. The first convolution has the right factors of all pairs of clusters. The second has the left
    ones; bias, ReLU and pooling of the layer follow it. The second convolution has no weights between channels of other
    clusters.

    A convolution with groups stays as it is, and so does one that would not get smaller.

    Parameters
    ----------
    network : Network
    share : float
        Parameters of the factors over those of the layer; the rank is the greatest that this leaves, at least 1.
    clusters : int
        Clusters of the channels on either side, where there are as many channels.
    seed : int
        Decides the first centres of the clusters.
    """
    layers: list[Linear] = []
    for layer in network.layers:
        whole = not isinstance(layer, Conv2d) or layer.fixed or layer.geometry.groups > 1
        layers += [layer] if whole else _bicluster(layer, share, clusters, seed)
    return replace(network, layers=tuple(layers))


def _bicluster(layer: Linear, share: float, clusters: int, seed: int) -> list[Linear]:
    assert layer.geometry is not None
    shape, channels, rows = layer.geometry, layer.geometry.in_shape[0], layer.rows
    kernel = shape.kernel[0] * shape.kernel[1]
    weight = layer.weight.reshape(rows, channels, kernel)
    taken = equal_clusters(weight.swapaxes(0, 1).reshape(channels, -1), min(clusters, channels), seed)
    given = equal_clusters(layer.weight, min(clusters, rows), seed)
    each_rank = len(taken) * rows + len(given) * channels * kernel
    rank = min(max(1, int(share * layer.weight.size / each_rank)), *map(len, given),
               *(len(inputs) * kernel for inputs in taken))
    if rank * each_rank >= layer.weight.size:
        return [layer]
    middle = rank * len(taken) * len(given)
    first, second = np.zeros((middle, channels, kernel), np.float32), np.zeros((rows, middle), np.float32)
    start = 0
    for outputs in given:
        for inputs in taken:
            left, right = _factors(weight[np.ix_(outputs, inputs)].reshape(len(outputs), -1), rank)
            places = np.arange(start, start + rank)
            first[np.ix_(places, inputs)] = right.reshape(rank, len(inputs), kernel)
            second[np.ix_(outputs, places)] = left
            start += rank
    before = replace(shape, pool=1, pool_stride=1)
    after = replace(shape, in_shape=(middle, *before.out_shape), kernel=(1, 1), stride=(1, 1), padding=(0, 0),
                    end_padding=None)
    return [Conv2d(f"{layer.name}.right", first.reshape(middle, -1), np.zeros(middle, np.float32), Activation.IDENTITY,
                   before),
            Conv2d(f"{layer.name}.left", second, layer.bias, layer.activation, after)]


def _factors(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The product of this rank that is nearest to a matrix, its scale shared by both sides: float32
    ``[rows, rank]`` and ``[rank, cols]``."""
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    root = np.sqrt(values[:rank])
    return (left[:, :rank] * root).astype(np.float32), (root[:, None] * right[:rank]).astype(np.float32)


def equal_clusters(vectors: np.ndarray, count: int, seed: int = 0) -> list[np.ndarray]:
    """Clusters vectors by their direction: k-means on vectors of length 1, in clusters of equal size.

    A cluster that is full takes no more; vectors that would lose most elsewhere are placed first.

    Parameters
    ----------
    vectors : float array, shape ``[n, size]``
    count : int
        Number of clusters, 1 to n.
    seed : int
        Decides the first centres.

    Returns
    -------
    list of int64 array
        Indices of the vectors in each cluster; the sizes of clusters differ by at most one.
    """
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    centres = units[np.random.default_rng(seed).choice(len(units), count, replace=False)]
    sizes = np.full(count, len(units) // count)
    sizes[:len(units) % count] += 1
    members = np.full(len(units), -1)
    for _ in range(ITERATIONS):
        before, members = members, _assign(np.square(units[:, None] - centres).sum(axis=2), sizes)
        if np.array_equal(before, members):
            break
        centres = np.stack([units[members == number].mean(axis=0) for number in range(count)])
    return [np.flatnonzero(members == number) for number in range(count)]


def _assign(distances: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The cluster of each vector, from distances ``[n, clusters]``; vectors with most to lose choose first."""
    members, room = np.empty(len(distances), np.int64), sizes.copy()
    ranked = np.sort(distances, axis=1)
    for number in np.argsort(ranked[:, 0] - ranked[:, min(1, len(sizes) - 1)], kind="stable"):
        free = np.where(room > 0, distances[number], np.inf)
        members[number] = free.argmin()
        room[members[number]] -= 1
    return members
