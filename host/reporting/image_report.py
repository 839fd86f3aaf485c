# SPDX-License-Identifier: Apache-2.0
"""Figures of the compiler's report that an image itself does not have."""

import json
import math
from pathlib import Path
from typing import Any

from host.decoding.decode import Decoded
from nonzero.files import check_input

__all__ = ["output_scale_of_report", "weights_of_report"]

LARGEST_REPORT_BYTES = 1 << 26


def _layers(path: Path, decoded: Decoded) -> list[dict[str, Any]] | None:
    """The layers of the report, each a dictionary with a name and its kept weights; None without one of this image."""
    if not path.is_file():
        return None
    check_input("report", path, LARGEST_REPORT_BYTES)
    try:
        report = json.loads(path.read_bytes())
        found = [(layer["name"], layer["weights_kept"]) for layer in report["layers"]]
        same = report["config_hash"] == decoded.config.hash.hex()
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    same &= found == [(layer.name, layer.weights_kept) for layer in decoded.network.layers]
    return list(report["layers"]) if same else None


def weights_of_report(path: Path, decoded: Decoded) -> list[int] | None:
    """Weights of each layer before neurons were dropped, by the compiler's report ``path``.

    None if there is no such file, or it is not about the image ``decoded``. Raises `UserError` for a file that is too
    large.
    """
    layers = _layers(path, decoded)
    if layers is None:
        return None
    totals: list[Any] = [layer.get("weights_total") for layer in layers]
    if any(type(total) is not int or not layer.codes.size <= total < 1 << 53
           for total, layer in zip(totals, decoded.network.layers, strict=True)):
        return None
    return totals


def output_scale_of_report(path: Path, decoded: Decoded) -> float | None:
    """Scale of the network's outputs, by the compiler's report ``path``. An output is its integer times this.

    None if there is no such file, or it is not about the image ``decoded``. Raises `UserError` for a file that is too
    large.
    """
    layers = _layers(path, decoded)
    scale = layers[-1].get("output_scale") if layers else None
    return scale if type(scale) is float and 0 < scale < math.inf else None
