# SPDX-License-Identifier: Apache-2.0
"""The whole way on MNIST: train, compile, run in RTL, compare; ``make demo``."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from host import train
from host.compile import Settings, compile_model, write_outputs
from host.datasets import load_dataset
from host.errors import UserError, run_command
from host.image import parse_image
from host.report import report_text, write_report
from host.run import run_image, table
from rtl.config import preset

__all__ = ["main"]

DENSITY = 0.031
"""Share of LeNet-300-100's weights that is kept; docs/pruning.md says how it was found."""

EXAMPLES = """examples:
  python -m host.demo
  python -m host.demo --images 10000"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m host.demo", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--images", type=int, default=1000, help="test images to run in RTL, 1 to 10000 (1000)")
    parser.add_argument("--seed", type=int, default=0, help="of training and compilation (0)")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/demo"), metavar="DIR",
                        help="output directory (build/demo)")
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.images <= 10000:
        raise UserError(f"--images must be 1 to 10000, the test images of MNIST, not {arguments.images}")
    directory: Path = arguments.output
    directory.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()

    def say(line: str) -> None:
        sys.stderr.write(f"[{time.perf_counter() - begin:4.0f} s] {line}\n")

    say("training LeNet-300-100 on MNIST")
    model = directory / "model.pt"
    train.main(["lenet-300-100", "--data", "mnist", "--seed", str(arguments.seed), "-o", str(model)])
    config = preset("default")
    work = compile_model(Settings(model, config, density=DENSITY, data="mnist", seed=arguments.seed), say)
    report = write_outputs(work, directory)
    say(f"simulating the engine in RTL on {arguments.images} test images")
    run = run_image(parse_image(work.content, config), config, load_dataset("mnist"), arguments.images)
    report["rtl"] = run.figures()
    write_report(directory, report)
    say("done")
    sys.stdout.write(f"\n{report_text(report)}\n\n{table(report['rtl'])}\n\nreport: {directory / 'report.html'}\n")
    if run.comparison.mismatches or any(run.comparison.counter_mismatches.values()):
        raise UserError("the engine differs from its models: see the figures above")


if __name__ == "__main__":
    sys.exit(run_command(main))
