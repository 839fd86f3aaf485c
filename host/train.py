# SPDX-License-Identifier: Apache-2.0
"""Trains a network of the zoo: ``python -m host.train lenet-300-100 --data mnist -o model.pt``."""

if __name__ == "__main__":
    from nonzero.errors import expect_interrupts
    expect_interrupts()

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from host.datasets import SPECS, Dataset, load_dataset
from host.datasets.zoo_data import fitted
from host.importers.description import KEY
from host.importers.known_networks import description
from host.network.zoo import KNOWN, NETWORKS, build, empty
from host.training.augment import add_augmentation_option, augmentation_problem
from host.training.checkpoint import fingerprint, read_state, write_state
from host.training.curve_picture import curve_picture
from host.training.distributed import ALONE, Group, process_group
from host.training.exported import exported
from host.training.forward import error_of, loss_of
from host.training.optimiser import one_cycle, settle_torch
from host.training.samples import Samples, split
from nonzero.command_line import CommandParser
from nonzero.errors import LARGEST_SEED, UserError, end_with, say_notes
from nonzero.files import check_file, check_files, write_whole

__all__ = ["TrainSettings", "main", "train"]

EXAMPLES = """examples:
  python -m host.train lenet-300-100 --data mnist -o model.pt
  python -m host.train lenet-300-100 --data idx:fashion/ --epochs 40 --seed 1 -o fashion.pt
  python -m host.train resnet-8 --data cifar10:cifar-10-batches-py -o resnet.pt2
  torchrun --nproc-per-node 2 -m host.train lenet-300-100 --data mnist -o model.pt   # each batch shared by 2 processes

Beside the output it writes model.curve.json and model.curve.png, the learning curve, and after each epoch
model.pt.checkpoint, from which the same command goes on after an interruption to the same result, with any number of
processes: that changes only how sums are rounded."""


EXPORTED = ".pt2"

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class TrainSettings:
    """Options of training.

    Attributes
    ----------
    network : str
        A name of `host.network.zoo`.
    epochs, batch : int
        Passes over the training images; images for each step.
    learning_rate : float
        Peak of the one-cycle schedule of Adam.
    augment : bool
        Augment the training images at random, as the dataset says (`host.training.augment`).
    seed : int
        Seed of the initial weights, the order of the images and the augmentation.
    """

    network: str
    epochs: int = 20
    batch: int = 256
    learning_rate: float = 3e-3
    augment: bool = True
    seed: int = 0

    def check(self, dataset: Dataset) -> None:
        """Raises `UserError` with every setting that is out of range for ``dataset``."""
        problems = []
        if not 1 <= self.epochs <= 100_000:
            problems.append(f"epochs must be 1 to 100000, not {self.epochs}")
        if not 1 <= self.batch <= len(dataset.train_labels):
            problems.append(f"batch must be 1 to {len(dataset.train_labels)}, the training images of "
                            f"'{dataset.name}', not {self.batch}")
        if not (math.isfinite(self.learning_rate) and 0 < self.learning_rate <= 10):
            problems.append(f"learning rate must be above 0 and at most 10, not {self.learning_rate}")
        if not 0 <= self.seed <= LARGEST_SEED:
            problems.append(f"seed must be 0 to {LARGEST_SEED}, not {self.seed}")
        if self.augment and (problem := augmentation_problem(dataset)):
            problems.append(f"{problem}; use --no-augment")
        if problems:
            raise UserError(problems)


@dataclass
class _Run:
    """A training that is running: all that a checkpoint has to keep."""

    model: nn.Module
    forward: Callable[[torch.Tensor], torch.Tensor]
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    curve: list[dict[str, float]]
    group: Group

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(), "curve": self.curve}

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.curve = [{"epoch": int(point["epoch"]), "iterations": int(point["iterations"]),
                       "seconds": float(point["seconds"]), "loss": float(point["loss"]),
                       "held_out_error": float(point["held_out_error"])} for point in state["curve"]]


def train(settings: TrainSettings, dataset: Dataset, checkpoint: Path | None = None, *, group: Group = ALONE,
          make: Callable[[], nn.Module] | None = None) -> tuple[nn.Module, list[dict[str, float]]]:
    """Trains a network with Adam on the cross-entropy; the same settings give the same bits on one machine.

    Parameters
    ----------
    settings : TrainSettings
    dataset : Dataset
        Its test images are not looked at.
    checkpoint : Path, optional
        Written after each epoch, and taken up if it exists.
    group : Group
        The processes that call this together. They share out each batch, and all return the same model.
    make : callable, optional
        Makes the model with random weights, in place of that of the zoo.

    Returns
    -------
    model : nn.Module
        The model after the last epoch, on the processor.
    curve : list of dict
        For each epoch ``epoch`` (from 1), ``iterations`` and wall-clock ``seconds`` of it, ``loss`` and
        ``held_out_error`` in percent, on the training images that are not trained on (`host.training.samples.split`).

    Raises
    ------
    UserError
        For settings out of range, a dataset that does not fit the network, or a checkpoint of another run.
    """
    dataset = fitted(build(settings.network), dataset)
    settings.check(dataset)
    if group.size > 1 and any(isinstance(one, NORMS) for one in empty(settings.network).modules()):
        raise UserError(f"{settings.network} has batch normalisations, whose means are those of the whole batch; train "
                        "it in one process, without torchrun")
    if settings.batch < group.size:
        raise UserError(f"batch must be at least {group.size}, one image for each process of torchrun, not "
                        f"{settings.batch}; give more or use fewer processes")
    settle_torch()
    torch.manual_seed(settings.seed)
    model = (make() if make else build(settings.network)).to(group.device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = _Run(model, group.forward(model), torch.optim.Adam(model.parameters(), fused=True),
               torch.Generator().manual_seed(settings.seed), [], group)
    identity = {"settings": {**asdict(settings), "augmentation": dataset.augmentation}, "data": fingerprint(dataset)}
    if checkpoint and checkpoint.exists():
        _take_up(run, checkpoint, identity)
    (images, labels), held_out = split(dataset)
    samples = Samples(images, labels, augment=float(settings.augment), augmentation=dataset.augmentation)
    done = len(run.curve)
    epochs = range(done + 1, settings.epochs + 1)
    for epoch in tqdm(epochs, "training", settings.epochs, initial=done, unit="epoch",
                      disable=None if group.leads else True):
        begin = time.perf_counter()
        loss = _train_epoch(run, samples, settings, epoch)
        model.eval()
        error = error_of(lambda inputs: model(inputs.to(group.device)).cpu(), *held_out)
        model.train()
        run.curve.append({"epoch": epoch, "iterations": samples.batch_count(settings.batch),
                          "seconds": time.perf_counter() - begin, "loss": loss, "held_out_error": error})
        if checkpoint and group.leads:
            write_state(checkpoint, {**identity, **run.state()})
    return model.cpu(), run.curve


def _train_epoch(run: _Run, samples: Samples, settings: TrainSettings, epoch: int) -> float:
    count, group = samples.batch_count(settings.batch), run.group
    batch = min(settings.batch, len(samples.labels))
    total = 0.0
    for index, (inputs, labels) in enumerate(samples.batches(settings.batch, run.generator, group.part)):
        progress = (epoch - 1 + index / count) / settings.epochs
        run.optimizer.param_groups[0]["lr"] = one_cycle(settings.learning_rate, progress)
        loss = loss_of(run.forward(inputs.to(group.device)), labels.to(group.device))
        run.optimizer.zero_grad()
        # The group averages gradients over its processes, whose parts of the batch may differ in size.
        (loss * (group.size * len(labels) / batch)).backward()
        run.optimizer.step()
        total += loss.item() * len(labels) / batch
    total = group.sum(total)
    if not math.isfinite(total):
        raise UserError(f"training diverged in epoch {epoch}; use a lower --learning-rate than "
                        f"{settings.learning_rate}")
    return total / count


def _take_up(run: _Run, path: Path, identity: dict[str, Any]) -> None:
    way_out = "delete it or use --fresh to start over"
    try:
        state = read_state(path)
        different = [f"{key} {state['settings'].get(key)} instead of {value}"
                     for key, value in identity["settings"].items() if state["settings"].get(key) != value]
        if state["data"] != identity["data"]:
            different.append("other data")
        if not different:
            run.restore(state)
    except Exception as error:  # read_state raises whatever the damaged part happens to raise
        raise UserError(f"checkpoint '{path}' cannot be read ({type(error).__name__}); {way_out}") from None
    if different:
        raise UserError(f"checkpoint '{path}' is of another run, with {', '.join(different)}; {way_out}")


def _parser() -> argparse.ArgumentParser:
    defaults = TrainSettings("")
    parser = CommandParser("python -m host.train", description="Trains a network of the zoo.", epilog=EXAMPLES)
    parser.add_argument("network", help=f"one of {', '.join(NETWORKS)}")
    parser.add_argument("--data", required=True, help=SPECS)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the model file to write: .pt2, or .pt of "
                        f"{', '.join(KNOWN)}")
    parser.add_argument("--epochs", type=int, default=defaults.epochs, help="default %(default)s")
    parser.add_argument("--batch", type=int, default=defaults.batch,
                        help="images in a step, default %(default)s")
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate,
                        help="peak learning rate of Adam, default %(default)s")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="default %(default)s")
    parser.add_argument("--augment", action=argparse.BooleanOptionalAction,
                        help="change the training images at random (default: if their axes allow it)")
    add_augmentation_option(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="refuse to start without a checkpoint")
    group.add_argument("--fresh", action="store_true", help="start over, whatever checkpoint there is")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; see ``--help``. Raises `UserError` for options, files and data that cannot be used."""
    arguments = _parser().parse_args(argv)
    output = arguments.output
    check_file(output)
    if arguments.network in NETWORKS and arguments.network not in KNOWN and output.suffix != EXPORTED:
        raise UserError(f"output '{output}' must end with {EXPORTED}, since only a graph tells how the layers of "
                        f"{arguments.network} are connected; give -o {output.with_suffix(EXPORTED)}")
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    curve_file, picture_file = output.with_suffix(".curve.json"), output.with_suffix(".curve.png")
    check_files(output.parent, (path.name for path in (checkpoint, curve_file, picture_file)))
    if arguments.resume and not checkpoint.exists():
        raise UserError(f"there is no checkpoint '{checkpoint}' to resume from; leave out --resume")
    with process_group() as group:
        _train_and_write(arguments, group, checkpoint, curve_file, picture_file)


def _train_and_write(arguments: argparse.Namespace, group: Group, checkpoint: Path, curve_file: Path,
                     picture_file: Path) -> None:
    dataset = fitted(build(arguments.network), load_dataset(arguments.data))
    if group.leads:
        say_notes(dataset.notes)
    dataset = replace(dataset, augmentation=arguments.augmentation or dataset.augmentation)
    augment = arguments.augment
    if augment is None:
        augment = arguments.augmentation is not None or not augmentation_problem(dataset)
    settings = TrainSettings(arguments.network, arguments.epochs, arguments.batch, arguments.learning_rate,
                             augment, arguments.seed)
    if arguments.fresh and group.leads:
        checkpoint.unlink(missing_ok=True)
    group.wait()
    model, curve = train(settings, dataset, checkpoint, group=group)
    if not group.leads:
        return
    output = arguments.output
    if output.suffix == EXPORTED:
        write_whole(output, exported(model, torch.zeros(1, *model.input_shape)))  # type: ignore[misc]
    else:
        write_state(output, {"network": settings.network, "state_dict": model.state_dict(),
                    KEY: description(settings.network), "settings": asdict(settings), "data": dataset.name})
    write_whole(curve_file, (json.dumps(curve, indent=1) + "\n").encode())
    write_whole(picture_file, curve_picture(curve, f"{settings.network} on {dataset.name}"))
    checkpoint.unlink(missing_ok=True)
    error = error_of(model.eval(), dataset.test_images, dataset.test_labels)
    shown = f"mean squared error {error:.4g}" if dataset.has_targets else f"error {error:.2f}%"
    sys.stdout.write(f"{output}: {settings.network}, test {shown} after "
                     f"{settings.epochs} epochs, {sum(point['iterations'] for point in curve):,.0f} iterations, "
                     f"{sum(point['seconds'] for point in curve):.0f} s\n")


if __name__ == "__main__":
    end_with(main)
