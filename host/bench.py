# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the toolchain."""

if __name__ == "__main__":
    from host.errors import expect_interrupts
    expect_interrupts()

import argparse
import importlib
import importlib.util
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from host.errors import end_with
from host.files import check_file
from host.image import image_file
from host.output import shown, text_table, write_json
from host.pack import pack
from host.quantize import QuantizedLayer, QuantizedNetwork
from rtl.config import EngineConfig

__all__ = ["VGG_LAYERS", "draw", "main", "measure_encode"]

EXAMPLES = """examples:
  python -m host.bench encode             # a quarter of a minute; with scipy installed, compares with it
  python -m host.bench encode --scale 8   # sizes over 8: a second"""

VGG_LAYERS = (("fc6", 25088, 4096, 0.04), ("fc7", 4096, 4096, 0.04), ("fc8", 4096, 1000, 0.23))
"""Name, inputs, outputs and share of weights kept (Han et al., NIPS 2015) of VGG-16's fully connected layers."""

CONFIG = EngineConfig(pes=64, acc_bits=28, index_bits=(3, 4, 5, 6), entry_depth=65536, slice_depth=8192, act_depth=1024,
                      queue_depth=64)
"""An engine that holds them all."""


def draw(scale: int, seed: int = 1) -> QuantizedNetwork:
    """VGG-16's fully connected layers with random weights, their sizes divided by ``scale``."""
    rng = np.random.default_rng(seed)
    layers = []
    for name, inputs, outputs, density in VGG_LAYERS:
        codes = np.zeros((outputs // scale, inputs // scale), np.uint8)
        for row in codes:
            chosen = rng.random(len(row), np.float32) < density
            row[chosen] = rng.integers(1, 16, int(chosen.sum()))
        layers.append(QuantizedLayer(name, codes, np.arange(16), np.zeros(len(codes), np.int64), 1, 15, True, False,
                                     1.0, 1.0, 1.0))
    return QuantizedNetwork("VGG-16 fc", tuple(layers), 1.0, False, CONFIG.act_bits)


def measure_encode(scale: int = 1) -> dict[str, Any]:
    """Times the packing of VGG-16's fully connected layers; as in ``encode.json``.

    Returns
    -------
    dict
        ``pack_seconds`` (balance, encode and pack) and ``image_seconds``, once Numba's code is compiled;
        ``scipy_seconds``, for `scipy.sparse.csc_array` of the same matrices, and ``over_scipy``, the sum of the two
        first over it, both None where scipy is not installed; ``peak_gib`` of the process.
    """
    image_file(pack(draw(64), CONFIG))
    network = draw(scale)
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
    if importlib.util.find_spec("scipy") is None:
        return None
    sparse = importlib.import_module("scipy.sparse")
    sparse.csc_array(network.layers[-1].codes)
    begin = time.perf_counter()
    for layer in network.layers:
        sparse.csc_array(layer.codes)
    return time.perf_counter() - begin


def encode_table(found: dict[str, Any]) -> str:
    """The figures for a terminal."""
    rows = [[layer["name"], f"{layer['cols']} x {layer['rows']}", f"{layer['weights_kept']:,}"]
            for layer in found["layers"]]
    table = text_table(["layer", "size", "weights kept"], rows)
    missing = "" if found["scipy_seconds"] else " (scipy is not installed)"
    return (f"{table}\n{found['weights_total']:,} weights packed in {found['pack_seconds']:.2f} s, image of "
            f"{found['image_bytes']:,} bytes in {found['image_seconds']:.2f} s, {found['peak_gib']:.2f} GiB at most\n"
            f"scipy's dense to CSC: {shown(found['scipy_seconds'], '.2f')} s; times that: "
            f"{shown(found['over_scipy'], '.2f')}{missing}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m host.bench", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    encode = commands.add_parser("encode", allow_abbrev=False, epilog=EXAMPLES,
                                 formatter_class=argparse.RawDescriptionHelpFormatter,
                                 help="pack VGG-16's fully connected layers, 123 million weights",
                                 description="Times the packing of VGG-16's fully connected layers.")
    encode.add_argument("--scale", type=int, default=1, choices=[1, 2, 4, 8, 16], help="divide all sizes by this (1)")
    encode.add_argument("-o", "--output", type=Path, default=Path("build/bench"), metavar="DIR",
                        help="where encode.json goes (build/bench)")
    encode.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args(argv)
    path = arguments.output / "encode.json"
    check_file(path)
    found = measure_encode(arguments.scale)
    write_json(path, found)
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if arguments.json else f"{encode_table(found)}\n{path}\n")


if __name__ == "__main__":
    end_with(main)
