# SPDX-License-Identifier: Apache-2.0
"""Growth of the error as each layer is pruned alone: ``python -m host.sensitivity model.pt --data mnist``.

One layer at a time loses its smallest weights, without retraining, while all others stay whole (Han et al.,
NIPS 2015, section 5 and figure 6). The most sensitive layer gets the lowest threshold.
"""

if __name__ == "__main__":
    from nonzero.errors import expect_interrupts
    expect_interrupts()

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from host.compression.saliency import choose
from host.datasets import SPECS, Dataset
from host.importers.known_networks import add_known_option
from host.importers.load_network import load_with_data
from host.network.layers import Linear, Network
from host.reporting.tables import text_table, write_figure, write_json
from host.training.forward import error_of, logits, tensors
from host.training.optimiser import settle_torch
from host.training.samples import split
from nonzero.command_line import CommandParser
from nonzero.errors import UserError, end_with, say_notes
from nonzero.files import check_files

__all__ = ["DENSITIES", "LayerScan", "Point", "Scan", "main", "scan"]

DENSITIES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)

TOLERANCE = 0.2
"""Percentage points of held-out error that a layer may cost before it counts as pruned too far."""

EXAMPLES = """examples:
  python -m host.sensitivity model.pt --data mnist
  python -m host.sensitivity model.pt --data mnist --tolerance 1 --densities 0.5,0.2,0.1,0.05

It writes sensitivity.json and sensitivity.svg into the output directory, and ends with the line of options that
gives host.compile the thresholds found."""


@dataclass(frozen=True)
class Point:
    """One layer at one density.

    Attributes
    ----------
    density : float
        Share of the layer's weights that is kept.
    threshold : float
        Least magnitude that is kept.
    quality : float
        The threshold over the standard deviation of the layer's non-zero weights (section 4).
    error : float
        Held-out error in percent.
    """

    density: float
    threshold: float
    quality: float
    error: float


@dataclass(frozen=True)
class LayerScan:
    """A layer at each density.

    Attributes
    ----------
    points : tuple of Point
        Points, from the greatest density down.
    chosen : Point
        The one chosen: `Scan` says how.
    """

    name: str
    points: tuple[Point, ...]
    chosen: Point


@dataclass(frozen=True)
class Scan:
    """The scan of a network.

    Attributes
    ----------
    dense_error : float
        Held-out error of the network as it is, in percent.
    tolerance : float
        A layer's chosen point is the last before its error first exceeds ``dense_error + tolerance``.
    layers : tuple of LayerScan
    """

    dense_error: float
    tolerance: float
    layers: tuple[LayerScan, ...]

    def figures(self) -> dict[str, Any]:
        """The figures of ``sensitivity.json``: these fields, with points as dictionaries."""
        return {"dense_error": self.dense_error, "tolerance": self.tolerance,
                "layers": [{"name": layer.name, "chosen": vars(layer.chosen),
                            "points": [vars(point) for point in layer.points]} for layer in self.layers]}


def scan(network: Network, dataset: Dataset, densities: Sequence[float] = DENSITIES,
         tolerance: float = TOLERANCE) -> Scan:
    """Measures the error on the held-out training images for each layer and density; the test images stay unseen.

    Parameters
    ----------
    network : Network
        The dense network.
    dataset : Dataset
    densities : sequence of float
        Above 0 and at most 1, in any order; 1 is added.
    tolerance : float
        Percentage points, 0 to 100, that the error may grow by when a layer is pruned to the density that is chosen for
        it.

    Raises
    ------
    UserError
        For densities or a tolerance out of range, or a dataset that does not fit the network.
    """
    problems = [f"densities must be above 0 and at most 1, not {one}" for one in densities if not 0 < one <= 1]
    if not 0 <= tolerance <= 100:
        problems.append(f"tolerance must be 0 to 100 percentage points, not {tolerance}")
    if problems:
        raise UserError(problems)
    dataset.require_classes("the scan of a network's layers")
    dataset.require(network.inputs, network.outputs)
    settle_torch()
    _, held_out = split(dataset)
    dense_error = _error(network, held_out)
    layers = []
    for number, layer in enumerate(network.layers):
        if layer.fixed:
            continue
        points = []
        for density in sorted({1.0, *densities}, reverse=True):
            (mask,) = choose([np.abs(layer.weight)], [round(density * layer.weight.size)])
            cut = replace(layer, weight=np.where(mask, layer.weight, np.float32(0)))
            error = _error(replace(network, layers=(*network.layers[:number], cut, *network.layers[number + 1:])),
                           held_out)
            points.append(_point(layer, cut, density, error))
        borne = [point.error <= dense_error + tolerance for point in points]
        chosen = points[borne.index(False) - 1] if False in borne else points[-1]
        layers.append(LayerScan(layer.name, tuple(points), chosen))
    return Scan(dense_error, tolerance, tuple(layers))


def _error(network: Network, held_out: tuple[np.ndarray, np.ndarray]) -> float:
    layers = tensors(network)
    return error_of(lambda inputs: logits(layers, inputs), *held_out)


def _point(layer: Linear, cut: Linear, density: float, error: float) -> Point:
    kept = np.abs(cut.weight[cut.weight != 0])
    threshold = float(kept.min()) if kept.size else 0.0
    deviation = float(layer.weight[layer.weight != 0].std(dtype=np.float64)) if layer.weight.any() else 0.0
    return Point(density, threshold, threshold / deviation if deviation else 0.0, error)


def scan_table(found: Scan) -> str:
    """The figures ``found`` for a terminal.

    Held-out error by density and layer, then the chosen thresholds and the options that set them.
    """
    names = [layer.name for layer in found.layers]
    rows = [[f"{points[0].density:.0%}", *(f"{point.error:.2f}" for point in points)]
            for points in zip(*(layer.points for layer in found.layers), strict=True)]
    chosen = [[layer.name, f"{layer.chosen.density:.0%}", f"{layer.chosen.threshold:.4f}",
               f"{layer.chosen.quality:.2f}", f"{layer.chosen.error:.2f}"] for layer in found.layers]
    keep = ",".join(f"{layer.name}={layer.chosen.density:g}" for layer in found.layers)
    return (f"held-out error in percent, one layer pruned at a time, without retraining\n"
            f"{text_table(['density', *names], rows)}\n\n"
            f"the lowest densities within {found.tolerance:g} points of the dense {found.dense_error:.2f}%:\n"
            f"{text_table(['layer', 'density', 'threshold', 'in deviations', 'error, %'], chosen)}\n\n--keep {keep}")


def scan_figure(found: Scan) -> Figure:
    """Held-out accuracy in percent over the density of each layer in ``found``, as in figure 6 of the paper.

    Dashed lines are the chosen densities.
    """
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    for number, layer in enumerate(found.layers):
        densities = [point.density for point in layer.points]
        axes.plot(densities, [100 - point.error for point in layer.points], marker="o", markersize=3,
                  color=f"C{number}", label=layer.name)
        axes.axvline(layer.chosen.density, color=f"C{number}", linewidth=0.8, linestyle="--")
    axes.axhline(100 - found.dense_error - found.tolerance, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlabel="density of the layer", ylabel="held-out accuracy, %",
             title="Sensitivity of each layer, without retraining")
    axes.legend()
    return figure


def _densities(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be like 0.5,0.2,0.1, not '{text}'") from None


def main(argv: Sequence[str] | None = None) -> None:
    parser = CommandParser("python -m host.sensitivity", description=__doc__, epilog=EXAMPLES)
    parser.add_argument("model", type=Path, help="dense model, as for host.compile")
    parser.add_argument("--data", required=True, metavar="SPEC", help=SPECS)
    add_known_option(parser)
    parser.add_argument("--densities", type=_densities, default=list(DENSITIES), metavar="SHARE,...",
                        help="shares of a layer's weights to try (17 from 1 down to 0.01)")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, metavar="POINTS",
                        help=f"percentage points of error that one layer may cost ({TOLERANCE})")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="output directory (build/MODEL)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args(argv)
    directory = arguments.output or Path("build") / arguments.model.stem
    check_files(directory, ("sensitivity.json", "sensitivity.svg"))
    network, dataset = load_with_data(arguments.model, arguments.data, known=arguments.known)
    say_notes((*network.assumptions, *dataset.notes))
    found = scan(network, dataset, arguments.densities, arguments.tolerance)
    write_json(directory / "sensitivity.json", found.figures())
    write_figure(directory / "sensitivity.svg", scan_figure(found))
    sys.stdout.write(json.dumps(found.figures(), indent=2) + "\n" if arguments.json else
                     f"{scan_table(found)}\n{directory / 'sensitivity.json'}\n{directory / 'sensitivity.svg'}\n")


if __name__ == "__main__":
    end_with(main)
