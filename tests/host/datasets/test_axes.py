# SPDX-License-Identifier: Apache-2.0
"""Data whose axes are not the network's: refused, or put in order and said so; never used as they come."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from host import compile as host_compile
from host import run as host_run
from host import sensitivity, train
from host.datasets import Dataset, load_dataset
from host.datasets.axes import fit_axes
from host.image.image import parse_image, read_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from nonzero.errors import UserError, run_command
from rtl.config import PRESETS
from rtl.image_file import HOST_MAGIC
from tests.support.images import perfect_batch, rebuilt
from tests.support.networks import SMALL, random_network

CLASSES = 4


@pytest.fixture(scope="module")
def convolution():
    """A small network on images of 3 x 8 x 8, and images with the labels that it gives them."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, CLASSES))
    images = torch.rand(300, 3, 8, 8)
    # Channels that matter differently, so that another order gives other labels.
    images *= torch.tensor([1.0, 0.5, 0.2])[:, None, None]
    with torch.no_grad():
        outputs = model(images)
        model[3].bias -= outputs.mean(dim=0)
        labels = model(images).argmax(dim=1).numpy()
    assert np.bincount(labels, minlength=CLASSES).min() > 20
    return model, images.numpy(), labels


def saved(directory, images, labels, name="data.npz"):
    np.savez(directory / name, train_images=images[:200], train_labels=labels[:200], test_images=images[200:],
             test_labels=labels[200:])
    return f"npz:{directory / name}"


def compiled(directory, *arguments, out="out", model="model.pt"):
    return run_command(host_compile.main, [str(directory / model), "-o", str(directory / out), "--no-prune",
                                           "--share-epochs", "0", "--preset", "conv", "--json", "--max-loss", "100",
                                           *arguments])


@pytest.mark.parametrize("given, axes", [
    ((28, 28), (1, 28, 28)), ((1, 28, 28), (28, 28)), ((28, 28, 1), (1, 28, 28)), ((784,), (1, 28, 28)),
    ((28, 28), (784,)), ((1, 28, 28), (784,)), ((28, 28, 1), (784,)), ((3, 5, 7), (3, 5, 7)), ((4, 4, 4), (4, 4, 4)),
    ((20,), (20,)), ((1, 20), (20,)),
])
def test_axes_that_are_certain(given, axes):
    images = np.arange(2 * np.prod(given)).reshape(2, *given)
    fitted, note = fit_axes("data", images, axes, way_out="-")
    assert np.array_equal(fitted.reshape(2, -1), images.reshape(2, -1)) and note == ""


@pytest.mark.parametrize("given, axes", [((5, 7, 3), (3, 5, 7)), ((5, 5, 3), (3, 5, 5)), ((1, 7, 3), (3, 1, 7))])
def test_channels_that_are_last_come_first(given, axes):
    images = np.arange(2 * np.prod(given)).reshape(2, *given)
    fitted, note = fit_axes("data", images, axes, way_out="-")
    assert np.array_equal(fitted, torch.from_numpy(images).permute(0, 3, 1, 2).numpy())
    assert note.startswith("data has its channels last, ") and fitted.flags.c_contiguous


@pytest.mark.parametrize("given, axes", [((75,), (3, 5, 5)), ((3, 5, 5), (75,))])
def test_flat_values_of_several_channels_are_taken_in_row_major_order_and_said(given, axes):
    images = np.arange(2 * 75).reshape(2, *given)
    fitted, note = fit_axes("data", images, axes, way_out="-")
    assert np.array_equal(fitted, images) and note.endswith("they were taken in row-major order")


@pytest.mark.parametrize("given, axes", [
    ((20,), (784,)), ((14, 56), (1, 28, 28)), ((5, 3, 5), (3, 5, 5)), ((3, 7, 5), (3, 5, 7)), ((3, 25), (3, 5, 5)),
    ((5, 3, 3), (3, 5, 3)), ((1, 5, 5), (5, 1, 5)), ((56, 14), (28, 28)), ((7, 5, 3), (3, 5, 7)),
])
def test_other_axes_are_refused(given, axes):
    with pytest.raises(UserError) as caught:
        fit_axes("data", np.zeros((2, *given)), axes, way_out="give others")
    shown = [" x ".join(map(str, one)) for one in (given, axes)]
    assert str(caught.value) == f"data has inputs of {shown[0]} values, but the network takes {shown[1]}; give others"


@pytest.mark.parametrize("extra", [[], ["--input-shape", "3,8,8"]])
@pytest.mark.parametrize("form", ["module", "pt2"])
def test_data_with_channels_last_give_the_same_image(tmp_path, convolution, capsys, extra, form):
    model, images, labels = convolution
    name = "model.pt" if form == "module" else "model.pt2"
    torch.save(model, tmp_path / name) if form == "module" else torch.export.save(
        torch.export.export(model.eval(), (torch.zeros(1, 3, 8, 8),)), tmp_path / name)
    for layout, stored in (("first", images), ("last", images.transpose(0, 2, 3, 1))):
        data = saved(tmp_path, stored, labels, f"{layout}.npz")
        assert compiled(tmp_path, "--data", data, *extra, out=layout, model=name) == 0
        captured = capsys.readouterr()
        report = json.loads(captured.out)
        # The float network gives its own labels; the engine loses what the shared weights cost.
        assert report["test_error_dense"] == 0 and report["test_error_engine"] <= 20
        moved = any("has its channels last, 8 x 8 x 3; they were moved to the front" in note
                    for note in report["notes"])
        assert moved == (layout == "last") == ("channels last" in captured.err)
    first, last = ((tmp_path / layout / "model.img").read_bytes() for layout in ("first", "last"))
    assert first == last
    assert read_image(tmp_path / "first/model.img").input_shape == (3, 8, 8)


def test_calibration_with_channels_last_gives_the_same_image(tmp_path, convolution, capsys):
    model, images, _ = convolution
    torch.save(model, tmp_path / "model.pt")
    np.save(tmp_path / "first.npy", images)
    np.save(tmp_path / "last.npy", images.transpose(0, 2, 3, 1))
    np.save(tmp_path / "other.npy", images.transpose(0, 2, 1, 3))
    for layout in ("first", "last"):
        assert compiled(tmp_path, "--calib", f"npy:{tmp_path / layout}.npy", "--input-shape", "3,8,8", out=layout) == 0
    assert "has its channels last, 8 x 8 x 3" in capsys.readouterr().err
    first, last = ((tmp_path / layout / "model.img").read_bytes() for layout in ("first", "last"))
    assert first == last
    assert compiled(tmp_path, "--calib", f"npy:{tmp_path}/other.npy", "--input-shape", "3,8,8", out="other") == 2
    assert "has inputs of 8 x 3 x 8 values, but the network takes 3 x 8 x 8" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_running_on_data_with_channels_last_gives_the_same_outputs(tmp_path, convolution, capsys, monkeypatch):
    """An image of a version that did not tell its input's shape takes the shape from its convolution."""
    model, images, labels = convolution
    torch.save(model, tmp_path / "model.pt")
    first = saved(tmp_path, images, labels, "first.npz")
    last = saved(tmp_path, images.transpose(0, 2, 3, 1), labels, "last.npz")
    assert compiled(tmp_path, "--data", first) == 0
    monkeypatch.setattr("host.verification.measure.run_batch", perfect_batch)
    image = tmp_path / "out/model.img"
    older = tmp_path / "older.img"
    older.write_bytes(rebuilt(image.read_bytes(), lambda fields: fields.pop("input_shape")))
    found = []
    for file, data in ((image, first), (image, last), (older, last)):
        capsys.readouterr()
        assert run_command(host_run.main, [str(file), "--data", data, "--limit", "50", "--verify", "--json"]) == 0
        captured = capsys.readouterr()
        assert ("channels last" in captured.err) == (data == last)
        found.append({key: value for key, value in json.loads(captured.out).items() if key != "seconds"})
    assert found[0] == found[1] == found[2] and found[0]["test_error"] <= 20
    transposed = saved(tmp_path, images.transpose(0, 2, 1, 3), labels, "other.npz")
    assert run_command(host_run.main, [str(image), "--data", transposed, "--limit", "50"]) == 2
    assert "8 x 3 x 8 values, but the network takes 3 x 8 x 8" in capsys.readouterr().err


def test_an_image_of_twenty_inputs_refuses_mnist(tmp_path, capsys):
    image = tmp_path / "model.img"
    image.write_bytes(image_file(pack(random_network(np.random.default_rng(5), PRESETS["tiny"], [20, 8, 3], 0.4),
                                      PRESETS["tiny"])))
    assert read_image(image).input_shape == (20,)
    assert run_command(host_run.main, [str(image), "--data", "mnist", "--limit", "4"]) == 2
    assert "dataset 'mnist' has 784 values for each image, the network needs 20" in capsys.readouterr().err


def test_the_image_tells_the_axes_of_the_data_where_the_model_does_not(tmp_path):
    torch.save(nn.Sequential(nn.Linear(12, 3)).state_dict(), tmp_path / "model.pt")
    np.save(tmp_path / "inputs.npy", np.random.default_rng(0).integers(0, 256, (9, 4, 3), np.uint8))
    assert compiled(tmp_path, "--calib", f"npy:{tmp_path}/inputs.npy") == 0
    assert read_image(tmp_path / "out/model.img").input_shape == (4, 3)


def test_only_the_host_part_tells_the_shape():
    """The shape lies behind the engine's part, and an image without it is still read."""
    network = random_network(np.random.default_rng(5), SMALL, [12, 8, 3], 0.4)
    content = image_file(pack(network, SMALL))
    engine = parse_image(content).engine
    assert content[len(engine):].startswith(HOST_MAGIC) and b'"input_shape":[12]' in content[len(engine):]
    older = parse_image(rebuilt(content, lambda fields: fields.pop("input_shape")))
    assert older.engine == engine and older.input_shape is None and older.inputs <= 12


def test_training_and_sensitivity_compare_axes_as_well(tmp_path, convolution, capsys):
    images = np.zeros((20, 14, 56), np.uint8)
    data = saved(tmp_path, np.concatenate([images] * 11), np.zeros(220, np.int64))
    wanted = "has inputs of 14 x 56 values, but the network takes 1 x 28 x 28"
    for main, arguments in ((train.main, ["lenet-5", "--data", data, "-o", str(tmp_path / "a.pt")]),
                            (train.main, ["lenet-300-100", "--data", data, "-o", str(tmp_path / "a.pt")])):
        assert run_command(main, arguments) == 2
        assert wanted in capsys.readouterr().err
    model, images, labels = convolution
    torch.save(model, tmp_path / "model.pt")
    last = saved(tmp_path, images.transpose(0, 2, 3, 1), labels, "last.npz")
    scan = partial(sensitivity.main, [str(tmp_path / "model.pt"), "--data", last, "--densities", "0.5", "-o",
                                      str(tmp_path / "scan"), "--json"])
    assert run_command(lambda _: scan()) == 0
    captured = capsys.readouterr()
    assert "note: dataset" in captured.err and json.loads(captured.out)["dense_error"] == 0


def test_a_dataset_is_fitted_as_a_whole():
    mnist = load_dataset("mnist")
    assert mnist.fitted(None) is mnist
    fitted = mnist.fitted((1, 28, 28))
    assert fitted.train_images is mnist.train_images and fitted.notes == ()
    images = np.arange(48, dtype=np.float32).reshape(2, 2, 4, 3)
    moved = Dataset("d", images, np.zeros(2, np.int64), images + 1, np.zeros(2, np.int64)).fitted((3, 2, 4))
    assert moved.train_images.shape == moved.test_images.shape == (2, 3, 2, 4) and len(moved.notes) == 1
    assert np.array_equal(moved.test_images, moved.train_images + 1)
    flat = Dataset("d", images, np.zeros(2, np.int64), images + 1, np.zeros(2, np.int64)).fitted(None)
    assert flat.train_images is images
    note, = flat.notes
    assert note.startswith("dataset 'd' has inputs of 2 x 4 x 3 values, and the model file does not tell axes")


@pytest.mark.parametrize("route", ["calib", "data"])
def test_images_of_three_axes_for_a_network_that_flattens_them_are_announced(tmp_path, capsys, route):
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), tmp_path / "model.pt")
    images = np.random.default_rng(1).random((20, 4, 4, 3), np.float32)
    np.savez(tmp_path / "d.npz", train_images=images, train_labels=np.arange(20) % 5, test_images=images,
             test_labels=np.arange(20) % 5)
    given = ["--data", f"npz:{tmp_path / 'd.npz'}"] if route == "data" else ["--calib", f"npz:{tmp_path / 'd.npz'}"]
    assert run_command(host_compile.main, [str(tmp_path / "model.pt"), "--no-prune", "--share-epochs", "0", *given,
                                           "--preset", "tiny", "-o", str(tmp_path / "out")]) == 0
    assert "has inputs of 4 x 4 x 3 values, and the model file does not tell axes: they are taken in row-major order" \
        in capsys.readouterr().err
