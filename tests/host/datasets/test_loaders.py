# SPDX-License-Identifier: Apache-2.0
"""Data from a function of the user's, named on the command line."""

import json
import runpy
import sys

import numpy as np
import pytest
import torch

from host import compile as host_compile
from host.datasets import load_dataset
from nonzero.errors import UserError, run_command
from tests.support.paths import ROOT

MODULE = """
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

IMAGES, LABELS = torch.arange(120.0).reshape(10, 1, 3, 4), torch.arange(10) % 3

def both(train, test):
    return lambda: (train, test)

def loaders():
    data = TensorDataset(IMAGES, LABELS)
    return DataLoader(data, batch_size=4, shuffle=True), DataLoader(data, batch_size=3)

def arrays():
    return [(IMAGES.byte().numpy(), LABELS.tolist())], [(IMAGES.byte(), LABELS.int())]

def fail():
    raise ValueError("no such disk")

def batches():
    yield IMAGES, LABELS
    raise SystemExit("half way")

good = [(IMAGES, LABELS)]
three = both(good, good) and (lambda: (good, good, good))
nothing = lambda: None
number = both(good, 3)
empty = both([], good)
bare = both(good, [IMAGES])
counts = both(good, [(IMAGES, LABELS[1:])])
shapes = both([(IMAGES, LABELS), (IMAGES[:, 0], LABELS)], good)
scalar = both([(5, 5)], good)
ragged = both([([[1], [2, 3]], [0, 1])], good)
late = lambda: (batches(), good)
labels = both([(IMAGES, LABELS.float())], good)
columns = both([(IMAGES, LABELS[:, None])], [(IMAGES.numpy(), LABELS[:, None].numpy())])
tables = both([(IMAGES, LABELS[:, None].repeat(1, 2))], good)
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    """Writes the module as ``mine.data``; gives what names a function of it."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import nosuchpackage\n")
    (tmp_path / "wrong.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mine", "mine.data"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "mine.data:{}".format


def test_labels_may_be_a_column(spec):
    found, plain = load_dataset(spec("columns")), load_dataset(spec("arrays"))
    assert found.train_labels.shape == found.test_labels.shape == (10,)
    assert np.array_equal(found.train_labels, plain.train_labels)
    with pytest.raises(UserError, match=r"batch 1 has the shapes \[10, 1, 3, 4\] and \[10, 2\]"):
        load_dataset(spec("tables"))


def test_loaders_are_read_once_and_in_one_order(spec):
    first = load_dataset(spec("loaders"))
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    again = load_dataset(spec("loaders"))
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.name == "mine.data:loaders"
    assert first.train_images.dtype == np.float32 and first.train_images.shape == (10, 1, 3, 4)
    assert first.train_labels.dtype == np.int64 and first.train_labels.tolist() != [0, 1, 2] * 3 + [0]
    assert np.array_equal(first.train_images[:, 0, 0, 0] / 12 % 3, first.train_labels)
    assert np.array_equal(first.train_images, again.train_images)
    assert first.test_labels.tolist() == [0, 1, 2] * 3 + [0]


def test_batches_may_be_arrays(spec):
    found = load_dataset(spec("arrays"))
    assert found.train_images.dtype == found.test_images.dtype == np.uint8
    assert np.array_equal(found.train_images, found.test_images) and found.train_labels.dtype == np.int64


@pytest.mark.parametrize("function, problem", [
    ("nosuch", "module 'mine.data' has no function 'nosuch'; define one that returns a pair of loaders"),
    ("IMAGES", "module 'mine.data' has no function 'IMAGES'"),
    ("fail", "fail() failed: ValueError: no such disk ("),
    ("three", "three() must return a pair of loaders, one of training and one of test batches, not a tuple of 3"),
    ("nothing", "nothing() must return a pair of loaders, one of training and one of test batches, not a NoneType"),
    ("number", "the test loader must be an iterable of batches, not a int"),
    ("empty", "the training loader must give at least one batch, but is empty"),
    ("bare", "the test loader must give pairs of images and labels, but batch 1 is a Tensor"),
    ("counts", "batch 1 has the shapes [10, 1, 3, 4] and [9]"),
    ("shapes", "those of batch 1 have [1, 3, 4] and those of batch 2 [3, 4]"),
    ("scalar", "batch 1 has the shapes [] and []"),
    ("ragged", "the training loader failed: ValueError: "),
    ("late", "the training loader failed: SystemExit: half way ("),
    ("labels", "train labels must be integers, not float32"),
])
def test_what_is_no_pair_of_loaders_is_refused(spec, function, problem):
    with pytest.raises(UserError) as caught:
        load_dataset(spec(function))
    assert str(caught.value).startswith(f"dataset 'mine.data:{function}': ") and problem in str(caught.value)


def test_the_place_of_a_failure_is_named(spec, tmp_path):
    with pytest.raises(UserError) as caught:
        load_dataset(spec("fail"))
    line = MODULE.splitlines().index('    raise ValueError("no such disk")') + 1
    assert str(caught.value).endswith(f"no such disk ({tmp_path / 'mine' / 'data.py'}, line {line})")


@pytest.mark.parametrize("module, problem", [
    ("nosuch", "ModuleNotFoundError: No module named 'nosuch'"),
    ("mine.nosuch", "ModuleNotFoundError: No module named 'mine.nosuch'"),
    ("broken", "ModuleNotFoundError: No module named 'nosuchpackage' ({}/broken.py, line 1)"),
    ("wrong", "SyntaxError: invalid syntax (wrong.py, line 1)"),
])
def test_a_module_that_cannot_be_imported_is_refused(spec, tmp_path, module, problem):
    with pytest.raises(UserError) as caught:
        load_dataset(f"{module}:f")
    assert str(caught.value) == (f"dataset '{module}:f': module '{module}' must be importable from here (or give "
                                 f"mnist, cifar10:PATH, idx:DIRECTORY or npz:FILE), but is not: "
                                 f"{problem.format(tmp_path)}")


def test_the_example_of_the_how_to(tmp_path, monkeypatch, capsys):
    how_to = (ROOT / "docs" / "howto" / "own-network.md").read_text()
    (tmp_path / "mine.py").write_text(how_to.split("```python\n# mine.py\n")[1].split("```")[0])
    for name, count in (("train", 40), ("test", 20)):
        torch.save((torch.rand(count, 1, 28, 28), torch.arange(count) % 10), tmp_path / f"{name}.pt")
    (tmp_path / "short.toml").write_text("rounds = 1\nfinal_epochs = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    torch.manual_seed(0)
    runpy.run_path("mine.py", run_name="__main__")
    assert run_command(host_compile.main, ["mine.pt2", "--data", "mine:loaders", "--density", "0.05", "--recipe",
                                           "short.toml", "--json", "--max-loss", "100"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in report["layers"]] == ["hidden", "last"]
    assert report["test_error_engine"] is not None
