# SPDX-License-Identifier: Apache-2.0
"""Scales of inputs and outputs: what they clip, and the notes where they waste levels."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from host import compile as host_compile
from host.compilation.state import Settings
from host.compilation.steps import compile_model
from host.compression.shared_network import SharedLayer, SharedNetwork
from host.network.activations import sigmoid, tanh
from host.quantization import calibration
from host.quantization.calibration import dense_notes
from host.quantization.golden_model import forward
from host.quantization.integer_network import QuantizedNetwork, quantize_inputs
from host.quantization.quantize import quantize
from nonzero.errors import run_command
from rtl.config import PRESETS
from rtl.numbers import Activation

RANGES = np.array([100.0, 1, 1, 1])


def linear(weight, bias=None, activation=Activation.IDENTITY):
    """One layer, its weights in a codebook."""
    weight = np.asarray(weight, np.float64)
    values = np.zeros(16)
    distinct = np.unique(weight[weight != 0])
    values[1:1 + len(distinct)] = distinct
    codes = np.where(weight == 0, 0, 1 + np.searchsorted(distinct, weight)).astype(np.uint8)
    bias = np.zeros(len(weight)) if bias is None else np.asarray(bias, np.float64)
    return SharedNetwork("one", (SharedLayer("fc1", codes, values, bias, activation),))


def regressor(directory, scale=RANGES, seed=0):
    """A network whose outputs have these ranges, and its inputs."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))
    inputs = torch.rand(1000, 8) * 2 - 1
    with torch.no_grad():
        outputs = model(inputs)
        spread = torch.from_numpy(scale).float() / outputs.abs().max(dim=0).values
        model[2].weight *= spread[:, None]
        model[2].bias *= spread
        outputs = model(inputs).numpy()
    torch.save(model, directory / "model.pt")
    np.save(directory / "inputs.npy", inputs.numpy())
    return inputs.numpy(), outputs


def compiled(directory, **settings):
    return compile_model(Settings(directory / "model.pt", PRESETS["default"], prune=False,
                                  calib=f"npy:{directory / 'inputs.npy'}", **settings))


@pytest.mark.parametrize("seed", range(4))
def test_outputs_of_unequal_ranges_are_not_clipped(tmp_path, seed):
    """By the scale that fits classes, 70 % of output 0 were clipped at 0.3 of its range."""
    inputs, expected = regressor(tmp_path, seed=seed)
    work = compiled(tmp_path)
    last = work.quantized.layers[-1]
    outputs = forward(work.quantized, quantize_inputs(work.quantized, inputs))[-1]
    assert (np.abs(outputs) >= 127).mean(axis=0).max() <= 0.002 and work.clipped_outputs == {}
    explained = 1 - np.square(outputs[:, 0] * last.output_scale - expected[:, 0]).mean() / expected[:, 0].var()
    assert explained > 0.97
    assert any("output 0 spans" in note and " of the 4 outputs get at most " in note for note in work.notes)


def test_by_classes_the_scale_may_clip_and_the_share_is_right():
    """Outputs 1 and 2 are close, and output 0, which never wins, takes a hundred times their range."""
    images = np.random.default_rng(0).random((400, 3)).astype(np.float32)
    shared = linear(np.diag([-100.0, 1, 1]))
    for classes in (True, False):
        quantized = quantize(shared, PRESETS["default"], images, classes=classes)
        acts = quantize_inputs(quantized, images)
        outputs = forward(quantized, acts)
        exact = acts * quantized.input_scale @ np.diag([-100.0, 1, 1])
        shares = (exact < -128.5 * quantized.layers[0].output_scale).mean(axis=0)
        assert (shares[0] > 0.6) == classes and shares[0] in (0, pytest.approx(0.7, abs=0.1))
        clipped = calibration.clipped_outputs(quantized, acts, outputs)
        assert clipped == ({0: pytest.approx(shares[0])} if classes else {})
        notes = calibration.output_notes(quantized, outputs, clipped, classes=classes)
        said = (f"values of outputs 0 ({shares[0]:.1%}) are clipped: the last scale is chosen for the greatest output "
                "to be the right class; do not take the outputs for values")
        assert [note for note in notes if "are clipped" in note] == [said] * classes
        assert any(note.startswith("output 0 spans -") for note in notes) != classes


def test_labels_decide_how_the_last_scale_is_chosen(tmp_path, monkeypatch):
    regressor(tmp_path)
    inputs = np.load(tmp_path / "inputs.npy")
    labels = np.arange(len(inputs)) % 4
    np.savez(tmp_path / "data.npz", x_train=inputs, y_train=labels, x_test=inputs, y_test=labels)
    asked = []
    monkeypatch.setattr("host.compilation.steps.quantize", lambda *arguments, classes: (
        asked.append(classes), quantize(*arguments, classes=classes))[1])
    compiled(tmp_path)
    compiled(tmp_path, data=f"npz:{tmp_path / 'data.npz'}")
    assert asked == [False, True]


def test_float_labels_name_the_way_for_values(tmp_path, capsys):
    _, targets = regressor(tmp_path)
    inputs, labels = np.load(tmp_path / "inputs.npy"), np.linspace(0, 1, 1000, dtype=np.float32)
    np.savez(tmp_path / "data.npz", x_train=inputs, y_train=labels, x_test=inputs, y_test=labels)
    command = [str(tmp_path / "model.pt"), "-o", str(tmp_path / "out"), "--no-prune"]
    assert run_command(host_compile.main, [*command, "--data", f"npz:{tmp_path / 'data.npz'}"]) == 2
    error = capsys.readouterr().err
    assert ("train labels must be integers, not float32; if they are values that the outputs should have, call them "
            "train_targets and test_targets in an npz file, or give them as [n, values] from loaders") in error
    # The way that it names, and the one without labels.
    np.savez(tmp_path / "data.npz", x_train=inputs, train_targets=targets, x_test=inputs, test_targets=targets)
    for option in (["--data", f"npz:{tmp_path / 'data.npz'}", "--share-epochs", "0"],
                   ["--calib", f"npy:{tmp_path / 'inputs.npy'}"]):
        assert run_command(host_compile.main, [*command, *option, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["clipped_outputs"] == {}
        assert "not pruned: only its weights are shared and quantised" in report["notes"]


def test_one_value_that_sets_the_scale_of_the_inputs_is_noted(tmp_path):
    inputs, _ = regressor(tmp_path, np.ones(4))
    notes = compiled(tmp_path).notes
    assert notes and not any("levels" in note for note in notes)
    inputs[17, 5] = 1e4
    np.save(tmp_path / "inputs.npy", inputs)
    notes = compiled(tmp_path).notes
    assert ("99% of the inputs that are not 0 use 1 of 128 levels: the greatest, 1e+04 (input 5), sets the scale; take "
            "outliers out of the calibration data, or clip the inputs") in notes


def test_a_feature_of_another_range_is_noted(tmp_path):
    inputs, _ = regressor(tmp_path, np.ones(4))
    inputs = (inputs + 1) / 2
    inputs[:, 3] *= 2000
    np.save(tmp_path / "inputs.npy", inputs)
    notes = [note for note in compiled(tmp_path).notes if "levels" in note]
    assert len(notes) == 1 and notes[0].startswith("input 3 spans ")
    assert "and sets the scale of all: 7 of the 8 inputs get at most 0 of 255 levels (input " in notes[0]


def test_channels_of_other_ranges_are_noted():
    images = np.random.default_rng(0).random((50, 3, 4, 4)).astype(np.float32) * np.array([1, 500, 1])[:, None, None]
    images[:, 0] -= 0.5
    network = QuantizedNetwork("n", (), 500 / 127, True, 8)
    (note,) = calibration.input_notes(network, images.astype(np.float32), images)
    assert note.startswith("channel 1 spans 0.") and "2 of the 3 channels get at most 0 of 127 levels" in note


def test_few_inputs_that_are_seldom_lit_are_not_noted():
    """Floats like those of digits have some inputs that are dark in nearly all examples; bytes are never noted."""
    images = np.random.default_rng(0).random((200, 100)).astype(np.float32)
    images[:, :4] *= 0.01
    images[:, 50:] = 0
    network = QuantizedNetwork("n", (), float(images.max()) / 255, False, 8)
    assert calibration.input_notes(network, (images * 255).astype(np.uint8), images) == []
    images[:, 2:4] *= 50
    assert calibration.input_notes(network, images, images) == []
    images[:, 5:9] *= 0.01
    assert len(calibration.input_notes(network, images, images)) == 1


def test_a_layer_of_which_few_outputs_are_great_is_noted():
    rng = np.random.default_rng(0)
    images = rng.random((1000, 20)).astype(np.float32)
    hidden = SharedLayer("fc1", np.eye(20, dtype=np.uint8), np.array([0, 1.0] + [0] * 14), np.zeros(20),
                         Activation.RELU)
    network = SharedNetwork("n", (hidden, *linear(np.ones((2, 20))).layers))
    for outlier, count in ((1, 0), (40, 1)):
        images[0, 0] = outlier
        quantized = quantize(network, PRESETS["default"], images)
        notes = calibration.layer_notes(quantized, forward(quantized, quantize_inputs(quantized, images)))
        assert len(notes) == count and all(note.startswith("layer 'fc1': 99% of its outputs") for note in notes)


def test_without_data_negative_inputs_are_said_to_be_lost(tmp_path):
    regressor(tmp_path)
    work = compile_model(Settings(tmp_path / "model.pt", PRESETS["default"], prune=False))
    assert any(note.endswith("inputs are taken to be 0 to 1, and what is negative becomes 0") for note in work.notes)
    assert not any("levels" in note for note in work.notes)


def test_inputs_beyond_the_calibration_are_noted():
    network = QuantizedNetwork("n", (), 1 / 255, False, 8)
    inside = np.linspace(0, 1, 100, dtype=np.float32)[:, None]
    assert calibration.clipped_inputs(network, inside) == []
    assert calibration.clipped_inputs(network, (inside * 255).astype(np.uint8)) == []
    (note,) = calibration.clipped_inputs(network, inside * 2 - 1)
    assert note.startswith("50.0% of the inputs are clipped: the network was calibrated for inputs from 0 to 1, but "
                           "these go from -1 to 1; ")


@pytest.mark.parametrize("epochs, note", [
    (0, "not pruned: only its weights are shared and quantised"),
    (1, "not pruned, but its shared weights are fine-tuned for 1 epochs; --share-epochs 0 leaves them as shared"),
])
def test_what_happens_to_weights_that_are_not_pruned_is_told(tmp_path, capsys, epochs, note):
    regressor(tmp_path)
    inputs = np.load(tmp_path / "inputs.npy")
    labels = np.arange(len(inputs)).reshape(-1, 1) % 4
    np.savez(tmp_path / "data.npz", x_train=inputs, y_train=labels, x_test=inputs, y_test=labels)
    assert run_command(host_compile.main, [
        str(tmp_path / "model.pt"), "-o", str(tmp_path / "out"), "--no-prune", "--data", f"npz:{tmp_path / 'data.npz'}",
        "--share-epochs", str(epochs), "--json"]) == 0
    assert note in json.loads(capsys.readouterr().out)["notes"]


def test_functions_that_leave_no_zeros_are_named():
    layer = SharedLayer("a", np.ones((2, 2), np.uint8), np.array([0.0, 1.0]), np.zeros(2), sigmoid())
    layers = [layer, replace(layer, name="b", activation=tanh()), replace(layer, name="c", activation=Activation.RELU),
              replace(layer, name="last")]
    assert dense_notes(layers) == [
        ("layer 'a': its sigmoid makes 0.5 of 0, so that hardly any of its outputs is 0 and can be skipped; the layers "
         "that take them need more cycles")]
