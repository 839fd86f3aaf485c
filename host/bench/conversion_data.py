# SPDX-License-Identifier: Apache-2.0
"""Inputs of other shapes than a network takes, for `host.bench.conversions`: are they read right, with a note, refused,
or silently wrong?
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from host.bench.conversion_subjects import Subject, draw
from host.compilation.state import Settings
from host.compilation.steps import compile_model
from host.compression.share_weights import ShareSettings
from host.datasets import load_dataset
from host.verification.fit_data import fit_data
from rtl.config import PRESETS

__all__ = ["DATA", "ROUTES", "DataSubject", "read_through"]

ROUTES = ("--calib", "--data", "host.run")
"""Ways in which inputs come in."""

NAMED = r"row-major|channels last"
"""Matches a note that says how inputs were taken."""

IMAGES = 48
PRESET = "conv"


@dataclass(frozen=True)
class DataSubject:
    """Inputs of one shape, given to a network that takes another or the same.

    Attributes
    ----------
    shape : tuple of int
        Shape of an input, as the network takes it.
    given : callable
        Makes the user's array from inputs ``[n, *shape]``.
    form : str
        Form of the network's file: "pt2", "module", or "state_dict" of linear layers.
    """

    name: str
    shape: tuple[int, ...]
    given: Callable[[Tensor], Tensor]
    form: str


GIVEN: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda x: x,
    "flat": lambda x: x.flatten(1),
    "an axis of 1 in front": lambda x: x[:, None],
    "an axis of 1 behind": lambda x: x[..., None],
    "channels last": lambda x: x.movedim(1, -1),
    "rows and columns swapped": lambda x: x.transpose(-1, -2),
    "columns in front": lambda x: x.movedim(-1, 1),
    "one value more": lambda x: torch.cat([x, x[..., :1]], -1),
    "one value fewer": lambda x: x[..., :-1],
    "twice as many values": lambda x: torch.cat([x, x], -1),
    "first half": lambda x: x.flatten(1)[:, :x[0].numel() // 2],
    "two inputs in one": lambda x: x.reshape(len(x) // 2, 2, *x.shape[1:]),
    "MNIST's 28 x 28": lambda x: torch.rand(len(x), 28, 28),
    "without an axis of 1": lambda x: x.squeeze(),
    "two axes as one": lambda x: x.flatten(-2),
}

SHAPES: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "20 values": ((20,), ("pt2", "module", "state_dict")), "image of 1 x 8 x 8": ((1, 8, 8), ("pt2", "module")),
    "image of 3 x 8 x 8": ((3, 8, 8), ("pt2", "module")), "image of 3 x 6 x 10": ((3, 6, 10), ("pt2", "module")),
    "image of 2 x 3 x 4": ((2, 3, 4), ("pt2",)), "flattened image of 1 x 6 x 10": ((1, 6, 10), ("pt2", "flat")),
    "flattened image of 3 x 6 x 10": ((3, 6, 10), ("flat",)),
}

PERMUTED = ("rows and columns swapped", "columns in front")


def _tells(form: str, shape: tuple[int, ...], given: str) -> bool:
    """Whether anything but the user can know that axes are permuted: not of square images, nor of one channel that the
    network flattens, nor if the images alone tell the shape."""
    def long(axes: Sequence[int]) -> list[int]:
        return [size for size in axes if size > 1]
    as_before = long(GIVEN[given](torch.zeros(2, *shape)).shape[1:]) == long(shape)
    return given not in PERMUTED or not (as_before or (form == "flat" and len(long(shape)) == 2)
                                         or (form == "module" and len(shape) == 3 and given == PERMUTED[0]))


DATA = [DataSubject(f"data: {network}, {form}: {given}", shape, make, form)
        for network, (shape, forms) in SHAPES.items() for form in forms for given, make in GIVEN.items()
        if _tells(form, shape, given)]


def network(subject: DataSubject, seed: int) -> nn.Module:
    """A small network that takes such inputs: a convolution if they are images, otherwise linear layers.

    Parameters
    ----------
    subject : DataSubject
        Gives the shape of an input, and the form of the network's file.
    seed : int
        Seed of the weights.
    """
    def build() -> nn.Module:
        values = int(np.prod(subject.shape))
        if len(subject.shape) == 3 and subject.form != "flat":
            channels, height, width = subject.shape
            return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(),
                                 nn.Linear(4 * (height - 2) * (width - 2), 5))
        flatten = [nn.Flatten()] if subject.form != "state_dict" else []
        return nn.Sequential(*flatten, nn.Linear(values, 16), nn.ReLU(), nn.Linear(16, 5))
    return draw(Subject(subject.name, build), seed)


def read_through(subject: DataSubject, route: str, directory: Path, seed: int) -> tuple[str, str]:
    """Gives the command inputs of another shape, and judges what the network received.

    Parameters
    ----------
    subject : DataSubject
    route : str
        One of `ROUTES`.
    directory : Path
        Takes the files that are written.
    seed : int
        Decides the network's weights and the inputs.

    Returns
    -------
    outcome : str
        "right", "announced" or "SILENT" (`host.bench.conversions.OUTCOMES`).
    said : str
        The note that announces the reading, or what is wrong; empty if it is right.

    Raises
    ------
    UserError
        If the command refuses the inputs.
    """
    module = network(subject, seed)
    inputs = torch.rand(IMAGES, *subject.shape, generator=torch.Generator().manual_seed(seed))
    true, given = inputs.flatten(1).numpy(), subject.given(inputs).contiguous()
    with torch.inference_mode():
        labels = module(inputs).argmax(1)
    path = directory / ("network.pt2" if subject.form == "pt2" else "network.pt")
    if subject.form == "pt2":
        torch.export.save(torch.export.export(module, (inputs[:1],)), path)
    else:
        torch.save(module.state_dict() if subject.form == "state_dict" else module, path)
    data, calib = _saved(directory / "given", given, labels)
    _, good_calib = _saved(directory / "good", inputs, labels)
    settings = {"--calib": {"calib": calib}, "--data": {"data": data}, "host.run": {"calib": good_calib}}[route]
    shape = subject.shape if subject.form == "module" and len(subject.shape) == 3 and route != "--data" else None
    work = compile_model(Settings(path, PRESETS[PRESET], PRESET, prune=False, sharing=ShareSettings(epochs=0),
                                  input_shape=shape, **settings))  # type: ignore[arg-type]
    notes = [*work.notes]
    if route == "--calib":
        assert work.calibration is not None
        taken = work.calibration
    elif route == "--data":
        assert work.dataset is not None
        taken = work.dataset.test_images
    else:
        assert work.image is not None
        dataset = fit_data(work.image, load_dataset(data))
        taken = dataset.test_images
        notes = [*dataset.notes]
    taken = taken.reshape(len(taken), -1)
    if taken.shape == true.shape and np.array_equal(taken, true):
        return "right", ""
    named = next((note for note in notes if re.search(NAMED, note)), None)
    if named is not None:
        return "announced", named
    return "SILENT", f"{list(given.shape[1:])} values are taken for {list(subject.shape)}; said: {'; '.join(notes)}"


def _saved(path: Path, images: Tensor, labels: Tensor) -> tuple[str, str]:
    """The specifications of a dataset and of bare inputs."""
    count = len(images)
    np.savez(path.with_suffix(".npz"), train_images=images.numpy(), train_labels=labels.numpy()[:count],
             test_images=images.numpy(), test_labels=labels.numpy()[:count])
    np.save(path.with_suffix(".npy"), images.numpy())
    return f"npz:{path.with_suffix('.npz')}", f"npy:{path.with_suffix('.npy')}"
