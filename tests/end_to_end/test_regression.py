# SPDX-License-Identifier: Apache-2.0
"""A network whose outputs are values: retrained, compiled, reported and run by the mean squared error, R2 and AUC."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from host import compile as host_compile
from host import run as host_run
from host.api import compile_module, open_image
from host.compilation import steps
from host.compression.share_weights import ShareSettings, share_weights
from host.datasets import Dataset
from host.decoding.decode import decode
from host.image.image import read_image
from host.importers.load_network import load_network
from host.quantization.golden_model import forward
from host.quantization.integer_network import quantize_inputs
from host.quantization.losses import float_values, last_values
from host.train import main as train
from nonzero.errors import run_command
from rtl.config import PRESETS
from tests.support.images import perfect_batch

INPUTS = np.random.default_rng(0).normal(size=(700, 12)).astype(np.float32)
TARGETS = np.stack([INPUTS[:, 0] - 2 * INPUTS[:, 1], np.abs(INPUTS[:, 2]) + 4, 3 * np.maximum(INPUTS[:, 3], 0)], axis=1)
TRAIN, TEST = slice(0, 500), slice(500, None)
EIGHT = replace(PRESETS["default"], code_bits=8, direct_weights=True)


@pytest.fixture(scope="module")
def trained():
    """A network that has learned the targets."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(300):
        loss = nn.functional.mse_loss(model(torch.from_numpy(INPUTS[TRAIN])), torch.from_numpy(TARGETS[TRAIN]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@pytest.fixture
def place(tmp_path, trained):
    """The network and its data as files."""
    torch.save(trained.state_dict(), tmp_path / "m.pt")
    np.savez(tmp_path / "d.npz", x_train=INPUTS[TRAIN], train_targets=TARGETS[TRAIN], x_test=INPUTS[TEST],
             test_targets=TARGETS[TEST])
    (tmp_path / "short.toml").write_text("rounds = 3\nfinal_epochs = 6\nbatch = 50\n")
    return tmp_path


def compiled(place, *options, out="out"):
    """The report of a compilation to a small engine."""
    command = [str(place / "m.pt"), "--data", f"npz:{place / 'd.npz'}", "--preset", "tiny", "--recipe",
               str(place / "short.toml"), "-o", str(place / out), "--max-loss", "100", *options]
    assert run_command(host_compile.main, command) == 0
    return json.loads((place / out / "report.json").read_text())


def floats(integers, report):
    """Outputs as the report tells their scales and offsets, which may be lists."""
    last = report["layers"][-1]
    return integers * np.array(last["output_scale"]) + np.array(last["output_offset"])


def mse(outputs, targets=TARGETS[TEST]):
    return float(np.square(outputs - targets).mean())


def r2(outputs):
    wanted = TARGETS[TEST]
    return 1 - np.square(outputs - wanted).sum() / np.square(wanted - wanted.mean(axis=0)).sum()


def test_every_form_of_the_network_is_measured_by_its_values(place, trained, capsys):
    report = compiled(place, "--density", "0.5")
    said = capsys.readouterr()
    with torch.no_grad():
        dense = trained(torch.from_numpy(INPUTS[TEST])).numpy()
    assert report["metric"] == "mse" and report["test_error_dense"] == pytest.approx(mse(dense), rel=1e-5)
    assert report["test_metrics"]["dense"] == {"mse": report["test_error_dense"], "r2": pytest.approx(r2(dense))}
    network = decode(read_image(place / "out" / "model.img"), PRESETS["tiny"]).network
    integers = forward(network, quantize_inputs(network, INPUTS[TEST]))[-1]
    engine = floats(integers, report)
    assert report["test_metrics"]["engine"] == {"mse": pytest.approx(mse(engine)), "r2": pytest.approx(r2(engine))}
    assert report["test_error_engine"] == report["test_metrics"]["engine"]["mse"]
    assert [step["test_error"] for step in report["steps"]] == [
        *(report[f"test_error_{form}"] for form in ("dense", "pruned", "shared", "engine")), None, None, None]
    assert 0 < report["test_error_dense"] < report["test_error_engine"] < 0.3 < mse(TARGETS[TEST].mean(axis=0))
    assert report["test_metrics"]["engine"]["r2"] > 0.9
    assert f"load: 2 layers, 600 weights, test MSE {report['test_error_dense']:.4g}\n" in said.err
    assert re.search(rf"^test MSE: +{report['test_error_engine']:.4g} \(dense {report['test_error_dense']:.4g}, pruned "
                     rf"[\d.]+, shared [\d.]+\)$", said.out, re.MULTILINE)
    assert re.search(r"^test R2: +0\.9\d\d\d \(dense 0\.\d+, pruned 0\.\d+, shared 0\.\d+\)$", said.out, re.MULTILINE)
    page = (place / "out" / "report.html").read_text()
    assert "<th>test MSE</th>" in page and "<th>held-out MSE</th>" in page and "test MSE load: 0." in page
    assert "test error" not in page and "test error" not in said.out


def test_retraining_lowers_the_mean_squared_error(place):
    retrained = compiled(place, "--density", "0.3")
    history = retrained["prune_history"]
    assert history[-1]["losses"][-1] < history[0]["losses"][0]
    # The held-out error is the mean squared error of images that are like the test images.
    assert history[-1]["held_out_error"] == pytest.approx(retrained["test_error_pruned"], rel=0.7)
    assert run_command(host_compile.main, [str(place / "m.pt"), "--calib", f"npz:{place / 'd.npz'}", "--preset", "tiny",
                                           "--density", "0.3", "-o", str(place / "blind"), "--max-loss", "100"]) == 0
    blind = decode(read_image(place / "blind" / "model.img"), PRESETS["tiny"]).network
    report = json.loads((place / "blind" / "report.json").read_text())
    without = mse(floats(forward(blind, quantize_inputs(blind, INPUTS[TEST])[:, :blind.inputs])[-1], report))
    assert retrained["test_error_engine"] < 0.5 * without


def test_distillation_compares_values(place, trained):
    """With the dense network as the only teacher the targets do not matter; a single output has no chances."""
    last = nn.Linear(40, 1)
    last.load_state_dict({name: value[:1] for name, value in trained[2].state_dict().items()})
    torch.save(nn.Sequential(*trained[:2], last).state_dict(), place / "m.pt")
    losses = []
    for shift, distill in ((0, 1), (50, 1), (50, 0.5)):
        np.savez(place / "d.npz", x_train=INPUTS[TRAIN], train_targets=TARGETS[TRAIN, 0] + shift, x_test=INPUTS[TEST],
                 test_targets=TARGETS[TEST, 0])
        (place / "short.toml").write_text("rounds = 1\nfinal_epochs = 2\ncriterion = 'magnitude'\n"
                                          f"distill = {distill}\n")
        losses.append(compiled(place, "--share-epochs", "0")["prune_history"][-1]["losses"])
    assert losses[0] == losses[1] and min(losses[0]) > 0 and min(losses[2]) > 100 * max(losses[0])


def test_codebooks_are_tuned_by_the_mean_squared_error(place):
    rounded, after = (compiled(place, "--no-prune", "--share-bits", "2", "--share-epochs", epochs)
                      for epochs in ("0", "200"))
    centres = share_weights(load_network(place / "m.pt"), PRESETS["tiny"], None, ShareSettings(bits=2)).as_network()
    before = np.square(last_values(float_values(centres), INPUTS[TEST]) - TARGETS[TEST]).mean()
    assert after["test_error_shared"] < 0.8 * before
    assert after["test_error_shared"] < rounded["test_error_shared"] < before


def test_a_large_loss_is_told_in_shares_of_the_outputs(place):
    report = compiled(place, "--no-prune", "--share-bits", "2", "--share-epochs", "0")
    assert any(re.match(r"weight sharing costs \d+ % of the outputs' standard deviation", note)
               for note in report["notes"])
    assert not any("points of test error" in note or "right class" in note for note in report["notes"])


def test_no_output_is_clipped(place, monkeypatch):
    """The scale of the outputs is chosen, and spoken of, for their values, not for the greatest one to win."""
    seen = []
    wanted = {name: getattr(steps, name) for name in ("quantize", "output_notes")}
    for name in wanted:
        def watched(*arguments, classes, name=name):
            seen.append((name, classes))
            return wanted[name](*arguments, classes=classes)
        monkeypatch.setattr(steps, name, watched)
    compiled(place, "--no-prune")
    np.savez(place / "d.npz", x_train=INPUTS, y_train=np.arange(700) % 3, x_test=INPUTS, y_test=np.arange(700) % 3)
    compiled(place, "--no-prune")
    assert seen == [("quantize", False), ("output_notes", False), ("quantize", True), ("output_notes", True)]


def ran(place, capsys, *options):
    command = [str(place / "out" / "model.img"), "--data", f"npz:{place / 'd.npz'}", "--limit", "50", *options]
    status = run_command(host_run.main, command)
    return status, capsys.readouterr()


def test_a_run_compares_with_the_targets_by_the_scale_in_the_report(place, monkeypatch, capsys):
    monkeypatch.setattr("host.verification.measure.run_batch", perfect_batch)
    report = compiled(place)
    capsys.readouterr()
    network = decode(read_image(place / "out" / "model.img"), PRESETS["tiny"]).network
    outputs = forward(network, quantize_inputs(network, INPUTS[500:550])[:, :network.inputs])[-1]
    error = mse(floats(outputs, report), TARGETS[500:550])
    assert outputs.min() < 0  # the engine gives bits, of which some are signs
    status, said = ran(place, capsys, "--verify", "--json")
    figures = json.loads(said.out)
    assert status == 0 and figures["metric"] == "mse" and "accuracy" not in figures
    assert figures["test_error"] == figures["test_metrics"]["mse"] == pytest.approx(error)
    status, said = ran(place, capsys)
    assert re.search(rf"^test MSE on these images +{error:.4g}$", said.out, re.MULTILINE)
    assert re.search(rf"^test R2 on these images +{figures['test_metrics']['r2']:.4f}$", said.out, re.MULTILINE)
    (place / "out" / "report.json").unlink()    # the image tells the scales of these outputs as well
    status, said = ran(place, capsys, "--json")
    assert status == 0 and json.loads(said.out)["test_error"] == pytest.approx(error)


def calibrated(place, *options):
    """The report of a compilation that knows inputs, but no targets."""
    command = [str(place / "m.pt"), "--calib", f"npz:{place / 'd.npz'}", "--preset", "tiny", "--no-prune", "-o",
               str(place / "out"), "--max-loss", "100", *options]
    assert run_command(host_compile.main, command) == 0
    return json.loads((place / "out" / "report.json").read_text())


def test_outputs_that_are_known_to_be_values_have_scales_of_their_own(place, trained):
    network = compile_module(trained, torch.rand(1, 12), config=EIGHT, calibration=INPUTS[TRAIN], values=True)
    report = calibrated(place, "--outputs", "values")
    assert [len(report["layers"][-1][name]) for name in ("output_scale", "output_offset")] == [3, 3]
    assert sum("each output has a scale and an offset of its own" in note for note in report["notes"]) == 1
    with torch.no_grad():
        exact = trained(torch.from_numpy(INPUTS[TEST])).numpy()
    found = np.abs(network.golden(INPUTS[TEST]).floats - exact).mean(axis=0) / exact.std(axis=0)
    one = compile_module(trained, torch.rand(1, 12), config=EIGHT, calibration=INPUTS[TRAIN])
    alike = np.abs(one.golden(INPUTS[TEST]).floats - exact).mean(axis=0) / exact.std(axis=0)
    assert found.max() < 0.8 * alike.max() and isinstance(one.output_scale, float)
    network.save(place / "image.img")
    again = open_image(place / "image.img", EIGHT)
    assert np.array_equal(again.golden(INPUTS[TEST]).floats, network.golden(INPUTS[TEST]).floats)


def test_a_saved_network_gives_the_outputs_themselves(place):
    compiled(place, "--no-prune", "--share-epochs", "0", "--save", str(place / "saved.safetensors"))
    saved, before = (load_network(place / name) for name in ("saved.safetensors", "m.pt"))
    assert saved.layers[-1].output_scale is None
    values = [last_values(float_values(one), INPUTS[TEST]) for one in (saved, before)]
    assert np.square(values[0] - values[1]).mean() < 0.2 * values[1].var()


def test_a_run_without_scales_says_so(place, monkeypatch, capsys):
    monkeypatch.setattr("host.verification.measure.run_batch", perfect_batch)
    calibrated(place)
    (place / "out" / "report.json").unlink()
    capsys.readouterr()
    status, said = ran(place, capsys, "--json")
    figures = json.loads(said.out)
    assert status == 0 and figures["test_error"] is None and figures["test_metrics"] == {}
    assert "note: the outputs are not compared with the targets: only the compiler's report of this image" in said.err
    status, said = ran(place, capsys)
    assert status == 0 and "test" not in said.out
    np.savez(place / "d.npz", x_train=INPUTS, train_targets=INPUTS[:, :2], x_test=INPUTS, test_targets=INPUTS[:, :2])
    status, said = ran(place, capsys)
    assert status == 2 and "has 2 targets for each image, but the network has 3 outputs" in said.err


def test_data_with_another_number_of_targets_is_refused(place, capsys):
    np.savez(place / "d.npz", x_train=INPUTS, train_targets=INPUTS[:, :2], x_test=INPUTS, test_targets=INPUTS[:, :2])
    assert run_command(host_compile.main, [str(place / "m.pt"), "--data", f"npz:{place / 'd.npz'}", "-o",
                                           str(place / "out")]) == 2
    assert "has 2 targets for each image, but the network has 3 outputs; give a dataset with 2" not in (
        said := capsys.readouterr().err) and "give a dataset with 3 targets" in said


def scored():
    """One input of twelve is greater in what is to be found; the output is that input, as a score."""
    labels = np.random.default_rng(2).integers(0, 2, 400)
    inputs = np.random.default_rng(3).normal(size=(400, 12)).astype(np.float32)
    inputs[:, 5] += 2 * labels
    pairs = np.sign(inputs[labels == 1, 5][:, None] - inputs[labels == 0, 5])
    return inputs, labels, float((pairs + 1).mean() / 2)


def test_two_classes_have_an_area_under_the_curve(capsys):
    inputs, labels, area = scored()
    model = nn.Linear(12, 2)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[1, 5] = 1
        model.bias.copy_(torch.tensor([1.0, 0.0]))
    data = Dataset("two", inputs, labels, inputs, labels)
    work = compile_module(model, torch.rand(1, 12), data=data, config=PRESETS["tiny"]).compilation
    found = work.test_metrics["dense"]
    assert found["auc"] == pytest.approx(area) and 0.85 < area < 0.97
    assert found["error"] == pytest.approx(100 * ((inputs[:, 5] > 1) != labels).mean())
    assert work.test_metrics["engine"]["auc"] == pytest.approx(area, abs=0.01) and work.metric == "error"


def test_a_score_of_anomaly_has_an_area_under_the_curve():
    inputs, labels, area = scored()
    model = nn.Linear(12, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[0, 5] = 0.25
        model.bias.zero_()
    targets = labels[:, None].astype(np.float32)
    data = Dataset("score", inputs, targets, inputs, targets)
    work = compile_module(model, torch.rand(1, 12), data=data, config=PRESETS["tiny"]).compilation
    assert work.test_metrics["dense"] == {
        "mse": pytest.approx(mse(inputs[:, 5:6] / 4, targets), rel=1e-5), "auc": pytest.approx(area),
        "r2": pytest.approx(1 - np.square(inputs[:, 5:6] / 4 - targets).mean() / targets.var())}
    assert work.test_metrics["engine"]["auc"] == pytest.approx(area, abs=0.01)
    assert work.test_errors["engine"] == work.test_metrics["engine"]["mse"]


def test_a_network_of_the_zoo_still_learns_classes_alone(place, capsys):
    assert run_command(train, ["lenet-300-100", "--data", f"npz:{place / 'd.npz'}", "-o", str(place / "t.pt")]) == 2
    assert "a network of the zoo needs labels that are classes" in capsys.readouterr().err
