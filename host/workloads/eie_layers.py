# SPDX-License-Identifier: Apache-2.0
"""The layers of EIE, which benchmarks measure: sizes, densities, published times, and an engine that holds them."""

from dataclasses import dataclass
from typing import NamedTuple

from rtl.config import EngineConfig

__all__ = ["CONFIG", "EIE_LAYERS", "PUBLISHED_US", "Layer", "Published"]


@dataclass(frozen=True)
class Layer:
    """A fully connected layer.

    Attributes
    ----------
    inputs, outputs : int
    weight_density, act_density : float
        Shares that are not zero.
    eie_ratio : float, optional
        EIE's cycles over its useful multiplications / 64, as published.
    """

    name: str
    inputs: int
    outputs: int
    weight_density: float
    act_density: float
    eie_ratio: float | None = None


EIE_LAYERS = (
    Layer("Alex-6", 9216, 4096, 0.09, 0.351, 1.28),
    Layer("Alex-7", 4096, 4096, 0.09, 0.353, 1.14),
    Layer("Alex-8", 4096, 1000, 0.25, 0.375, 1.32),
    Layer("VGG-6", 25088, 4096, 0.04, 0.183, 2.32),
    Layer("VGG-7", 4096, 4096, 0.04, 0.375, 1.75),
    Layer("VGG-8", 4096, 1000, 0.23, 0.411, 1.10),
    Layer("NT-We", 4096, 600, 0.10, 1.0, 1.67),
    Layer("NT-Wd", 600, 8791, 0.11, 1.0, 1.23),
    Layer("NT-LSTM", 1201, 2400, 0.10, 1.0, 1.34),
)
"""The layers of Han et al., "EIE" (ISCA 2016), tables III and IV; ``eie_ratio`` derived from the latter at 800 MHz."""


class Published(NamedTuple):
    """Microseconds for one vector, as published.

    Attributes
    ----------
    eie_theory, eie : float
        EIE (64 PEs, 800 MHz), theoretical and actual time.
    cpu_dense, cpu_sparse : float
        Core i7-5930K with MKL.
    gpu_dense, gpu_sparse : float
        Titan X.
    """

    eie_theory: float
    eie: float
    cpu_dense: float
    cpu_sparse: float
    gpu_dense: float
    gpu_sparse: float


PUBLISHED_US = {
    "Alex-6": Published(28.1, 30.3, 7516, 3067, 542, 135),
    "Alex-7": Published(11.7, 12.2, 6187, 1282, 243, 65.8),
    "Alex-8": Published(8.9, 9.9, 1135, 891, 80.5, 54.6),
    "VGG-6": Published(28.1, 34.4, 35023, 3774, 1468, 167),
    "VGG-7": Published(7.9, 8.7, 5373, 545, 243, 39.8),
    "VGG-8": Published(7.3, 8.4, 774, 777, 80.5, 48.0),
    "NT-We": Published(5.2, 8.0, 605, 261, 65, 17.7),
    "NT-Wd": Published(13.0, 13.9, 1361, 437, 90.1, 41.1),
    "NT-LSTM": Published(6.5, 7.5, 471, 260, 51.9, 18.5),
}
"""Batch 1, table IV of the same paper."""

CONFIG = EngineConfig(pes=64, acc_bits=28, index_bits=(3, 4, 5, 6), entry_depth=32768, slice_depth=4096, act_depth=512,
                      acc_depth=256, queue_depth=64, packet_bytes=4096)
"""One engine that holds each of the nine layers; a PE has 131,072 entries, as EIE's. A bias fills an entry word."""
