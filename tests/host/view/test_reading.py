# SPDX-License-Identifier: Apache-2.0
"""Recordings: what was written is read, and what is none is refused."""

import copy
import json
import os

import numpy as np
import pytest

from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.device.pe_trace import STATES
from host.image.image import read_image
from host.quantization.golden_model import forward
from host.quantization.integer_network import quantize_inputs
from host.view import __main__ as host_view
from host.view.reading import read_recording
from nonzero.errors import run_command
from tests.support.networks import SMALL
from tests.support.run_page import SUMS


def test_a_recording_agrees_with_counters_and_cycle_model(place, recorded):
    decoded = decode(read_image(place / "m.img", SMALL), SMALL)
    with np.load(place / "data.npz") as data:
        acts = quantize_inputs(decoded.network, data["x_test"][:3])
    golden = forward(decoded.network, acts)
    prediction = predict(decoded, acts, golden)
    assert len(recorded["images"]) == 3
    for number, image in enumerate(recorded["images"]):
        counters = {name: int(values[number]) for name, values in prediction.counters.items()}
        assert image["counters"] == counters and image["predicted_cycles"] == counters["cycles"]
        assert {name: sum(image["series"][name]) for name in SUMS} == {name: counters[SUMS[name]] for name in SUMS}
        assert sum(image["spent"]["busy"]) == counters["useful_macs"]
        spent = np.array([image["spent"][state] for state in STATES]).reshape(len(STATES), -1, SMALL.pes)
        assert (spent.sum(axis=0) == np.array(image["series"]["cycles"])[:, None]).all()
        layers = np.array(recorded["passes"])[image["series"]["passes"]]
        busy = spent[STATES.index("busy")].sum(axis=1)
        assert [int(busy[layers == layer].sum()) for layer in range(3)] == prediction.useful_macs[number].tolist()
        inputs = [acts, *golden[:-1]]
        assert image["active"] == [int((values[number] != 0).sum()) for values in inputs]
        assert (image["number"], image["label"]) == (number, number)


def test_what_is_read_is_what_was_written(place, recorded):
    read = read_recording(place / "run.json")
    assert read == {name: value for name, value in recorded.items() if name not in ("format", "version")}


def break_(recording, *path, value):
    *parents, last = path
    for key in parents:
        recording = recording[key]
    if value is ...:
        del recording[last]
    else:
        recording[last] = value


BROKEN = [
    (("version",), 2, "must be of version 1, not 2; record the run again"),
    (("pes",), 1 << 70, "pes must be an integer from 2 to 256, not 1180591620717411303424"),
    (("pes",), True, "pes must be an integer from 2 to 256, not True"),
    (("tool",), ..., "tool is missing"),
    (("tool",), "x" * 1001, "tool must be a text of at most 1000 characters, not '"),
    (("queue_limit",), 17, "queue_limit must be an integer from 1 to 16, not 17"),
    (("layers",), [], "layers must be a list of 1 to 1000, not 0 entries"),
    (("layers",), {}, "layers must be a list of 1 to 1000, not a dict"),
    (("layers", 1), 3, "layers[1].inputs is missing"),
    (("layers", 1, "weights_total"), 0, "layers[1].weights_total must be an integer from 1 to "),
    (("layers", 1, "weights_kept"), 1 << 40, "layers[1].weights_kept must be at most weights_total, 600"),
    (("passes", 0), 3, "passes must be a list of"),
    (("passes", 0), 2, "passes must name the layers in their order"),
    (("images",), None, "images must be a list of 1 to 20, not None"),
    (("images", 0), [], "images[0].counters is missing"),
    (("images", 0, "label"), -1, "images[0].label must be an integer from 0 to"),
    (("images", 0, "active"), [1, 2], "images[0].active must be a list of 3 integers"),
    (("images", 0, "series"), ..., "images[0].series is missing"),
    (("images", 0, "series", "cycles"), [], "images[0].series.cycles must be a list of 1 to 131072 integers"),
    (("images", 0, "series", "cycles", 0), 1 << 52, "images[0].series.cycles must sum up to its counter"),
    (("images", 0, "series", "cycles", 0), 0, "must have no bin of 0 cycles"),
    (("images", 0, "series", "passes", 0), 1, "images[0].series.passes must not go back"),
    (("images", 0, "series", "drains", 0), 9, "images[0].series.drains must sum up to its counter"),
    (("images", 0, "series", "stalls", 0), 0.5, "images[0].series.stalls must be a list of"),
    (("images", 0, "spent", "busy", 3), "1", "images[0].spent.busy must be a list of"),
    (("images", 0, "spent", "ended"), ..., "images[0].spent.ended is missing"),
    (("images", 0, "spent", "waiting", 0), 0, "images[0].spent must sum up to the cycles of each bin, for each PE"),
    (("images", 0, "level_max", 0), 17, "images[0].level_max must be a list of"),
    (("images", 0, "level_sum", 0), 5, "images[0].level_sum must be at most level_max times the cycles of a bin"),
    (("images", 0, "counters", "useful_macs"), 1, "images[0].spent.busy must sum up to its counter, 1, not "),
]


@pytest.mark.parametrize("path, value, answer", BROKEN)
def test_broken_recordings_are_refused(tmp_path, capsys, recorded, path, value, answer):
    recording = copy.deepcopy(recorded)
    break_(recording, *path, value=value)
    (tmp_path / "run.json").write_text(json.dumps(recording))
    refused(tmp_path, capsys, answer)


def refused(directory, capsys, *answers, name="run.json"):
    assert run_command(host_view.main, [str(directory / name), "-o", str(directory / "page.html")]) == 2
    told = capsys.readouterr()
    assert told.out == "" and not (directory / "page.html").exists()
    lines = told.err.splitlines()
    assert len(lines) >= len(answers) > 0
    for line, answer in zip(lines, answers, strict=False):
        assert line.startswith("error: recording '") and answer in line
    return lines


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", "nonsense", "[" * 100_000, '{"format": NaN}', "\xff",
                                     '{"format": "nonzero run", "version": ' + "9" * 5000 + "}"])
def test_files_that_are_no_recordings_are_refused(tmp_path, capsys, content):
    (tmp_path / "run.json").write_text(content, encoding="latin-1")
    assert len(refused(tmp_path, capsys, "is none; record one with python -m host.run ... --trace FILE.json")) == 1


def test_files_that_cannot_be_read_are_named(tmp_path, capsys):
    (tmp_path / "directory").mkdir()
    refused(tmp_path, capsys, "must be a file, but is a directory or a device", name="directory")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path, capsys, "must be a file, but is a directory or a device", name="pipe")
    with (tmp_path / "large").open("w") as file:
        file.truncate((1 << 26) + 1)
    refused(tmp_path, capsys, "must have at most 67108864 bytes, not 67108865", name="large")
    assert run_command(host_view.main, [str(tmp_path / "nosuch")]) == 2
    assert "nosuch': No such file" in capsys.readouterr().err


def test_all_problems_are_told_at_once(tmp_path, capsys, recorded):
    recording = copy.deepcopy(recorded)
    recording |= {"pes": 0, "tool": 3, "layers": [{}] * 10}
    (tmp_path / "run.json").write_text(json.dumps(recording))
    lines = refused(tmp_path, capsys, "tool must be a text", "pes must be", "layers[0].inputs is missing")
    assert len(lines) == 21 and lines[-1].endswith(" more problems")
    (tmp_path / "file").touch()
    assert run_command(host_view.main, [str(tmp_path / "file"), "-o", str(tmp_path / "file" / "page.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
