# SPDX-License-Identifier: Apache-2.0
"""Compresses one network in every way, and compares: parameters, bits, error, seconds of training."""

if __name__ == "__main__":
    from nonzero.errors import expect_interrupts
    expect_interrupts()

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from host.datasets import SPECS, Dataset, load_dataset
from host.datasets.zoo_data import fitted
from host.network.zoo import KNOWN, build
from host.reporting.number_text import safe
from host.reporting.tables import write_json
from host.sensitivity import scan
from host.study.methods import BASELINE, METHODS, methods_for
from host.study.subject import FULL_EPOCHS, QUICK_EPOCHS, STARTS, Effort, Subject
from host.training.checkpoint import fingerprint
from nonzero.command_line import CommandParser
from nonzero.errors import UserError, check_all, check_range, end_with, say_notes
from nonzero.files import check_files, write_whole

__all__ = ["main", "study_identity"]

EXAMPLES = """examples:
  python -m host.study                                  # all methods, two seeds: half an hour on two cores
  python -m host.study --quick                          # two minutes: every method once, hardly trained
  python -m host.study --method cut --method iterative  # these two, and what they are compared with
  python -m host.study --seeds 3 --workers 8
  python -m host.study --seeds 3 --known docs/study.json  # only what is not measured there
  python -m host.study --network lenet-5 --epochs 4     # convolutions take longer: fewer epochs for all methods

It writes study.json and study.html into the output directory, and keeps there what is measured (study.db, an Optuna
study) and trained (models/). The same command goes on after an interruption and measures no row again; started a second
time in another terminal it takes a share of the rows. A study.json can be kept, and --known takes its rows over."""


SHAPES = ("iterative", {"kept": 0.08})
"""The row whose weights are drawn."""


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser("python -m host.study", description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--network", default="lenet-300-100", metavar="NAME",
                        help=f"one of {', '.join(KNOWN)} (lenet-300-100)")
    parser.add_argument("--data", default="mnist", metavar="SPEC", help=f"{SPECS} (mnist)")
    parser.add_argument("--method", action="append", choices=list(METHODS), metavar="NAME",
                        help=f"only this one (can be repeated): {', '.join(METHODS)}")
    parser.add_argument("--seeds", type=int, default=2, help="seeds 0, 1 and so on of each row (2)")
    parser.add_argument("--workers", type=int, default=2, help="processes, each on one core (2)")
    parser.add_argument("--quick", action="store_true", help="few settings and epochs, to see that all of it works")
    parser.add_argument("--epochs", type=int, metavar="N", help="of the dense networks' training, and of retraining "
                        f"({FULL_EPOCHS}; {QUICK_EPOCHS} with --quick)")
    parser.add_argument("--known", type=Path, metavar="FILE", help="an earlier study.json of the same network, data "
                        "and epochs: what it has measured is not measured again")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/study"), metavar="DIR",
                        help="where results go (build/study)")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def _need_optuna() -> None:
    if find_spec("optuna") is None:
        raise UserError("python -m host.study needs the package optuna, which is not installed; run "
                        "pip install 'nonzero[study]'")


def study_identity(network: str, dataset: Dataset, effort: Effort) -> str:
    """A name for the rows of one study: other data, training or effort give another name.

    Parameters
    ----------
    network : str
        A network of `host.network.zoo`.
    dataset : Dataset
    effort : Effort
    """
    return f"{network}-{hashlib.sha256(f'{fingerprint(dataset)} {effort} {STARTS}'.encode()).hexdigest()[:12]}"


def main(argv: Sequence[str] | None = None) -> None:
    """The command line ``argv``, or the process's own if it is None; see ``--help``."""
    arguments = _parser().parse_args(argv)
    output, quick = arguments.output, arguments.quick
    if arguments.epochs is None:
        arguments.epochs = QUICK_EPOCHS if quick else FULL_EPOCHS
    *_, model, dataset = check_all(
        _need_optuna,
        lambda: check_range("--seeds", arguments.seeds, 1, 1000),
        lambda: check_range("--workers", arguments.workers, 1, 256),
        lambda: check_range("--epochs", arguments.epochs, 1, 1000),
        lambda: check_files(output, ("study.json", "study.html", "study.db")),
        lambda: build(arguments.network),
        lambda: load_dataset(arguments.data))
    dataset = fitted(model, dataset)
    if not arguments.worker:
        say_notes(dataset.notes)
    from host.study.known import measured_list, read_known
    from host.study.queue import Job, Queue
    from host.study.results import study_page, study_rows, study_table
    from host.study.workers import run_workers, serve

    effort = Effort.of(arguments.epochs)
    identity = study_identity(arguments.network, dataset, effort)
    known = {} if arguments.known is None else read_known(arguments.known, identity)
    subject = Subject(arguments.network, dataset, effort, output / "models" / identity)
    queue = Queue(output, identity)
    if arguments.worker:
        serve(queue, subject)
        return
    chosen = [method for method in methods_for(subject.start(0))
              if not arguments.method or method.name in arguments.method or method.name == BASELINE]
    jobs = [Job(method.name, setting, seed) for method in chosen
            for setting in (method.quick if quick else method.settings) for seed in range(arguments.seeds)]
    queue.take_over(known)
    queue.add(jobs)
    run_workers(queue, jobs, arguments.workers, ["--network", arguments.network, "--data", arguments.data,
                                                 "--epochs", str(arguments.epochs), "-o", str(output)])
    measured = queue.measured()
    rows = study_rows(arguments.network, jobs, measured)
    found = scan(subject.dense("dense", 0)[0], dataset)
    weights = next((measured[job.key].weights for job in jobs if (job.method, job.setting) == SHAPES), {})
    note = (f"data {safe(arguments.data)}, {arguments.seeds} seeds; epochs: {effort.epochs} dense, {effort.retraining} "
            f"of retraining, {effort.sharing} of fine-tuning shared weights; {effort.rounds} rounds where iterative")
    write_json(output / "study.json", {"network": arguments.network, "data": arguments.data,
                                       "effort": asdict(effort), "identity": identity, "rows": rows,
                                       "measured": measured_list(measured),
                                       "sensitivity": found.figures(), "weights": weights})
    write_whole(output / "study.html", study_page(arguments.network, rows, found, weights, note).encode())
    files = f"{output / 'study.json'}\n{output / 'study.html'}"
    sys.stdout.write(json.dumps(rows, indent=2) + "\n" if arguments.json else f"{study_table(rows)}\n{files}\n")


if __name__ == "__main__":
    end_with(main)
