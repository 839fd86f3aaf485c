# SPDX-License-Identifier: Apache-2.0
"""The whole way on MNIST: train, compile, run in RTL, compare; ``make demo``.

With a model of ``models/`` it starts from that: nothing is trained, pruned or shared (``make demo DEMO_MODEL=...``).
"""

if __name__ == "__main__":
    from nonzero.errors import expect_interrupts
    expect_interrupts()

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from host import train
from host.api import EngineNetwork
from host.compilation.state import Settings
from host.compilation.steps import compile_model
from host.compile import CHECKPOINTS, OUTPUTS, write_outputs
from host.compression.recipe import LENET_300_100_DENSITY
from host.compression.share_weights import ShareSettings
from host.datasets import load_dataset
from host.device.target import parse_target
from host.importers.known_networks import add_known_option
from host.importers.load_network import load_with_data
from host.reporting.report import report_text, write_report
from host.run import run_image, table
from nonzero.command_line import CommandParser
from nonzero.errors import UserError, check_all, check_range, check_seed, end_with
from nonzero.files import check_files
from nonzero.shipped import given_or_shipped
from rtl.config import preset

__all__ = ["main"]

EXAMPLES = """examples:
  python -m host.demo
  python -m host.demo --images 10000
  python -m host.demo --model models/lenet-300-100.safetensors"""


def ready_settings(model: Path, seed: int = 0, known: str | None = None) -> Settings:
    """Settings that pack a trained network for MNIST as it is, for the preset that runs it: `conv` if it has
    convolutions.

    Parameters
    ----------
    model : Path
        The model file.
    seed : int
    known : str, optional
        The network of `host.network.zoo` that a file of tensors is of.

    Raises
    ------
    UserError
        If the model or MNIST cannot be read.
    """
    network, _ = load_with_data(model, "mnist", known=known)
    name = "conv" if any(layer.geometry for layer in network.layers) else "default"
    return Settings(model, preset(name), name, prune=False, data="mnist", seed=seed, sharing=ShareSettings(epochs=0),
                    known=known)


def _ready(arguments: argparse.Namespace) -> Settings | None:
    """Settings for the model that is given; None without one."""
    if arguments.model is not None:
        return ready_settings(arguments.model, arguments.seed, arguments.known)
    if arguments.known is not None:
        raise UserError(f"--known {arguments.known} says what the file of --model holds; add --model, or leave it out")
    return None


def main(argv: Sequence[str] | None = None) -> None:
    parser = CommandParser("python -m host.demo", description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--images", type=int, default=1000, help="test images to run in RTL, 1 to 10000 (1000)")
    parser.add_argument("--model", type=given_or_shipped, metavar="FILE",
                        help="a network that is pruned and shared already (none: train LeNet-300-100)")
    add_known_option(parser)
    parser.add_argument("--seed", type=int, default=0, help="of training and compilation (0)")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/demo"), metavar="DIR",
                        help="output directory (build/demo)")
    arguments = parser.parse_args(argv)
    directory: Path = arguments.output
    *_, ready = check_all(
        lambda: check_range("--images", arguments.images, 1, 10000),
        lambda: check_seed(arguments.seed),
        lambda: check_files(directory, (*OUTPUTS, *CHECKPOINTS)),
        lambda: _ready(arguments))
    begin = time.perf_counter()

    def say(line: str) -> None:
        sys.stderr.write(f"[{time.perf_counter() - begin:4.0f} s] {line}\n")

    if ready is None:
        say("training LeNet-300-100 on MNIST")
        model = directory / "model.pt"
        train.main(["lenet-300-100", "--data", "mnist", "--seed", str(arguments.seed), "-o", str(model)])
        settings = Settings(model, preset("default"), density=LENET_300_100_DENSITY, data="mnist", seed=arguments.seed)
    else:
        settings = ready
    work = compile_model(settings, say, directory)
    report = write_outputs(work, directory)
    say(f"simulating the engine in RTL on {arguments.images} test images")
    run = run_image(EngineNetwork.of(work), parse_target(f"sim:{settings.preset}"), load_dataset("mnist"),
                    arguments.images)
    report["rtl"] = run.figures()
    write_report(directory, report)
    say("done")
    sys.stdout.write(f"\n{report_text(report)}\n\n{table(report['rtl'])}\n\nreport: {directory / 'report.html'}\n")
    run.check()


if __name__ == "__main__":
    end_with(main)
