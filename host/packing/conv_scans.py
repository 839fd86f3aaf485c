# SPDX-License-Identifier: Apache-2.0
"""Splits a convolution into scans of its input, with stride 1 and kernels that the engine can hold.

A stride is cut into phases: one scan takes every `stride`-th pixel and the taps that meet it. A kernel with more taps
than an index can name is cut into blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from host.network.layers import Geometry, axis_sizes

__all__ = ["Scan", "scans"]


@dataclass(frozen=True)
class Scan:
    """Pixels that are scanned, and the accumulators that their products are added to. Pairs are (row, column).

    Attributes
    ----------
    taps : int64 array, shape ``[kernel rows * kernel columns]``
        Number of each tap in this scan, row times ``2**tap_bits`` plus column; -1 if the tap is not part of the scan.
    tap_bits : int
    origin : (int, int)
        The first pixel.
    pixels : (int, int)
        Number of rows and columns that are scanned; they are a stride apart.
    first : (int, int)
        The output pixel that tap 0 of the first pixel adds to; may lie outside.
    """

    taps: np.ndarray
    tap_bits: int
    origin: tuple[int, int] = (0, 0)
    pixels: tuple[int, int] = (1, 1)
    first: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class _Axis:
    """A scan in one direction; ``taps`` are numbers of the kernel's taps."""

    taps: range
    origin: int
    pixels: int
    first: int


def scans(geometry: Geometry, edge: int, tap_bits: int) -> list[Scan]:
    """The scans of a layer; the first begins at pixel (0, 0).

    Parameters
    ----------
    geometry : Geometry
        Geometry of the convolution.
    edge : int
        Most taps of a scan in each direction, at most ``2**tap_bits``.
    tap_bits : int
        Of the engine's configuration. A scan uses 0, 2 or ``tap_bits`` bits, the least that its taps need.
    """
    rows, cols = (list(_axis(*sizes, edge)) for sizes in axis_sizes(geometry))
    found = sorted((_scan(row, col, geometry.kernel, tap_bits) for row in rows for col in cols),
                   key=lambda scan: scan.origin)
    if not found or found[0].origin != (0, 0):
        found.insert(0, Scan(np.full(geometry.kernel[0] * geometry.kernel[1], -1), 0))
    return found


def _axis(size: int, kernel: int, stride: int, padding: int, outputs: int, edge: int) -> Iterator[_Axis]:
    for phase in range(stride):
        pixels = -(-(size - phase) // stride)
        taps = range((phase + padding) % stride, kernel, stride)
        for at in range(0, len(taps), edge):
            block = taps[at:at + edge]
            first = (phase + padding - block[0]) // stride
            # Pixels at both ends that contribute to no output are left out.
            begin, end = max(0, -first), min(pixels, outputs - first + len(block) - 1)
            if begin < end:
                yield _Axis(block, phase + begin * stride, end - begin, first + begin)


def _scan(row: _Axis, col: _Axis, kernel: tuple[int, int], tap_bits: int) -> Scan:
    most = max(len(row.taps), len(col.taps))
    bits = next(bits for bits in (0, 2, tap_bits) if most <= 1 << bits)
    taps = np.full(kernel, -1)
    taps[np.ix_(row.taps, col.taps)] = (np.arange(len(row.taps))[:, None] << bits) + np.arange(len(col.taps))
    return Scan(taps.ravel(), bits, (row.origin, col.origin), (row.pixels, col.pixels), (row.first, col.first))
