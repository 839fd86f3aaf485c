# SPDX-License-Identifier: Apache-2.0
"""A report of a compilation, and the parts of its page."""

import json
from typing import Any
from xml.etree import ElementTree

from host.reporting.report import report_html

FIGURES = {
    "tool": "nonzero 0.1.0", "network": "lenet", "source": "models/lenet.pt", "preset": "default",
    "config": {"pes": 4, "index_bits": (4, 6), "direct_weights": False}, "config_hash": "0123456789abcdef",
    "seed": 7, "dataset": "mnist", "notes": ["not pruned: packed as it is"],
    "steps": [{"name": "load", "seconds": 1.25, "note": "2 layers", "test_error": 1.64},
              {"name": "prune and retrain", "seconds": 61.5, "note": "some kept", "test_error": 1.59},
              {"name": "verify", "seconds": 2.0, "note": "every weight read back", "test_error": None}],
    "test_error_dense": 1.64, "test_error_pruned": 1.59, "test_error_shared": 1.61, "test_error_engine": 1.63,
    "weights_total": 24320, "weights_kept": 2432, "bits_per_weight": 9.876, "bound_bits_per_weight": 8.765,
    "onchip_bytes": 3002.4, "image_bytes": 3456, "dense_bytes": 97280,
    "storage_bits": {"weights": 12000, "skips": 800, "slices": 9600, "biases": 1100, "program": 500,
                     "odd": 0},
    "cycles_per_image": {"predicted": 1234.4, "ideal": 987.0, "limit": 1111.0},
    "rtl": {"images": 1000, "mismatches": 2, "cycle_mismatches": 1, "test_error": 1.25, "seconds": 74.3,
            "cycles_per_image": 1250.0, "predicted_cycles_per_image": 1251.0, "limit_cycles_per_image": 1000.0,
            "ideal_cycles_per_image": 500.0, "counters": {"beats": 3.5}},
    "prune_history": [
        {"round": 1, "density": 0.5, "iterations": 214, "seconds": 2.51, "loss": 0.0123, "held_out_error": 2.25},
        {"round": 2, "density": 0.1, "iterations": 3424, "seconds": 41.0, "loss": 0.0456, "held_out_error": 1.75}],
}

LAYER = {"cols": 784, "weights_total": 23520, "weights_kept": 2000, "density": 0.08503, "entries": 2100,
         "skips": 100, "index_bits": 4, "passes": 1, "bits_per_weight": 9.25,
         "bound_bits_per_weight": 8.875,
         "pe_entries": [500, 520, 530, 550], "pe_balance": 1.0476, "codebook": [0, -77, 42],
         "act_density": 0.191, "useful_macs": 3600.0, "broadcasts": 950.0, "cycles": 1010.0}


def example(**changes: Any) -> dict[str, Any]:
    """A report of two layers; a key whose change is ... is left out."""
    layers = [{"name": "fc1", "rows": 30, **LAYER}, {"name": "fc2", "rows": 10, **LAYER}]
    report = {**json.loads(json.dumps(FIGURES)), "layers": layers, **changes}
    return {key: value for key, value in report.items() if value is not ...}


def page(report: dict[str, Any]) -> ElementTree.Element:
    """The page read as XML, so that an unescaped or unclosed thing is an error."""
    return ElementTree.fromstring(report_html(report))


def table(root: ElementTree.Element, kind: str) -> list[list[str]]:
    [found] = [one for one in root.iter("table") if one.get("class") == kind]
    return [["".join(cell.itertext()) for cell in row] for row in found.iter("tr")]


def section(root: ElementTree.Element, title: str) -> ElementTree.Element:
    [found] = [one for one in root.iter("section") if one.findtext("h2") == title]
    return found


def bars(root: ElementTree.Element, title: str) -> list[tuple[str, float, float]]:
    """Tip, width and height of each bar of a section."""
    return [(one.findtext("title") or "", float(one.get("width") or 0), float(one.get("height") or 0))
            for one in section(root, title).iter("rect")]


def titles(root: ElementTree.Element) -> list[str | None]:
    return [one.findtext("h2") for one in root.iter("section")]
