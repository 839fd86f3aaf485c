# SPDX-License-Identifier: Apache-2.0
"""Benchmark of packing: its time and memory."""

import resource
import time
from dataclasses import replace
from typing import Any

import numpy as np

from host.bench.libraries import scipy_sparse
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from host.reporting.tables import shown, text_table
from host.workloads.drawn_layers import draw_codes
from host.workloads.eie_layers import EIE_LAYERS
from rtl.config import EngineConfig
from rtl.numbers import Activation

__all__ = ["VGG_LAYERS", "draw_network", "encode_table", "measure_encode"]

VGG_LAYERS = EIE_LAYERS[3:6]
"""VGG-16's fully connected layers."""

CONFIG = EngineConfig(pes=64, acc_bits=28, index_bits=(3, 4, 5, 6), entry_depth=65536, slice_depth=8192, act_depth=1024,
                      queue_depth=64)
"""An engine that holds them all."""


def draw_network(scale: int, seed: int = 1) -> QuantizedNetwork:
    """`VGG_LAYERS` with random weights, their sizes divided by ``scale``.

    Parameters
    ----------
    scale : int
        Divisor of each layer's inputs and outputs, at least 1.
    seed : int
        Seed of the weights.
    """
    rng = np.random.default_rng(seed)
    layers = []
    for layer in VGG_LAYERS:
        codes = draw_codes(rng, replace(layer, inputs=layer.inputs // scale, outputs=layer.outputs // scale),
                           CONFIG.code_bits)
        layers.append(QuantizedLayer(layer.name, codes, np.arange(16), np.zeros(len(codes), np.int64), 1, 15,
                                     Activation.RELU, False, 1.0, 1.0, 1.0))
    return QuantizedNetwork("VGG-16 fc", tuple(layers), 1.0, False, CONFIG.act_bits)


def measure_encode(scale: int = 1) -> dict[str, Any]:
    """Times the packing of VGG-16's fully connected layers, their sizes divided by ``scale``; as in ``encode.json``.

    Returns
    -------
    dict
        ``pack_seconds`` (balance, encode and pack) and ``image_seconds``, once Numba's code is compiled;
        ``scipy_seconds``, for `scipy.sparse.csc_array` of the same matrices, and ``over_scipy``, the sum of the two
        first over it, both None where scipy is not installed; ``peak_gib`` of the process.
    """
    image_file(pack(draw_network(64), CONFIG))
    network = draw_network(scale)
    begin = time.perf_counter()
    packed = pack(network, CONFIG)
    between = time.perf_counter()
    content = image_file(packed)
    end = time.perf_counter()
    scipy_seconds = _scipy_seconds(network)
    return {
        "layers": [{"name": layer.name, "rows": layer.rows, "cols": layer.cols, "weights_kept": layer.weights_kept}
                   for layer in network.layers],
        "weights_total": network.weights_total, "weights_kept": network.weights_kept, "image_bytes": len(content),
        "pack_seconds": between - begin, "image_seconds": end - between, "scipy_seconds": scipy_seconds,
        "over_scipy": (end - begin) / scipy_seconds if scipy_seconds else None,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _scipy_seconds(network: QuantizedNetwork) -> float | None:
    sparse = scipy_sparse()
    if sparse is None:
        return None
    sparse.csc_array(network.layers[-1].codes)
    begin = time.perf_counter()
    for layer in network.layers:
        sparse.csc_array(layer.codes)
    return time.perf_counter() - begin


def encode_table(found: dict[str, Any]) -> str:
    """The figures ``found``, from `measure_encode`, for a terminal."""
    rows = [[layer["name"], f"{layer['cols']} x {layer['rows']}", f"{layer['weights_kept']:,}"]
            for layer in found["layers"]]
    table = text_table(["layer", "size", "weights kept"], rows)
    missing = "" if found["scipy_seconds"] else " (scipy is not installed)"
    return (f"{table}\n{found['weights_total']:,} weights packed in {found['pack_seconds']:.2f} s, image of "
            f"{found['image_bytes']:,} bytes in {found['image_seconds']:.2f} s, {found['peak_gib']:.2f} GiB at most\n"
            f"scipy's dense to CSC: {shown(found['scipy_seconds'], '.2f')} s; times that: "
            f"{shown(found['over_scipy'], '.2f')}{missing}")
