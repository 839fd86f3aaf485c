# SPDX-License-Identifier: Apache-2.0
"""The bench of conversions: a third of it, and that it would notice what it looks for."""

import json
import random
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from host.bench.__main__ import main
from host.bench.conversion_data import ROUTES, DataSubject
from host.bench.conversion_formats import OTHERWISE, save
from host.bench.conversion_refusals import EXPORTED, MODULES, ONNX, REFUSALS, WITH_GRAPH
from host.bench.conversion_subjects import Subject, draw
from host.bench.conversions import BAD, FORMS, SUBJECTS, conversions_table, figures, measure_conversions
from host.compilation import steps as compilation
from nonzero.errors import UserError, run_command
from rtl.numbers import Activation

SOME = random.Random(26).sample(SUBJECTS, len(SUBJECTS) // 8)
OFTEN = ("module", "state_dict", "safetensors", "pt2", "onnx")
"""Formats that most files have; the whole bench has more."""


@pytest.mark.parametrize("part", range(4))
def test_nothing_is_silently_wrong(part):
    found = measure_conversions(SOME[part::4], [*OFTEN, *ROUTES])
    assert len(found) >= 25
    assert not [one for one in found if one.outcome in BAD]
    refused = {name for names in REFUSALS.values() for name in names}
    assert not [one for one in found if one.outcome == "right" and one.network in refused and one.form in WITH_GRAPH]


def test_files_of_all_formats_are_converted_right():
    found = measure_conversions([named("relu"), named("image: convolution")])
    right = [(one.network, one.form) for one in found if one.outcome == "right"]
    graphs = ["module", "pt2", "pt2, any batch", "onnx", "onnx, any batch"]
    assert set(right) >= {(name, form) for name in ("relu", "image: convolution") for form in graphs}
    assert {one.form for one in found} == {*FORMS} - {*ROUTES}
    assert all(one.float_error < 1e-4 and one.engine_error < 0.1 for one in found if one.outcome == "right")


def test_there_are_many_kinds():
    assert len({subject.name for subject in SUBJECTS}) == len(SUBJECTS) >= 300
    assert sum(isinstance(subject, DataSubject) for subject in SUBJECTS) >= 100


def named(name):
    subject, = (one for one in SUBJECTS if one.name == name)
    return subject


def changed_loader(monkeypatch, change):
    """Lets the loader change every network that it reads."""
    load = compilation.load_network
    monkeypatch.setattr(compilation, "load_network", lambda *given, **options: change(load(*given, **options)))


def without_activation(network):
    first = replace(network.layers[0], activation=Activation.IDENTITY)
    return replace(network, layers=(first, *network.layers[1:]))


def outcome(name, form):
    one, = measure_conversions([named(name)], [form])
    return one


def test_an_activation_that_is_dropped_is_noticed(monkeypatch, tmp_path, capsys):
    changed_loader(monkeypatch, without_activation)
    arguments = ["conversions", "--network", "relu in place", "--format", "pt2", "-o", str(tmp_path)]
    assert run_command(main, arguments) == 2
    out, err = capsys.readouterr()
    assert "SILENT: relu in place, pt2: an error of" in out
    assert err.endswith("error: 1 of 1 files are silently converted wrong, 0 are refused although they run or for a "
                        "wrong reason, and 0 end in a traceback: see above\n")
    found = json.loads((tmp_path / "conversions.json").read_text())
    assert found["counts"]["SILENT"] == 1 and found["rows"][0]["float_error"] > 0.01


@pytest.mark.parametrize("note, wanted", [("a ReLU behind each layer is assumed", "announced"),
                                          ("eps = 1e-5 is assumed", "SILENT")])
def test_a_note_counts_if_it_names_what_is_wrong(monkeypatch, note, wanted):
    def change(network):
        return replace(without_activation(network), assumptions=(note,))
    changed_loader(monkeypatch, change)
    assert outcome("relu", "module").outcome == wanted


def test_every_expected_refusal_is_of_a_network_of_the_bench():
    names = {subject.name for subject in SUBJECTS}
    named = [name for table in (REFUSALS, MODULES, ONNX, EXPORTED) for listed in table.values() for name in listed]
    assert set(named) <= names and len({name for listed in REFUSALS.values() for name in listed}) == sum(
        map(len, REFUSALS.values()))


@pytest.mark.parametrize(("name", "said", "wanted"), [
    ("selu", "layer 'selu' is torch.ops.aten.selu.default, which the engine does not run; see", "refused"),
    ("selu", "layer 'selu' brings the program to 99 words", "UNEXPECTED"),
    ("relu", "layer 'relu' is torch.ops.aten.relu.default, which the engine does not run; see", "UNEXPECTED"),
])
def test_a_refusal_must_be_the_one_that_is_expected(monkeypatch, name, said, wanted):
    def refuse(network):
        raise UserError(said)
    monkeypatch.setattr(compilation, "load_network", lambda *given, **options: refuse(given))
    assert outcome(name, "pt2").outcome == wanted
    assert outcome(name, "state_dict").outcome == "refused"


def test_a_traceback_is_noticed(monkeypatch):
    changed_loader(monkeypatch, lambda network: network.layers[99])
    one = outcome("relu", "pt2")
    assert one.outcome == "TRACEBACK" and "IndexError" in one.said


def test_a_refusal_that_leaves_files_is_noticed(monkeypatch, tmp_path):
    def refuse(network):
        raise UserError("no")
    changed_loader(monkeypatch, refuse)
    assert outcome("relu", "pt2").outcome == "UNEXPECTED"
    load = compilation.load_network

    def leave(path, **options):
        (path.parent / "half.img").write_text("")
        return load(path, **options)
    monkeypatch.setattr(compilation, "load_network", leave)
    assert outcome("relu", "pt2").outcome == "SILENT"


def test_an_engine_that_loses_much_is_noticed(monkeypatch):
    quantize = compilation.quantize

    def coarse(*given, **options):
        network = quantize(*given, **options)
        last = network.layers[-1]
        return replace(network, layers=(*network.layers[:-1], replace(last, output_scale=2 * last.output_scale)))
    monkeypatch.setattr(compilation, "quantize", coarse)
    one = outcome("relu", "pt2")
    assert one.outcome == "lossy" and one.said.startswith("quantisation costs ")
    monkeypatch.setattr(compilation, "loss_notes", lambda *given, **options: [])
    one = outcome("relu", "pt2")
    assert one.outcome == "SILENT" and one.engine_error > 0.5 and one.float_error < 1e-4


def test_scrambled_data_is_noticed(monkeypatch):
    load = compilation.load_inputs
    monkeypatch.setattr(compilation, "load_inputs", lambda spec: load(spec)[..., ::-1].copy())
    one, = measure_conversions([named("data: image of 3 x 8 x 8, pt2: as it is")], ["--calib"])
    assert one.outcome == "SILENT"


def test_a_file_that_torch_writes_wrong_is_no_conversion(tmp_path):
    (name, forms), = OTHERWISE.items()
    subject, inputs = named(name), torch.rand(2, 2, 8, 8)
    module = draw(subject, 1)
    assert all(save(subject, module, form, inputs, tmp_path) is None for form in forms)
    path = save(replace(subject, name="other"), module, forms[0], inputs, tmp_path)
    wrong, = ReferenceEvaluator(str(path)).run(None, {onnx.load(path).graph.input[0].name: inputs[:1].numpy()})
    assert np.abs(wrong - module(inputs[:1]).detach().numpy()).max() > 0.1


def test_weights_are_drawn_alike_every_time():
    subject = Subject("two layers", lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    one, two, other = draw(subject, 1).state_dict(), draw(subject, 1).state_dict(), draw(subject, 2).state_dict()
    assert all(bool((one[key] == two[key]).all()) for key in one)
    assert any(bool((one[key] != other[key]).any()) for key in one)


def test_the_table_has_networks_formats_and_counts():
    found = figures(measure_conversions([named("relu")], ["module", "pt2"]), 1)
    table = conversions_table(found).splitlines()
    assert table[0].split() == ["network", "module", "pt2"] and table[1].split() == ["relu", "right", "right"]
    assert any(line.split()[:2] == ["right", "2"] for line in table)


def test_an_unknown_network_is_refused(tmp_path, capsys):
    assert run_command(main, ["conversions", "--network", "no such", "-o", str(tmp_path)]) == 2
    assert "--network must be part of a network's name" in capsys.readouterr().err
