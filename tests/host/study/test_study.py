# SPDX-License-Identifier: Apache-2.0
"""The study of compression methods: each method, the table and the page."""

import json
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from host.compression.share_weights import share_weights
from host.datasets import load_dataset
from host.network.layers import Conv2d, Geometry, Linear, Network
from host.reporting.svg_charts import xy_chart
from host.study.fastfood import Fastfood, fry
from host.study.low_rank import biclustered, equal_clusters, factored
from host.study.measuring import Outcome, distributions, engine, on_disk, on_engine
from host.study.methods import METHODS, methods_for
from host.study.subject import QUICK_EPOCHS, Effort, Subject
from host.training.forward import logits, tensors
from nonzero.errors import UserError, run_command
from tests.support.paths import ROOT
from tests.support.stripes import dataset, network

optuna = pytest.importorskip("optuna")
study = pytest.importorskip("host.study.__main__")
queues = pytest.importorskip("host.study.queue")
results = pytest.importorskip("host.study.results")
DOCS = ROOT / "docs"
Job, Queue = queues.Job, queues.Queue


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


def test_a_quick_study_of_mnist(tmp_path):
    study.main(["--quick", "--seeds", "1", "-o", str(tmp_path)])
    found = json.loads((tmp_path / "study.json").read_text())
    errors = {row["method"]: row["test_error"] for row in found["rows"]}
    assert found["data"] == "mnist" and set(errors) == {name for name, one in METHODS.items() if not one.convolutions}
    # Two epochs each: enough to see that every method learns, and that retraining repairs what a cut breaks.
    assert errors["dense"] < 5 and max(error for name, error in errors.items() if name != "cut") < 25
    assert errors["one-shot"] < 5 < errors["cut"]


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


@pytest.mark.parametrize(("file", "network"), [("study.json", "lenet-300-100"), ("study-lenet-5.json", "lenet-5")])
def test_the_rows_that_are_kept_stand_in_the_documentation(file, network):
    kept = json.loads((DOCS / file).read_text())
    assert kept["network"] == network
    text = (DOCS / "study.md").read_text()
    rows = results.table_rows(kept["rows"])
    assert len(rows) == len(kept["rows"]) > 5
    for name, _, *cells in rows:
        assert f"| {' | '.join([name, *cells])} |\n" in text
    assert len(kept["measured"]) == sum(len(row["seeds"]) for row in kept["rows"])


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


def test_rows_are_means_over_the_seeds():
    jobs = [Job("cut", {"start": "dense", "kept": kept}, seed) for kept in (0.5, 0.2, 0.1) for seed in (0, 1)]
    measured = {one.key: Outcome(30 + one.seed, 100, 800, "chip", 1.0 + one.seed, 5.0) for one in jobs[:3]}
    weights = {"fc1": {"edges": [0, 1, 2], "before": [30, 40], "after": [5, 9]}}
    measured[jobs[1].key] = replace(measured[jobs[1].key], weights=weights)
    rows = results.study_rows("net", jobs, measured)
    assert [row["setting"]["kept"] for row in rows] == [0.5, 0.2]
    assert rows[0] == {"method": "cut", "setting": {"start": "dense", "kept": 0.5}, "network": "net",
                       "parameters": 30.5, "kept": 30.5, "bits": 800, "place": "chip", "test_error": 1.5,
                       "test_errors": [1.0, 2.0], "seeds": [0, 1], "spread": pytest.approx(0.5 ** 0.5), "seconds": 5.0,
                       "layers": {"fc1": {"weights": 70, "kept": 14}}}
    assert results.layer_rows(rows) == [["cut, kept 0.5", "fc1", "70", "14", "20.00"]]
    assert results.table_rows(rows[:1])[0] == ["cut, kept 0.5", "net", "30", "30.50", "0.1", "chip", "1.50", "0.71",
                                               "2", "5"]


def test_fastfood_is_the_product_of_its_parts():
    torch.manual_seed(0)
    layer = Fastfood(5, 11)
    hadamard = np.ones((1, 1))
    for _ in range(3):
        hadamard = np.kron(np.array([[1, 1], [1, -1]]), hadamard) / 2 ** 0.5
    blocks = [np.diag(scale) @ hadamard @ np.diag(gauss) @ np.eye(8)[order] @ hadamard @ np.diag(sign)
              for scale, gauss, order, sign in zip(*(part.detach().numpy() for part in (
                  layer.scale, layer.gauss, layer.order, layer.sign)), strict=True)]
    with torch.no_grad():
        layer.bias += torch.arange(11.0)
        found = layer(torch.eye(5)).numpy()
    np.testing.assert_allclose(found, np.concatenate(blocks)[:11, :5].T + np.arange(11), rtol=1e-4, atol=1e-5)


def test_fastfood_outputs_have_the_variance_of_he():
    torch.manual_seed(0)
    with torch.no_grad():
        outputs = Fastfood(784, 300)(torch.randn(256, 784))
    assert 1.3 < outputs.std() < 1.5


def test_only_fully_connected_layers_are_fried():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Sequential(
        torch.nn.Linear(18, 7), torch.nn.ReLU()), torch.nn.Linear(7, 3))
    kinds = [type(one).__name__ for one in fry(model, 1).modules()]
    assert kinds == ["Sequential", "Conv2d", "Flatten", "Sequential", "Fastfood", "ReLU", "Linear"]
    assert model(torch.zeros(2, 1, 5, 5)).shape == (2, 3)


def outputs(net, images):
    return logits(tensors(net), torch.from_numpy(images)).numpy()


def test_factors_keep_the_greatest_singular_values():
    rng = np.random.default_rng(0)
    low_rank = (rng.normal(size=(40, 3)) @ rng.normal(size=(3, 49))).astype(np.float32)
    whole = network()
    whole = replace(whole, layers=(replace(whole.layers[0], weight=low_rank), *whole.layers[1:]))
    found = factored(whole, 0.14)
    sizes = [(layer.name, layer.rows, layer.cols, layer.relu) for layer in found.layers]
    assert sizes == [("fc1.right", 3, 49, False), ("fc1.left", 40, 3, True), ("fc2.right", 1, 40, False),
                     ("fc2.left", 20, 1, True), ("fc3", 3, 20, False)]
    images = rng.uniform(size=(5, 49)).astype(np.float32)
    first, before = (Network("", layers) for layers in (found.layers[:2], whole.layers[:1]))
    np.testing.assert_allclose(outputs(first, images), outputs(before, images), rtol=1e-3, atol=1e-3)


def test_layers_of_other_kinds_stay_whole():
    class Other(Linear):
        pass
    other = Other("a", np.ones((30, 30), np.float32), np.zeros(30, np.float32), True)
    last = Linear("b", np.ones((30, 30), np.float32), np.zeros(30, np.float32), False)
    assert factored(Network("", (other, last)), 0.5).layers == (other, last)


def convolution(weight, in_shape, **options):
    rows, channels, *kernel = weight.shape
    geometry = Geometry(in_shape, tuple(kernel), groups=in_shape[0] // channels, **options)
    return Conv2d("conv", weight.reshape(rows, -1), np.arange(rows, dtype=np.float32), True, geometry)


def test_clusters_are_equal_and_of_like_direction():
    rng = np.random.default_rng(0)
    directions, kinds = np.eye(6)[:3], np.array([0, 1, 2] * 5)
    vectors = directions[kinds] * rng.uniform(1, 9, (15, 1)) + rng.normal(0, 0.05, (15, 6))
    found = equal_clusters(vectors, 3)
    assert sorted(map(len, found)) == [5, 5, 5] and all(len(set(kinds[one])) == 1 for one in found)
    uneven = equal_clusters(np.ones((11, 2)), 4)
    assert sorted(map(len, uneven)) == [2, 3, 3, 3] and sorted(np.concatenate(uneven)) == list(range(11))


def test_biclusters_give_back_what_has_their_rank():
    """Channels are mixed up: each pair of clusters has weights of rank 1, all of them rank 4 or more."""
    rng = np.random.default_rng(1)
    inputs, outputs_ = rng.permutation(6), rng.permutation(8)
    weight = np.zeros((8, 6, 3, 3))
    for number, rows in enumerate((outputs_[:4], outputs_[4:])):
        for other, cols in enumerate((inputs[:3], inputs[3:])):
            part = np.multiply.outer(rng.uniform(0.5, 1, 4), rng.normal(0, 0.05, (3, 3, 3)) + (number - 0.5)
                                     * np.linspace(-1, 1, 3)[:, None] + (other - 0.5) * np.linspace(-1, 1, 3))
            weight[np.ix_(rows, cols)] = part
    whole = Network("", (convolution(weight.astype(np.float32), (6, 7, 7), padding=(1, 1), pool=2, pool_stride=2),))
    found = biclustered(whole, 0.4, 2)
    assert [(layer.name, layer.rows, layer.cols, layer.weights_kept, layer.relu) for layer in found.layers] == [
        ("conv.right", 4, 54, 4 * 27, False), ("conv.left", 8, 4, 16, True)]
    images = rng.uniform(size=(5, 6 * 49)).astype(np.float32)
    np.testing.assert_allclose(outputs(found, images), outputs(whole, images), rtol=1e-3, atol=1e-3)
    assert biclustered(whole, 0.9, 2).layers[0].rows == 12
    alone = np.abs(outputs(biclustered(whole, 0.1, 1), images) - outputs(whole, images)).max()
    assert alone > 0.1


def test_convolutions_that_would_not_get_smaller_stay():
    whole = Network("", (convolution(np.ones((2, 1, 1, 2), np.float32), (1, 5, 5)),
                         convolution(np.ones((4, 1, 3, 3), np.float32), (2, 5, 4))))
    assert biclustered(whole, 0.5, 2).layers == whole.layers


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


@pytest.mark.parametrize("code_bits", [4, 8])
def test_the_engine_holds_codebooks(tmp_path, code_bits):
    subject = Subject("lenet-300-100", dataset(), Effort.of(QUICK_EPOCHS), tmp_path)
    shared = share_weights(network(sizes=(49, 40, 40, 40, 40)), engine(code_bits, direct=False))
    found = on_engine(subject, shared, 100, 0.0, code_bits)
    assert found.place == "chip" and found.bits > code_bits * found.parameters


def test_what_the_engine_refuses_stays_on_disk(tmp_path, monkeypatch):
    subject = Subject("lenet-300-100", dataset(), Effort.of(QUICK_EPOCHS), tmp_path)
    net = network()
    net.layers[0].weight[:, :40] = 0
    chip = on_engine(subject, net, 100, 2.0)
    assert chip.place == "chip" and 0.9 < chip.parameters / net.weights_kept <= 1 and chip.seconds == 2.0

    def refuse(*_):
        raise UserError("too large")
    monkeypatch.setattr("host.study.measuring.pack", refuse)
    disk = on_engine(subject, net, 100, 2.0)
    biases = sum(layer.rows for layer in net.layers)
    assert disk.place == "disk" and disk.bits == 32 * (net.weights_kept + biases) + net.weights_total
    assert disk == on_disk(subject, net, 100, 2.0) and abs(disk.test_error - chip.test_error) < 20


def test_distributions_leave_out_zeros():
    one = Network("", (Linear("a", np.array([[0, -1, 1, 3]], np.float32), np.zeros(1, np.float32), False),))
    other = Network("", (Linear("a", np.array([[0, 0, 0, 5]], np.float32), np.zeros(1, np.float32), False),))
    found = distributions(one, other)["a"]
    assert found["edges"][0] == -1 and found["edges"][-1] == 5 and len(found["edges"]) == 61
    assert sum(found["before"]) == 3 and sum(found["after"]) == found["after"][-1] == 1


def test_xy_chart():
    chart = xy_chart("a", "x", "y", [("<one>", [(1, 0), (10, 2), (100, 9)]), ("two", [(100, -1)])], logarithmic=True,
                     highest=5)
    assert chart.count("<circle") == 3 and "&lt;one&gt;: 10, 2" in chart and "<one>" not in chart
    at = [float(part.split('"')[0]) for part in chart.split('<circle cx="')[1:]]
    assert at[1] - at[0] == pytest.approx(at[2] - at[1])
    assert xy_chart("a", "x", "y", [("one", [])]) == ""
