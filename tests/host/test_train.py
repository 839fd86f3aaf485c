# SPDX-License-Identifier: Apache-2.0
"""Training: it learns, is the same every time, goes on after an interruption and refuses bad settings."""

import json

import numpy as np
import pytest
import torch

import host.train
from host.importers.load_network import load_network
from host.network.zoo import build, sizes
from host.train import main
from nonzero.errors import UserError, run_command


@pytest.fixture
def data(tmp_path):
    """600 images of three classes: a bright stripe in one third of the image."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 600)
    images = rng.integers(0, 60, (600, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 8 * label:8 + 8 * label] += 150
    np.savez(tmp_path / "stripes.npz", train_images=images[:500], train_labels=labels[:500],
             test_images=images[500:], test_labels=labels[500:])
    return f"npz:{tmp_path / 'stripes.npz'}"


CURVE_PICTURE = host.train.curve_picture


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """Drawing takes longer than training here; one test draws."""
    monkeypatch.setattr(host.train, "curve_picture", lambda curve, title: title.encode())


def run(data, output, *options):
    main(["lenet-300-100", "--data", data, "-o", str(output), "--batch", "50", "--epochs", "3", *options])
    return torch.load(output, weights_only=True)


def test_training_learns_and_writes_everything(data, tmp_path, capsys):
    stored = run(data, tmp_path / "model.pt")
    assert stored["network"] == "lenet-300-100" and stored["data"] == data
    build("lenet-300-100").load_state_dict(stored["state_dict"])
    assert load_network(tmp_path / "model.pt").assumptions == ()
    curve = json.loads((tmp_path / "model.curve.json").read_text())
    assert [point["epoch"] for point in curve] == [1, 2, 3]
    assert all(point["iterations"] == 458 // 50 and point["seconds"] > 0 for point in curve)
    assert curve[-1]["loss"] < curve[0]["loss"] and curve[-1]["held_out_error"] == 0
    assert (tmp_path / "model.curve.png").read_text() == f"lenet-300-100 on {data}"
    assert capsys.readouterr().out.startswith(
        f"{tmp_path / 'model.pt'}: lenet-300-100, test error 0.00% after 3 epochs, 27 iterations, ")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.curve.json", "model.curve.png", "model.pt", "stripes.npz"]


def test_the_learning_curve_is_drawn():
    curve = [{"epoch": epoch, "loss": 1 / epoch, "held_out_error": 2 - epoch} for epoch in (1, 2)]
    picture = CURVE_PICTURE(curve, "any")
    assert picture.startswith(b"\x89PNG") and picture != CURVE_PICTURE(curve[:1], "any")


def test_the_seed_decides_every_bit(data, tmp_path):
    run(data, tmp_path / "a.pt")
    run(data, tmp_path / "b.pt")
    run(data, tmp_path / "c.pt", "--seed", "1")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    assert (tmp_path / "a.pt").read_bytes() != (tmp_path / "c.pt").read_bytes()


def interrupt(data, output, monkeypatch, *options):
    """Runs until the second epoch is stored, as if killed then."""
    def write(path, state):
        write_state(path, state)
        if len(state.get("curve", [])) == 2:
            raise KeyboardInterrupt
    write_state = host.train.write_state
    with monkeypatch.context() as patch:
        patch.setattr(host.train, "write_state", write)
        with pytest.raises(KeyboardInterrupt):
            run(data, output, *options)
    assert not output.exists()


def test_training_goes_on_to_the_same_bits(data, tmp_path, monkeypatch):
    run(data, tmp_path / "a.pt")
    interrupt(data, tmp_path / "b.pt", monkeypatch)
    run(data, tmp_path / "b.pt", "--resume")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    one, other = (json.loads((tmp_path / f"{name}.curve.json").read_text()) for name in "ab")
    assert [point | {"seconds": 0} for point in one] == [point | {"seconds": 0} for point in other]


def test_a_checkpoint_of_another_run_is_refused(data, tmp_path, monkeypatch):
    interrupt(data, tmp_path / "b.pt", monkeypatch)
    with pytest.raises(UserError, match="with augment True instead of False, seed 0 instead of 4; "
                                        "delete it or use --fresh") as caught:
        run(data, tmp_path / "b.pt", "--seed", "4", "--no-augment")
    assert f"checkpoint '{tmp_path / 'b.pt'}.checkpoint'" in str(caught.value)
    stored = run(data, tmp_path / "b.pt", "--seed", "4", "--fresh")
    assert stored["settings"]["seed"] == 4


def test_a_checkpoint_of_other_data_is_refused(data, tmp_path, monkeypatch):
    interrupt(data, tmp_path / "b.pt", monkeypatch)
    with np.load(tmp_path / "stripes.npz") as file:
        np.savez(tmp_path / "other.npz", **{**file, "test_labels": file["test_labels"][::-1]})
    with pytest.raises(UserError, match="with other data; delete it or use --fresh"):
        run(f"npz:{tmp_path / 'other.npz'}", tmp_path / "b.pt")


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 nonsense"])
def test_a_damaged_checkpoint_is_refused(data, tmp_path, damage):
    (tmp_path / "b.pt.checkpoint").write_bytes(damage)
    with pytest.raises(UserError, match=r"cannot be read \(\w+\); delete it or use --fresh to start over"):
        run(data, tmp_path / "b.pt")


def test_nothing_to_resume_is_told(data, tmp_path):
    with pytest.raises(UserError, match=r"there is no checkpoint .* to resume from; leave out --resume"):
        run(data, tmp_path / "b.pt", "--resume")


def test_settings_out_of_range_are_all_named(data, tmp_path):
    wrong = ["--epochs", "0", "--batch", "501", "--learning-rate", "nan", "--seed", "-1"]
    with pytest.raises(UserError) as caught:
        run(data, tmp_path / "m.pt", *wrong)
    assert [problem.split(" must")[0] for problem in caught.value.problems] == [
        "epochs", "batch", "learning rate", "seed"]
    assert "batch must be 1 to 500" in str(caught.value)


def test_an_unknown_network_and_a_bad_output_are_named(data, tmp_path, capsys):
    assert run_command(main, ["lenet-6", "--data", data, "-o", str(tmp_path / "m.pt")]) == 2
    assert capsys.readouterr().err == ("error: network must be one of lenet-300-100, lenet-5, alexnet-grouped, "
                                       "alexnet, vgg-16, resnet-8, resnet-20, "
            "mobilenet-v1-0.25, ds-cnn, ds-cnn-1d, autoencoder, not 'lenet-6'\n")
    (tmp_path / "m.curve.png").mkdir()
    with pytest.raises(UserError, match=r"output '.*m\.curve\.png' must be a file, but is a directory or a device"):
        run(data, tmp_path / "m.pt")


def test_an_unknown_option_is_refused(data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(data, tmp_path / "m.pt", "--dropout", "0.5")
    assert "unrecognized arguments: --dropout 0.5" in capsys.readouterr().err


def test_data_that_does_not_fit_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((4, 5), np.float32), y_train=[0, 1, 2, 10],
             x_test=np.zeros((4, 5), np.float32), y_test=[0, 1, 2, 10])
    with pytest.raises(UserError) as caught:
        run(f"npz:{tmp_path / 'a.npz'}", tmp_path / "m.pt")
    assert "has 5 values for each image, but the network has 784 inputs" in caught.value.problems[0]
    assert "labels up to 10, but the network has only 10 outputs" in caught.value.problems[1]


def test_images_that_are_no_planes_are_refused(tmp_path):
    images = np.random.default_rng(0).uniform(size=(60, 784)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=[0, 1] * 30, x_test=images, y_test=[0, 1] * 30)
    spec = f"npz:{tmp_path / 'a.npz'}"
    assert run(spec, tmp_path / "m.pt")["settings"]["augment"] is False
    with pytest.raises(UserError, match=r"have the shape \[784\]; use --no-augment"):
        run(spec, tmp_path / "m.pt", "--augment")


def test_divergence_is_reported(tmp_path):
    images, labels = np.full((50, 28, 28), 3e38, np.float32), [0, 1] * 25
    np.savez(tmp_path / "huge.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(UserError, match=r"diverged in epoch 1; use a lower --learning-rate than 0\.003"):
        run(f"npz:{tmp_path / 'huge.npz'}", tmp_path / "m.pt")


def test_networks_of_the_zoo_compute_what_their_names_say():
    model = build("lenet-300-100")
    assert sizes(model) == (784, 10)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items() if "weight" in name}
    assert shapes == {"fc1.weight": (300, 784), "fc2.weight": (100, 300), "fc3.weight": (10, 100)}
    images = torch.rand(2, 1, 28, 28)
    hidden = torch.relu(model.fc2(torch.relu(model.fc1(images.reshape(2, 784)))))
    assert torch.equal(model(images), model.fc3(hidden))
