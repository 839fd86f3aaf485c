# SPDX-License-Identifier: Apache-2.0
"""The study of compression methods as a command: every method, nothing measured twice, and what is refused."""

import json
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from host.datasets import load_dataset
from host.study import __main__ as study
from host.study.methods import METHODS, methods_for
from host.study.queue import Queue
from host.study.subject import QUICK_EPOCHS, Effort, Subject
from nonzero.errors import run_command


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with images of three classes, 28 x 28, and a quick study of them."""
    place = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 600)
    images = rng.integers(0, 60, (600, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 8 * label:8 + 8 * label] += 150
    np.savez(place / "data.npz", x_train=images[:500], y_train=labels[:500], x_test=images[500:], y_test=labels[500:])
    study.main(arguments(place))
    return place


def arguments(place):
    return ["--quick", "--seeds", "1", "--data", f"npz:{place / 'data.npz'}", "-o", str(place / "out")]


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}


def test_a_quick_study_has_every_method(place):
    found = json.loads((place / "out" / "study.json").read_text())
    jobs = [(method.name, setting) for method in METHODS.values() for setting in method.quick
            if not method.convolutions]
    assert [(row["method"], row["setting"]) for row in found["rows"]] == jobs
    for row in found["rows"]:
        assert row["parameters"] > 0 and 0 < row["kept"] <= 100 and row["bits"] > 0
        assert row["place"] == ("disk" if row["method"] in ("dense", "fastfood") else "chip")
        assert 0 <= row["test_error"] <= 100 and row["seeds"] == [0] and row["spread"] is None
        assert row["kept"] == pytest.approx(100 * row["setting"].get("kept", row["kept"] / 100), abs=0.3)
    dense = found["rows"][0]
    assert dense["kept"] == 100 and dense["bits"] == 32 * (266_200 + 410) and dense["seconds"] > 0
    for row in found["rows"]:
        layers = row["layers"].values()
        if row["method"] in ("one-shot", "iterative", "saliency", "paper"):
            assert [one["weights"] for one in layers] == [235_200, 30_000, 1_000]
            assert sum(one["kept"] for one in layers) >= row["parameters"] > 0
        else:
            assert not row["layers"] or row["method"] == "prune and share"
    assert list(found["weights"]) == ["fc1", "fc2", "fc3"]
    assert sum(found["weights"]["fc1"]["after"]) < 0.1 * sum(found["weights"]["fc1"]["before"])
    page = (place / "out" / "study.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.found.count("svg") == 5 and "script" not in tags.found
    assert tags.found.count("tr") == 2 + len(jobs) + 3 * 4


def test_a_quick_study_of_digits(tmp_path):
    digits = load_dataset("mnist")
    np.savez(tmp_path / "digits.npz", x_train=digits.train_images[:12_000], y_train=digits.train_labels[:12_000],
             x_test=digits.test_images[:2000], y_test=digits.test_labels[:2000])
    study.main(["--quick", "--seeds", "1", "--data", f"npz:{tmp_path / 'digits.npz'}", "-o", str(tmp_path / "out")])
    found = json.loads((tmp_path / "out" / "study.json").read_text())
    errors = {row["method"]: row["test_error"] for row in found["rows"]}
    assert set(errors) == {name for name, one in METHODS.items() if not one.convolutions}
    # Two epochs each: enough to see that every method learns, and that retraining repairs what a cut breaks.
    assert errors["dense"] < 17 and max(error for name, error in errors.items() if name != "cut") < 45
    assert errors["one-shot"] < 15 < errors["cut"]


def test_nothing_is_measured_twice(place, monkeypatch, capsys):
    before = json.loads((place / "out" / "study.json").read_text())
    monkeypatch.setattr(subprocess, "Popen", None)
    study.main([*arguments(place), "--json"])
    assert json.loads(capsys.readouterr().out) == before["rows"]
    study.main([*arguments(place), "--method", "cut"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[:-2]] == ["method", "dense", "cut, kept 0.2", "cut, kept 0.08"]


def test_an_earlier_study_is_taken_over(place, tmp_path, monkeypatch, capsys):
    known = place / "out" / "study.json"
    before = json.loads(known.read_text())
    monkeypatch.setattr(subprocess, "Popen", None)
    elsewhere = [*arguments(place)[:-1], str(tmp_path), "--known", str(known)]
    study.main([*elsewhere, "--json"])
    rows = json.loads(capsys.readouterr().out)
    after = json.loads((tmp_path / "study.json").read_text())
    assert after["measured"] == before["measured"] and len(before["measured"]) == len(rows) == 11
    assert after["rows"] == rows and rows[:len(before["rows"])] == before["rows"] and after["weights"] == {}
    study.main(elsewhere)  # what is there already is not added once more
    assert len(Queue(tmp_path, before["identity"]).study.trials) == len(rows)


@pytest.mark.parametrize(("change", "message"), [
    (lambda found: found.update(identity="lenet-5-0"), "is of another network, other data or other epochs"),
    (lambda found: found.pop("measured"), "must be a study.json of python -m host.study"),
    (lambda found: found["measured"][0].update(bits=-1), "must be a study.json of python -m host.study"),
    (lambda found: found["measured"][0].update(test_error="0"), "must be a study.json of python -m host.study"),
    (lambda found: found["measured"][0].update(place="here"), "must be a study.json of python -m host.study"),
    (lambda found: found["measured"][0].update(setting=3), "must be a study.json of python -m host.study"),
])
def test_a_bad_earlier_study_is_refused(place, tmp_path, capsys, change, message):
    found = json.loads((place / "out" / "study.json").read_text())
    change(found)
    (tmp_path / "known.json").write_text(json.dumps(found))
    assert run_command(study.main, [*arguments(place), "--known", str(tmp_path / "known.json")]) == 2
    assert message in capsys.readouterr().err
    assert run_command(study.main, [*arguments(place), "--known", str(tmp_path / "none.json")]) == 2
    assert "none.json' cannot be read: No such file" in capsys.readouterr().err


def test_a_file_that_is_no_study_is_refused(place, tmp_path, capsys):
    (tmp_path / "study.db").write_text("no database" * 100)
    assert run_command(study.main, [*arguments(place)[:-1], str(tmp_path)]) == 2
    assert f"study '{tmp_path / 'study.db'}' must be a file of Optuna" in capsys.readouterr().err


def test_without_optuna_the_way_out_is_told(monkeypatch, capsys):
    monkeypatch.setattr(study, "find_spec", lambda name: None)
    assert run_command(study.main, ["--seeds", "0"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0].endswith("run pip install 'nonzero[study]'") and told[1] == "error: --seeds must be 1 to 1000, not 0"


def test_a_worker_that_fails_is_reported(place, tmp_path, capsys):
    with np.load(place / "data.npz") as file:
        np.savez(tmp_path / "huge.npz", **{name: file[name].astype(np.float32) * 1e36 if name[0] == "x" else file[name]
                                           for name in file})
    assert run_command(study.main, ["--quick", "--seeds", "1", "--workers", "1", "--data",
                                    f"npz:{tmp_path / 'huge.npz'}", "-o", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "a worker ended with status 2; what is measured is kept" in told and "error: retraining diverged" in told


def test_every_method_works_on_convolutions(place, tmp_path):
    data = load_dataset(f"npz:{place / 'data.npz'}")
    subject = Subject("lenet-5", data, Effort.of(QUICK_EPOCHS), tmp_path)
    methods = methods_for(subject.start(0))
    assert methods == list(METHODS.values())
    for method in methods:
        for setting in method.quick:
            found = method.run(subject, setting, 0)
            assert found.total == 430_500 and found.bits > 0 and 0 <= found.test_error <= 100
            assert found.place == ("disk" if method.name in ("dense", "fastfood") else "chip")
            # What stays whole, the convolutions with svd, comes on top.
            kept = found.parameters / found.total
            assert kept == pytest.approx(setting.get("kept", kept), abs=0.07)
    fully_connected = methods_for(Subject("lenet-300-100", data, Effort.of(QUICK_EPOCHS), tmp_path).start(0))
    assert [method.name for method in methods if method not in fully_connected] == ["bicluster"]
