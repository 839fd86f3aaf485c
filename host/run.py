# SPDX-License-Identifier: Apache-2.0
"""Runs a memory image on the simulated engine and checks it: ``python -m host.run model.img --data mnist``."""

if __name__ == "__main__":
    from host.errors import expect_interrupts
    expect_interrupts()

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.cycles import Prediction, predict
from host.datasets import SPECS, Dataset, load_dataset
from host.decode import decode
from host.errors import UserError, check_all, end_with
from host.figures import ratio, rtl_figures
from host.image import Image, read_image
from host.options import add_engine_options, check_range, read_engine
from host.quantize import quantize_inputs
from host.reference import forward
from host.simulate import Comparison, compare, simulate
from rtl.config import EngineConfig

__all__ = ["Run", "main", "run_image"]

LARGEST_SEED = 1 << 30
"""The simulator takes 31 bits, and each of several simulations gets a seed of its own."""

EXAMPLES = """examples:
  python -m host.run build/model/model.img --data mnist --images 1000
  python -m host.run model.img --data idx:fashion/ --preset tiny --json"""


@dataclass(frozen=True)
class Run:
    """The engine's results beside the golden model's and the cycle model's, over the same images."""

    comparison: Comparison
    prediction: Prediction
    test_error: float
    seconds: float
    pes: int

    def figures(self) -> dict[str, Any]:
        """As in ``report.json`` under ``rtl``."""
        ideal, limit = self.prediction.ideal_cycles(self.pes), self.prediction.limit_cycles(self.pes)
        cycles = self.comparison.mean_counters["cycles"]
        return {
            "images": self.comparison.images, "mismatches": self.comparison.mismatches,
            "layers_compared": self.comparison.layers, "pes": self.pes, "cycles_per_image": cycles,
            "ideal_cycles_per_image": float(ideal.mean()), "limit_cycles_per_image": float(limit.mean()),
            "predicted_cycles_per_image": float(self.prediction.counters["cycles"].mean()),
            "cycles_over_limit": ratio(cycles, float(limit.mean())),
            "cycles_over_ideal": ratio(cycles, float(ideal.mean())),
            "cycle_mismatches": self.comparison.counter_mismatches["cycles"],
            "counter_mismatches": self.comparison.counter_mismatches, "counters": self.comparison.mean_counters,
            "test_error": self.test_error, "seconds": round(self.seconds, 2),
        }


def run_image(image: Image, config: EngineConfig, dataset: Dataset, images: int, *, seed: int = 1) -> Run:
    """Runs the first test images through golden model, cycle model and RTL.

    Raises
    ------
    UserError
        If the dataset does not fit the image, or has fewer images.
    """
    decoded = decode(image, config)
    network = decoded.network
    if network.inputs > dataset.input_count:
        raise UserError(f"dataset '{dataset.name}' has {dataset.input_count} values for each image, the network needs "
                        f"{network.inputs}; give the data that it was compiled for")
    check_range(f"--images of '{dataset.name}'", images, 1, len(dataset.test_labels))
    acts = quantize_inputs(network, dataset.test_images[:images])
    golden = forward(network, acts[:, :network.inputs])
    prediction = predict(decoded, acts, golden)
    begin = time.perf_counter()
    outputs, counters = simulate(config, image, acts, seed=seed)
    seconds = time.perf_counter() - begin
    comparison = compare([golden[number] for number in image.readable], outputs, prediction.counters, counters,
                         config.act_bits)
    signs = 0 if network.layers[-1].relu else 1 << (config.act_bits - 1)
    winners = (outputs[-1] ^ signs).argmax(axis=1)
    error = 100 * float((winners != dataset.test_labels[:images]).mean())
    return Run(comparison, prediction, error, seconds, config.pes)


def table(figures: dict[str, Any]) -> str:
    """The figures for people."""
    rows = rtl_figures(figures)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m host.run", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("image", type=Path, help="memory image that host.compile wrote")
    parser.add_argument("--data", required=True, metavar="SPEC", help=SPECS)
    parser.add_argument("--images", type=int, default=1000, help="test images to run (1000)")
    add_engine_options(parser)
    parser.add_argument("--seed", type=int, default=1, help="of the random contents of memories at the start (1)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args(argv)
    _, config, dataset = check_all(
        lambda: check_range("--seed", arguments.seed, 1, LARGEST_SEED),
        lambda: read_engine(arguments.preset, arguments.config), lambda: load_dataset(arguments.data))
    image = read_image(arguments.image, config)
    run = run_image(image, config, dataset, arguments.images, seed=arguments.seed)
    figures = run.figures()
    sys.stdout.write((json.dumps(figures, indent=2, sort_keys=True) if arguments.json else table(figures)) + "\n")
    failed = run.comparison.mismatches or any(run.comparison.counter_mismatches.values())
    if failed:
        raise UserError("the engine differs from its models: see the figures above")


if __name__ == "__main__":
    end_with(main)
