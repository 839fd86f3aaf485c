# SPDX-License-Identifier: Apache-2.0
"""Shifts and flips of training images: which pixels come where, how often, and who gets them."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from host import compile as host_compile
from host.compression.share_weights import ShareSettings, share_weights
from host.datasets import Dataset, load_dataset
from host.importers.load_network import load_network
from host.train import TrainSettings, main, train
from host.training.augment import Augmenter, Shifter, augmenter, image_plane
from host.training.checkpoint import Checkpoint
from host.training.samples import Samples
from nonzero.errors import UserError, run_command
from rtl.config import PRESETS
from tests.support import cifar10_files as cifar

GENERATOR = torch.Generator()
IMAGE = torch.arange(1.0, 2 * 3 * 4 + 1).reshape(2, 3, 4)
"""Two channels of three rows and four columns, no two values alike."""


def moved(image, down, right, flip):
    """The image, flipped and then moved down and to the right, with zeros where nothing is left; by loops."""
    channels, height, width = image.shape
    found = torch.zeros_like(image)
    for channel, row, column in itertools.product(range(channels), range(height), range(width)):
        source_row, source = row - down, column - right
        if 0 <= source_row < height and 0 <= source < width:
            found[channel, row, column] = image[channel, source_row, width - 1 - source if flip else source]
    return found


def key(image):
    return tuple(image.flatten().tolist())


@pytest.mark.parametrize("flip", [False, True])
def test_every_shift_and_flip_comes_as_often(flip):
    shifter = Shifter(2, 3, 4, 3.0, flip=flip)
    assert shifter.reach == (1, 2)  # 3 / 8 of 3 rows and of 4 columns, rounded
    found = Counter(map(key, shifter(IMAGE.expand(9000, 2, 3, 4).flatten(1), GENERATOR.manual_seed(1))))
    wanted = {key(moved(IMAGE, down, right, flipped)) for down in (-1, 0, 1) for right in (-2, -1, 0, 1, 2)
              for flipped in {False, flip}}
    assert len(wanted) == 15 * (1 + flip) and found.keys() == wanted
    mean = 9000 / len(wanted)
    assert all(abs(count - mean) < 5 * mean ** 0.5 for count in found.values())


def test_images_of_a_batch_are_moved_each_by_itself():
    images = torch.rand(40, 3, 5, 5, generator=GENERATOR.manual_seed(0))
    found = Shifter(3, 5, 5, 2.0, flip=True)(images.flatten(1), GENERATOR.manual_seed(2)).reshape(images.shape)
    ways = [(down, right, flip) for down in (-1, 0, 1) for right in (-1, 0, 1) for flip in (False, True)]
    taken = [next(way for way in ways if torch.equal(moved(image, *way), after))
             for image, after in zip(images, found, strict=True)]
    assert len(set(taken)) > 10


def test_the_greatest_shift_is_four_pixels_of_cifar10_times_the_strength():
    assert [Shifter(3, 32, 32, strength, flip=True).reach for strength in (1.0, 0.7, 0.3, 0.1)] == [
        (4, 4), (3, 3), (1, 1), (0, 0)]


def test_a_part_is_moved_as_in_the_whole():
    images = torch.rand(7, 48)
    whole, odd, end = (Shifter(3, 4, 4, 2.0, flip=True)(images, GENERATOR.manual_seed(0), part)
                       for part in (slice(None), slice(1, None, 2), slice(5, 7)))
    state = GENERATOR.get_state()
    assert torch.equal(whole[1::2], odd) and torch.equal(whole[5:], end)
    Shifter(3, 4, 4, 2.0, flip=True)(images, GENERATOR.manual_seed(0))
    assert torch.equal(state, GENERATOR.get_state())


def test_only_the_values_that_are_wanted_are_made():
    images, shifter, places = torch.rand(5, 48), Shifter(3, 4, 4, 2.0, flip=True), torch.tensor([47, 3, 3, 16])
    whole = shifter(images, GENERATOR.manual_seed(0))
    shifter.want(places)
    assert torch.equal(shifter(images, GENERATOR.manual_seed(0)), whole[:, places])
    shifter.want(None)
    assert torch.equal(shifter(images, GENERATOR.manual_seed(0)), whole)


@pytest.mark.parametrize(("shape", "augmentation", "wanted"), [
    ((8, 8), "deform", (8, 8)), ((1, 8, 8), "deform", (8, 8)), ((3, 8, 8), "deform", None), ((64,), "deform", None),
    ((8, 6), "shift", (1, 8, 6)), ((1, 8, 6), "shift", (1, 8, 6)), ((3, 8, 6), "shift-flip", (3, 8, 6)),
    # Channels last, one row, flat, too many axes.
    ((8, 6, 3), "shift", None), ((8, 6, 1), "shift", None), ((1, 1, 64), "shift", None), ((64,), "shift", None),
    ((1, 3, 8, 6), "shift", None),
])
def test_the_axes_decide_what_can_be_augmented(shape, augmentation, wanted):
    found = augmenter(np.zeros((4, *shape)), augmentation, 1.0)
    if wanted is None:
        assert found is None
    elif augmentation == "deform":
        assert type(found) is Augmenter and (found.height, found.width) == wanted
    else:
        assert type(found) is Shifter and found.shape == wanted and found.flip == (augmentation == "shift-flip")
    assert augmenter(np.zeros((4, *shape)), augmentation, 0.0) is None


def test_another_word_is_refused():
    with pytest.raises(UserError, match="augmentation must be one of deform, shift, shift-flip, not 'flip'"):
        augmenter(np.zeros((4, 8, 8)), "flip", 1.0)


@pytest.fixture
def colours(tmp_path):
    """What ``--data`` calls CIFAR-10 of few images."""
    return cifar.write_directory(tmp_path / "cifar", cifar.binary_files())


def test_bytes_are_moved_as_floats_and_keep_their_labels(colours):
    data = load_dataset(colours)
    assert data.augmentation == "shift-flip" and load_dataset("mnist").augmentation == "deform"
    samples = Samples(data.train_images, data.train_labels, augment=1.0, augmentation=data.augmentation)
    assert isinstance(samples.augmenter, Shifter) and samples.augmenter.reach == (4, 4)
    ways = list(itertools.product(range(-4, 5), range(-4, 5), (False, True)))
    ((inputs, labels),) = samples.batches(12, GENERATOR.manual_seed(3))
    assert sorted(labels.tolist()) == sorted(data.train_labels.tolist())
    for image, label in zip(inputs[:3].reshape(-1, 3, 32, 32), labels, strict=False):
        originals = torch.from_numpy(data.train_images[data.train_labels == label.item()]).float() / 255
        corner = image[:, 15:17, 15:17]
        assert any(torch.equal(moved(original, *way), image) for original in originals for way in ways
                   if torch.equal(corner, shifted_corner(original, *way)))


def shifted_corner(image, down, right, flip):
    """Four pixels of the middle, which tell most shifts apart at once."""
    image = image.flip(2) if flip else image
    return image[:, 15 - down:17 - down, 15 - right:17 - right]


def test_retraining_takes_the_datasets_way(tmp_path, monkeypatch):
    """Pruning and weight sharing: the same network and data, by the augmentation of the data."""
    model = nn.Sequential(nn.Linear(48, 6), nn.ReLU(), nn.Linear(6, 3))
    torch.save(model.state_dict(), tmp_path / "m.pt")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 3, 4, 4), np.uint8), rng.integers(0, 3, 40)
    data, made = Dataset("d", images, labels, images, labels), []

    class Watched(Shifter):
        def __init__(self, *arguments, **flip):
            super().__init__(*arguments, **flip)
            made.append((self.shape, self.flip, self.reach))
    monkeypatch.setattr("host.training.augment.Shifter", Watched)
    network, settings = load_network(tmp_path / "m.pt"), ShareSettings(epochs=1, batch=10, augment=1.0)
    shared = {way: share_weights(network, PRESETS["tiny"], replace(data, augmentation=way), settings)
              for way in ("deform", "shift", "shift-flip")}
    assert made == [((3, 4, 4), False, (0, 0)), ((3, 4, 4), True, (0, 0))]
    assert shared["deform"].losses != shared["shift-flip"].losses
    saved = Checkpoint(tmp_path / "c", network, data)
    saved.save({"epoch": 1})
    assert saved.load() == {"epoch": 1}
    assert Checkpoint(tmp_path / "c", network, replace(data, augmentation="shift")).load() is None
    np.savez(tmp_path / "d.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    (tmp_path / "short.toml").write_text("rounds = 1\nfinal_epochs = 1\naugment = 3\n")
    command = [str(tmp_path / "m.pt"), "--data", f"npz:{tmp_path / 'd.npz'}", "--preset", "tiny", "--density", "0.5",
               "--share-epochs", "0", "--recipe", str(tmp_path / "short.toml"), "-o", str(tmp_path / "out")]
    made.clear()
    assert run_command(host_compile.main, command) == 0 and made == []
    assert run_command(host_compile.main, [*command, "--augmentation", "shift"]) == 0
    assert made[-1] == ((3, 4, 4), False, (2, 2))


def test_what_cannot_be_augmented_is_refused_if_it_is_asked_for(tmp_path, capsys):
    images, labels = np.zeros((20, 784), np.uint8), [0, 1] * 10
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    spec = f"npz:{tmp_path / 'a.npz'}"
    torch.save(nn.Sequential(nn.Linear(784, 3)).state_dict(), tmp_path / "m.pt")
    told = (f"augmentation shifts images of height x width, or channels x height x width, but those of '{spec}' have "
            "the shape [784]; ")
    for command, arguments, way_out in (
            (main, ["lenet-300-100", "-o", str(tmp_path / "t.pt")], "use --no-augment"),
            (host_compile.main, [str(tmp_path / "m.pt"), "-o", str(tmp_path / "out")], "leave out --augmentation")):
        assert run_command(command, [*arguments, "--data", spec, "--augmentation", "shift"]) == 2
        assert f"error: {told}{way_out}\n" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["lenet-300-100", "-o", "t.pt", "--data", spec, "--augmentation", "flip"])
    assert "argument --augmentation: invalid choice: 'flip'" in capsys.readouterr().err


def test_training_by_shifts_is_the_same_every_time_and_another_checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 28, 28), np.uint8), rng.integers(0, 10, 60)
    data = Dataset("d", images, labels, images, labels)
    settings = TrainSettings("lenet-300-100", epochs=2, batch=20)
    found = {}
    for way in ("deform", "shift", "shift-flip"):
        (model, curve), (again, _) = (train(settings, replace(data, augmentation=way)) for _ in range(2))
        assert all(map(torch.equal, model.parameters(), again.parameters()))
        found[way] = [point["loss"] for point in curve]
    assert len(set(map(tuple, found.values()))) == 3
    checkpoint = tmp_path / "c"
    train(replace(settings, augment=False), replace(data, augmentation="shift"), checkpoint)
    with pytest.raises(UserError, match="is of another run, with augmentation shift instead of deform; delete it"):
        train(replace(settings, augment=False), data, checkpoint)


def test_augmentation_moves_images_a_little():
    square = torch.zeros(64, 28, 28)
    square[:, 9:19, 9:19] = 1
    generator = torch.Generator().manual_seed(0)
    moved = Augmenter(28, 28)(square.reshape(64, -1), generator).reshape(64, 28, 28)
    rows = torch.arange(28.0)
    centers = (moved.sum(2) * rows).sum(1) / moved.sum((1, 2))
    assert 0.5 < (centers - 13.5).std() < 2
    assert torch.all((moved.sum((1, 2)) > 50) & (moved.sum((1, 2)) < 200))
    assert moved.min() >= 0 and moved.max() <= 1 + 1e-6


def test_shapes_that_are_one_plane():
    shapes = {(4, 28, 30): (28, 30), (4, 1, 28, 30): (28, 30), (4, 28, 30, 1): (28, 30),
              (4, 3, 28, 30): None, (4, 784): None, (4, 1, 784): None}
    assert {shape: image_plane(np.zeros(shape)) for shape in shapes} == shapes
