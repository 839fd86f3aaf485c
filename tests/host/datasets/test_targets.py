# SPDX-License-Identifier: Apache-2.0
"""Targets, values that the outputs should have: what loads, what is refused, and where classes are needed."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from host import sensitivity, train
from host.bench import __main__ as bench
from host.datasets import load_dataset
from host.study import __main__ as study
from nonzero.errors import UserError, run_command

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 20), np.uint8)
TARGETS = np.random.default_rng(1).normal(size=(6, 3))


def write(path, train=TARGETS, test=TARGETS[:4], **more):
    np.savez(path, x_train=IMAGES, x_test=IMAGES[:4], train_targets=train, test_targets=test, **more)
    return f"npz:{path}"


def problems(spec):
    with pytest.raises(UserError) as caught:
        load_dataset(spec)
    return [problem.removeprefix(f"dataset '{spec}': ") for problem in caught.value.problems]


@pytest.mark.parametrize(("targets", "count"), [
    (TARGETS, 3), (TARGETS[:, 0], 1), (TARGETS[:, :1], 1), (TARGETS.astype(np.float16), 3), (np.arange(6), 1),
    (np.asfortranarray(TARGETS), 3), (TARGETS.reshape(6, 1, 3), 3),
    (np.arange(72, dtype=np.uint8).reshape(6, 3, 4), 12),
])
def test_targets_of_an_npz_file_load(tmp_path, targets, count):
    found = load_dataset(write(tmp_path / "a.npz", targets, targets[:4]))
    assert found.has_targets and found.train_labels.dtype == found.test_labels.dtype == np.float32
    assert np.array_equal(found.train_labels, targets.astype(np.float32).reshape(6, count))
    assert np.array_equal(found.test_labels, targets[:4].astype(np.float32).reshape(4, count))
    found.train_labels[0, 0] = 7  # torch wants writable arrays
    found.require(20, count)


def test_targets_count_in_the_place_of_labels(tmp_path):
    found = load_dataset(write(tmp_path / "a.npz", y_train=np.arange(6), y_test=np.arange(4)))
    assert found.has_targets
    assert not load_dataset("mnist").has_targets


@pytest.mark.parametrize(("changed", "message"), [
    ({"train": TARGETS * np.nan}, "train targets must be finite in float32, but 18 values are not; remove them"),
    ({"test": TARGETS[:4] * 1e300}, "test targets must be finite in float32, but 12 values are not; remove them"),
    ({"train": TARGETS > 0}, "train targets must be numbers, not bool; convert them first"),
    ({"train": np.float64(3)},
     "train targets must have the shape [count] or [count, values...] with nothing zero, not []"),
    ({"test": TARGETS[:0]},
     "test targets must have the shape [count] or [count, values...] with nothing zero, not [0, 3]"),
    ({"train": TARGETS[:5]}, "train images and targets must be as many, not 6 images and 5 targets"),
    ({"test": TARGETS[:4, :2]}, "train and test targets must have one shape, not [3] and [2]"),
])
def test_targets_that_do_not_fit_are_refused(tmp_path, changed, message):
    assert message in problems(write(tmp_path / "a.npz", **changed))


def test_labels_and_targets_do_not_mix(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES, x_test=IMAGES[:4], train_targets=TARGETS, y_test=np.arange(4))
    assert problems(f"npz:{tmp_path / 'a.npz'}") == [
        "train and test must both have labels, or both targets, not targets and labels"]


def test_labels_that_are_floats_are_refused_with_the_name_of_targets(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES, x_test=IMAGES[:4], y_train=np.ones(6), y_test=np.arange(4))
    assert problems(f"npz:{tmp_path / 'a.npz'}") == [
        ("train labels must be integers, not float64; if they are values that the outputs should have, call them "
         "train_targets and test_targets in an npz file, or give them as [n, values] from loaders")]


MODULE = """
import torch

def pair(*shape, like=torch.float32):
    images, targets = torch.arange(120.0).reshape(6, 20), torch.arange(120.0).reshape(6, -1)[:, :3].to(like)
    batches = [(images[:4], targets[:4].reshape(4, *shape)), (images[4:].numpy(), targets[4:].reshape(2, *shape))]
    return lambda: (batches, batches)

three, square, half = pair(3), pair(1, 3), pair(3, like=torch.float16)
whole = pair(3, like=torch.int64)
column = lambda: [[(torch.ones(6, 20), torch.ones(6, 1))]] * 2
uneven = lambda: [[(torch.ones(6, 20), torch.ones(6, 2)), (torch.ones(6, 20), torch.ones(6, 1))]] * 2
short = lambda: [[(torch.ones(6, 20), torch.ones(5, 2))]] * 2
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    """Writes the module ``values``; gives what names a function of it."""
    (tmp_path / "values.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "values", raising=False)
    return "values:{}".format


def test_loaders_give_targets_as_floats_of_two_axes(spec):
    wanted = np.arange(120.0).reshape(6, 20)[:, :3]
    for name in ("three", "square", "half"):
        found = load_dataset(spec(name))
        assert found.has_targets and np.array_equal(found.train_labels, wanted)
        assert found.test_labels.dtype == np.float32
    assert load_dataset(spec("column")).train_labels.shape == (6, 1)


@pytest.mark.parametrize(("name", "message"), [
    ("whole", ("the training loader must give images [n, values...] and labels [n], but batch 1 has the shapes [4, 20] "
               "and [4, 3]")),
    ("short", "batch 1 has the shapes [6, 20] and [5, 2]"), ("uneven", "the training loader failed: ValueError: "),
])
def test_what_is_no_target_from_a_loader_is_refused(spec, name, message):
    assert message in problems(spec(name))[0]


def test_as_many_targets_as_outputs_are_required(tmp_path):
    data = load_dataset(write(tmp_path / "a.npz"))
    with pytest.raises(UserError) as caught:
        data.require(21, 10)
    assert caught.value.problems == [
        (f"dataset '{data.name}' has 20 values for each image, but the network has 21 inputs; give a dataset whose "
         "images have 21 values"),
        (f"dataset '{data.name}' has 3 targets for each image, but the network has 10 outputs; give a dataset with 10 "
         "targets")]


def test_what_needs_classes_says_so(tmp_path, capsys):
    images, targets = np.zeros((20, 784), np.uint8), np.zeros((20, 10))
    np.savez(tmp_path / "a.npz", x_train=images, x_test=images, train_targets=targets, test_targets=targets)
    torch.save(nn.Sequential(nn.Linear(784, 10)).state_dict(), tmp_path / "m.pt")
    spec, out = f"npz:{tmp_path / 'a.npz'}", str(tmp_path / "out")
    for what, command, arguments in (
            ("a network of the zoo", train.main, ["lenet-300-100", "--data", spec, "-o", str(tmp_path / "t.pt")]),
            ("a network of the zoo", study.main, ["--data", spec, "-o", out]),
            ("the scan of a network's layers", sensitivity.main, [str(tmp_path / "m.pt"), "--data", spec, "-o", out]),
            ("a comparison of recipes", bench.main, ["recipes", str(tmp_path / "m.pt"), "--data", spec, "-o", out])):
        assert run_command(command, arguments) == 2
        assert f"error: {what} needs labels that are classes, but dataset '{spec}' has targets; give labels\n" in \
            capsys.readouterr().err
    with pytest.raises(UserError, match="a network of the zoo needs labels that are classes"):
        train.train(train.TrainSettings("lenet-300-100", augment=False), load_dataset(spec))
