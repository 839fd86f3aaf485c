# SPDX-License-Identifier: Apache-2.0
"""The compiler from a model file to an image, on a small problem; and everything that a user can get wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from host.compile import main
from host.decoding.decode import decode
from host.image.image import read_image
from host.quantization.golden_model import forward
from host.quantization.integer_network import quantize_inputs
from nonzero.errors import run_command
from rtl.config import PRESETS


@pytest.fixture
def problem(tmp_path):
    """Data of three classes that are easy to tell apart, and a model that has learned to."""
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 256, (3, 20))
    labels = rng.integers(0, 3, 600)
    images = np.clip(centres[labels] + rng.normal(0, 20, (600, 20)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "data.npz", train_images=images[:400], train_labels=labels[:400],
             test_images=images[400:], test_labels=labels[400:])
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(100):
        inputs = torch.from_numpy(images[:400] / np.float32(255))
        loss = torch.nn.functional.cross_entropy(model(inputs), torch.from_numpy(labels[:400]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    return tmp_path


def compile_here(directory, *arguments, out="out"):
    return run_command(main, [str(directory / "model.pt"), "-o", str(directory / out), *arguments])


def test_a_compilation_with_data_writes_everything(problem, capsys):
    data = f"npz:{problem / 'data.npz'}"
    assert compile_here(problem, "--data", data, "--density", "0.3", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((problem / "out/report.json").read_text())
    assert (problem / "out/report.html").read_text().startswith("<!DOCTYPE html>")
    # Neurons that pruning left without a connection take others with them.
    assert 0.2 < report["weights_kept"] / report["weights_total"] <= 0.31
    assert report["test_error_engine"] < 5
    assert [step["name"] for step in report["steps"]] \
        == ["load", "prune and retrain", "share", "quantize", "encode and pack", "verify", "check"]
    # The error that the report states is that of the image itself.
    image = read_image(problem / "out/model.img", PRESETS["default"])
    network = decode(image, PRESETS["default"]).network
    with np.load(problem / "data.npz") as arrays:
        outputs = forward(network, quantize_inputs(network, arrays["test_images"])[:, :network.inputs])[-1]
        error = 100 * (outputs.argmax(axis=1) != arrays["test_labels"]).mean()
    assert error == pytest.approx(report["test_error_engine"])


def test_the_seed_decides_the_image(problem):
    data = f"npz:{problem / 'data.npz'}"
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert compile_here(problem, "--data", data, "--seed", seed, out=out) == 0
    first, again, other = ((problem / out / "model.img").read_bytes() for out in "abc")
    assert first == again
    assert first != other


def test_a_sparse_model_is_packed_as_it_is(problem, capsys):
    state = torch.load(problem / "model.pt", weights_only=True)
    mask = torch.rand(30, 20) < 0.2
    state["0.weight"] *= mask
    torch.save(state, problem / "model.pt")
    assert compile_here(problem, "--no-prune", "--calib", f"npz:{problem / 'data.npz'}", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["layers"][0]["weights_kept"] <= int(mask.sum())
    assert report["layers"][1]["weights_kept"] >= 85
    assert report["test_error_engine"] is None


def test_what_was_saved_packs_into_the_same_image(problem, capsys):
    """Also where pruning took neurons out, which the file then lacks."""
    saved, data = problem / "saved.safetensors", ("--data", f"npz:{problem / 'data.npz'}")
    assert compile_here(problem, *data, "--density", "0.1", "--save", str(saved), out="first") == 0
    whole = torch.load(problem / "model.pt", weights_only=True)
    tensors = load_file(saved)
    assert tensors.keys() == whole.keys() and tensors["0.weight"].shape < whole["0.weight"].shape
    as_it_is = [str(saved), *data, "--no-prune", "--share-epochs", "0", "-o"]
    assert run_command(main, [*as_it_is, str(problem / "again")]) == 0
    assert (problem / "first/model.img").read_bytes() == (problem / "again/model.img").read_bytes()
    capsys.readouterr()
    assert run_command(main, [*as_it_is, str(problem / "more"), "--save", str(saved)]) == 2
    assert "--save must not name the model itself" in capsys.readouterr().err


def test_calibration_needs_no_labels(problem, capsys):
    with np.load(problem / "data.npz") as arrays:
        images = arrays["train_images"]
    np.save(problem / "bare.npy", images)
    np.savez(problem / "bare.npz", inputs=images)
    for out, spec in (("labelled", "npz:data.npz"), ("npy", "npy:bare.npy"), ("npz", "npz:bare.npz")):
        where = spec.replace(":", f":{problem}/")
        assert compile_here(problem, "--no-prune", "--calib", where, out=out) == 0
    first, *others = ((problem / out / "model.img").read_bytes() for out in ("labelled", "npy", "npz"))
    assert others == [first, first]
    assert "uniform noise" not in capsys.readouterr().out
    np.save(problem / "bare.npy", images[:, :19])
    assert compile_here(problem, "--no-prune", "--calib", f"npy:{problem / 'bare.npy'}") == 2
    assert "calibration inputs must have 20 values each, as layer '0', not 19" in capsys.readouterr().err


def test_without_data_it_prunes_in_one_shot_and_says_so(problem, capsys):
    assert compile_here(problem, "--density", "0.5", "--json", "--max-loss", "100") == 0
    assert "pruned in one shot" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, message", [
    (["--data", "mnist"], "784 values for each image, but the network has 20 inputs"),
    (["--save", "small.pt"], "--save must name a .safetensors file, not 'small.pt'"),
    (["--share-epochs", "-1"], "epochs of weight sharing must be 0 to 100000, not -1"),
    (["--density", "2"], "density must be above 0 and at most 1, not 2.0"),
    (["--keep", "nosuch=0.1"], "keep names a layer 'nosuch', but the network has"),
    (["--preset", "huge"], "preset must be one of tiny, up5k, small, default, medium, large, wide, conv, not 'huge'"),
    (["--config", "nosuch.toml"], "configuration 'nosuch.toml' cannot be read"),
    (["--data", "npz:nosuch.npz"], "nosuch.npz"),
    (["--data", "cifar"], "cifar"),
    (["--data", "npy:a.npy"],
     "dataset must be mnist, cifar10:PATH, idx:DIRECTORY, npz:FILE or PACKAGE.MODULE:FUNCTION, not 'npy:a.npy'"),
    (["--calib", "npy:nosuch.npy"], "npy file 'nosuch.npy' cannot be read: No such file or directory"),
    (["--calib", "a.npy"],
     "inputs must be mnist, cifar10:PATH, idx:DIRECTORY, idx:FILE, npz:FILE or npy:FILE, not 'a.npy'"),
])
def test_bad_arguments_are_refused(problem, capsys, arguments, message):
    assert compile_here(problem, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (problem / "out").exists()


def test_unknown_options_are_refused(problem):
    with pytest.raises(SystemExit) as caught:
        compile_here(problem, "--densty", "0.1")
    assert caught.value.code == 2


def test_missing_labels_are_named(problem, capsys):
    np.savez(problem / "data.npz", train_images=np.zeros((4, 20), np.uint8), test_images=np.zeros((4, 20), np.uint8))
    assert compile_here(problem, "--data", f"npz:{problem / 'data.npz'}") == 2
    assert "labels" in capsys.readouterr().err


def test_a_model_that_does_not_fit_says_what_would(problem, capsys):
    (problem / "small.toml").write_text('preset = "tiny"\nentry_depth = 32\nslice_depth = 4\n')
    assert compile_here(problem, "--no-prune", "--config", str(problem / "small.toml")) == 2
    error = capsys.readouterr().err
    assert "KiB of weight memory" in error and "lower --density to" in error and "slice memory" in error
    assert not (problem / "out").exists()


def test_weights_that_are_no_number_are_refused(problem, capsys):
    state = torch.load(problem / "model.pt", weights_only=True)
    state["0.weight"][0, 0] = float("nan")
    torch.save(state, problem / "model.pt")
    assert compile_here(problem, "--no-prune") == 2
    assert "'0'" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_leaves_nothing_half_done(problem, capsys):
    (problem / "out").write_text("a file is in the way")
    assert compile_here(problem, "--no-prune") == 2
    assert "cannot be written" in capsys.readouterr().err
    assert sorted(path.name for path in problem.iterdir()) == ["data.npz", "model.pt", "out"]


def test_the_help_has_examples():
    done = subprocess.run([sys.executable, "-m", "host.compile", "--help"], capture_output=True, text=True, check=True)
    assert "examples:" in done.stdout and "--density" in done.stdout
