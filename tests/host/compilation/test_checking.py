# SPDX-License-Identifier: Apache-2.0
"""``host.compile --check`` and ``--max-loss``: the line, the report, the exit status, and what they say to do."""

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import nn

from host.api import compile_module
from host.compilation.checking import check
from host.compile import MAX_LOSS, main
from host.decoding.decode import decode
from host.image.image import read_image
from host.importers.torch_archive import EXPORT
from host.quantization.golden_model import forward
from host.quantization.integer_network import quantize_inputs
from nonzero.errors import run_command
from rtl.config import PRESETS
from tests.support.reports import section, table

RNG = np.random.default_rng(6)
CENTRES = RNG.random((4, 20))
LABELS = RNG.integers(0, 4, 500)
IMAGES = (CENTRES[LABELS] + RNG.normal(0, 0.4, (500, 20))).astype(np.float32)
FILES = ["model.img", "report.html", "report.json"]


class Shifted(nn.Module):
    """A network that changes its inputs first, which no file of tensors tells."""

    def __init__(self, chain):
        super().__init__()
        self.chain = chain

    def forward(self, inputs):
        return self.chain((inputs - 2) / 0.5)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(100):
        loss = nn.functional.cross_entropy(model(torch.from_numpy(IMAGES[:400])), torch.from_numpy(LABELS[:400]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture
def place(tmp_path, trained, monkeypatch):
    """The network and its data as files, in the current directory."""
    monkeypatch.chdir(tmp_path)
    torch.save(trained.state_dict(), "m.pt")
    for name, module in (("m.pt2", trained), ("shifted.pt2", Shifted(trained).eval())):
        torch.export.save(torch.export.export(module, (torch.rand(1, 20),)), name)
    np.save("inputs.npy", IMAGES[:400])
    np.savez("data.npz", x_train=IMAGES[:400], y_train=LABELS[:400], x_test=IMAGES[400:], y_test=LABELS[400:])
    with torch.no_grad():
        np.savez("check.npz", inputs=IMAGES[400:], outputs=trained(torch.from_numpy(IMAGES[400:])).numpy())
    return tmp_path


def run(capsys, *arguments, model="m.pt", calib=("--calib", "npy:inputs.npy")):
    """Status, standard error and report of a compilation; the report is None if none was written."""
    status = run_command(main, [model, "--preset", "tiny", "--share-epochs", "0", "-o", "out", *calib, *arguments])
    captured = capsys.readouterr()
    try:
        with open("out/report.json") as file:
            report = json.load(file)
    except FileNotFoundError:
        report = None
    return status, captured.err, report


def engine_outputs(inputs, report):
    """What the image in the output directory computes, in floats."""
    network = decode(read_image(Path("out/model.img")), PRESETS["tiny"]).network
    return torch.from_numpy(forward(network, quantize_inputs(network, inputs)[:, :network.inputs])[-1]
                            * report["layers"][-1]["output_scale"])


def beside(engine, exact):
    """Agreement, and relative error."""
    return (float((engine.argmax(1) == exact.argmax(1)).double().mean()),
            float((engine - exact).norm() / exact.norm()))


@pytest.mark.parametrize("model, given, reference", [
    ("m.pt2", [], "the float network 'm', as it was read"),
    ("m.pt", ["--check", "m.pt2"], "the float network of 'm.pt2'"),
    ("m.pt", ["--check", "check.npz"], "the outputs in 'check.npz'"),
])
def test_the_result_is_compared_with_floats(place, trained, capsys, model, given, reference):
    status, said, report = run(capsys, "--no-prune", *given, model=model)
    inputs = IMAGES[400:] if "check.npz" in given else IMAGES[:400]
    with torch.no_grad():
        agreement, error = beside(engine_outputs(inputs, report), trained(torch.from_numpy(inputs)).double())
    found = report["check"]
    assert (status, found["reference"], found["inputs"]) == (0, reference, len(inputs))
    assert found["agreement"] == pytest.approx(agreement) and found["relative_error"] == pytest.approx(error, rel=1e-3)
    assert found["points"] == pytest.approx(100 * (1 - agreement)) and found["points"] <= MAX_LOSS
    step, layer = found["worst"]["step"], found["worst"]["layer"]
    (line,) = [line for line in said.splitlines() if line.startswith("check: ")]
    assert line == (
        f"check: the greatest output is the same on {100 * agreement:.2f} % of {len(inputs)} inputs, relative error "
        f"{100 * found['relative_error']:.2f} %, beside {reference}; {found['points']:.2f} points of agreement lost; "
        f"the worst step is {step}, " + (f"in layer '{layer}'" if layer else "of the inputs"))
    steps = ["reading the model file"] * bool(given) + ["weight sharing", "quantisation"]
    assert [step["name"] for step in found["steps"]] == steps
    assert [layer["name"] for layer in found["layers"]] == ["0", "2"]
    page = ElementTree.fromstring((place / "out/report.html").read_text())
    shown = table(section(page, "Beside floats"), "lost")
    assert [row[0] for row in shown[1:]] == steps and shown[0] == ["step", "points lost", "of", "change of the outputs"]
    titles, first, _ = table(page, "ratios")
    assert titles == ["layer", "signal to noise, dB: weight sharing", "signal to noise, dB: quantisation", "clipped"]
    assert first == ["0", *(f"{found['layers'][0]['snr_db'][name]:.1f}" for name in steps[-2:]),
                     f"{100 * found['layers'][0]['clipped']:.2f}%"]


def test_a_guess_that_was_wrong_is_no_success(place, capsys):
    status, said, report = run(capsys, "--no-prune", "--check", "shifted.pt2")
    points = report["check"]["points"]
    assert status == 3 and points > 10 and report["check"]["worst"] == {"step": "reading the model file", "layer": None}
    assert re.search(r"^note: the network, as it was read, does not compute the float network of 'shifted\.pt2': a "
                     r"relative error of \d+\.\d\d % before any step; compile 'shifted\.pt2' itself, which tells what "
                     r"forward\(\) does$", said, re.MULTILINE)
    costs = ", ".join(f"{step['name']} {round(step['points'], 2) + 0:.2f}" for step in report["check"]["steps"])
    assert said.splitlines()[-1] == (
        f"error: {points:.2f} points of agreement are lost, but --max-loss is 2: {costs}; the worst step is reading "
        "the model file; compile 'shifted.pt2' itself, which tells what forward() does, or accept it with --max-loss "
        f"{int(np.ceil(points))}. All files are written nevertheless, to 'out'")
    assert sorted(path.name for path in (place / "out").iterdir()) == FILES
    # Labels do not excuse it: the network as it was read may well classify.
    status, said, report = run(capsys, "--no-prune", "--check", "shifted.pt2", calib=("--data", "npz:data.npz"))
    lost = f"reading the model file {report['check']['steps'][0]['points']:.2f} of agreement, weight sharing"
    assert status == 3 and f" points of agreement and test error are lost, but --max-loss is 2: {lost}" in said
    arrays = dict(np.load("check.npz"))
    np.savez("check.npz", inputs=arrays["inputs"], outputs=arrays["outputs"][::-1])
    status, said, _ = run(capsys, "--no-prune", "--check", "check.npz")
    assert status == 3 and f"; save the model as .pt2, which tells what forward() does: {EXPORT}, or accept it" in said


def test_a_large_loss_ends_with_status_3_and_all_files(place, capsys):
    status, said, report = run(capsys, "--density", "0.1")
    points = report["check"]["points"]
    layer = report["check"]["worst"]["layer"]
    (ratios,) = [one for one in report["check"]["layers"] if one["name"] == layer]
    costs = ", ".join(f"{step['name']} {round(step['points'], 2) + 0:.2f}" for step in report["check"]["steps"])
    assert (status, report["check"]["worst"]["step"]) == (3, "pruning") and points > 2
    assert said.splitlines()[-1] == (
        f"error: {points:.2f} points of agreement are lost, but --max-loss is 2: {costs}; the worst step is pruning, "
        f"in layer '{layer}' (signal-to-noise ratio {ratios['snr_db']['pruning']:.1f} dB, "
        f"{100 * ratios['clipped']:.2f} % of its values clipped); give --data to retrain, or keep more with --density, "
        "or accept it with --max-loss "
        f"{int(np.ceil(points))}. All files are written nevertheless, to 'out'")
    assert sorted(path.name for path in (place / "out").iterdir()) == FILES
    image = (place / "out/model.img").read_bytes()
    # The limit itself is allowed.
    assert run(capsys, "--density", "0.1", "--max-loss", f"{points}")[0] == 0
    assert (place / "out/model.img").read_bytes() == image
    assert run(capsys, "--density", "0.1", "--max-loss", f"{points - 0.01}")[0] == 3
    assert run(capsys, "--density", "0.1", "--max-loss", "100")[0] == 0


def test_without_inputs_it_says_what_to_give(place, capsys):
    status, said, _ = run(capsys, "--density", "0.1", calib=())
    assert status == 3 and re.search(
        r"or accept it with --max-loss \d+; it was measured on uniform noise, which says little: give inputs with "
        r"--calib or --data\. All files", said)
    status, said, _ = run(capsys, "--density", "0.1", "--check", "check.npz", calib=())
    assert status == 3 and "measured on uniform noise" not in said
    status, said, _ = run(capsys, "--density", "0.1", "--check", "m.pt2", calib=())
    assert status == 3 and "measured on uniform noise" in said


def test_with_labels_points_of_test_error_count(place, capsys):
    with open("short.toml", "w") as file:
        file.write("rounds = 1\nfinal_epochs = 1\ncriterion = 'magnitude'\n")
    status, said, report = run(capsys, "--density", "0.05", "--recipe", "short.toml", calib=("--data", "npz:data.npz"))
    errors = [report[f"test_error_{form}"] for form in ("dense", "pruned", "shared", "engine")]
    assert status == 3 and report["check"]["points"] == pytest.approx(errors[3] - errors[0])
    assert [step["points"] for step in report["check"]["steps"]] == pytest.approx(list(np.diff(errors)))
    assert f"error: {errors[3] - errors[0]:.2f} points of test error are lost, but --max-loss is 2: pruning " in said
    assert "; keep more with --density, or retrain longer with another --recipe, or accept it with --max-loss" in said


def test_inputs_beyond_the_calibrated_range_are_told(place, capsys):
    arrays = dict(np.load("check.npz"))
    np.savez("check.npz", inputs=3 * arrays["inputs"], outputs=arrays["outputs"])
    _, said, _ = run(capsys, "--no-prune", "--check", "check.npz")
    assert re.search(r"note: \d+\.\d% of the inputs are clipped: the network was calibrated for inputs from", said)


def test_what_is_compared_is_the_image(trained):
    work = compile_module(trained, torch.rand(1, 20), config=PRESETS["tiny"], calibration=IMAGES[:400]).compilation
    first, last = work.decoded.network.layers
    assert work.check.agreement > 0.9
    spoilt = replace(work.decoded.network, layers=(first, replace(last, bias=last.bias[::-1].copy(),
                                                                  codes=last.codes[::-1].copy())))
    work.decoded = replace(work.decoded, network=spoilt)
    said = check(work)
    assert said.startswith(f"the greatest output is the same on {100 * work.check.agreement:.2f} % of 400 inputs")
    assert work.check.agreement < 0.1 and work.check.worst_layer == "2"


def test_many_inputs_are_compared_as_far_as_there_is_time(place, capsys, monkeypatch, trained):
    monkeypatch.setattr("host.compilation.checking.MOST_IMAGES", 12)
    *_, report = run(capsys, "--no-prune", "--check", "check.npz")
    taken = IMAGES[400:][np.linspace(0, 99, 12).astype(int)]
    with torch.no_grad():
        agreement, error = beside(engine_outputs(taken, report), trained(torch.from_numpy(taken)).double())
    assert report["check"]["inputs"] == 12 and report["check"]["agreement"] == pytest.approx(agreement)
    assert report["check"]["relative_error"] == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("given, message", [
    (["--check", "m.onnx"], "--check must name a .pt2 or an .npz file, not 'm.onnx'"),
    (["--check", "no.npz"], "check: npz file 'no.npz' cannot be read: No such file or directory"),
    (["--check", "no.pt2"], "no.pt2: there is no such file"),
    (["--max-loss", "-1"], "--max-loss must be 0 to 100, not -1.0"),
    (["--max-loss", "101"], "--max-loss must be 0 to 100, not 101.0"),
    (["--max-loss", "nan"], "--max-loss must be 0 to 100, not nan"),
])
def test_what_cannot_be_compared_is_refused_before_training(place, capsys, monkeypatch, given, message):
    monkeypatch.setattr("host.compilation.steps.prune", lambda *_: pytest.fail("trained"))
    status, said, report = run(capsys, *given)
    assert (status, report, said.splitlines()[-1]) == (2, None, f"error: {message}")
    assert not (place / "out").exists()
