# SPDX-License-Identifier: Apache-2.0
"""The bench of MLPerf Tiny, with small networks and drawn inputs in the place of the published ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from host.bench import mlperf_tiny
from host.bench.__main__ import main
from host.bench.mlperf_tiny import ROWS, Row, measure_mlperf_tiny, mlperf_tiny_table
from nonzero.errors import UserError, run_command
from rtl.config import PRESETS

RNG = np.random.default_rng(4)
EIGHT = replace(PRESETS["default"], code_bits=8, direct_weights=True)
CONV = replace(PRESETS["conv"], code_bits=8, direct_weights=True)


def saved(path, model, *shape):
    torch.export.save(torch.export.export(model.eval(), (torch.rand(1, *shape),)), path)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(2)
    saved(tmp_path / "kws.pt2", nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3)), 20)
    saved(tmp_path / "ad.pt2", nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 20)), 20)
    arrays = {f"{part}_images": RNG.normal(size=(40, 20)).astype(np.float32) for part in ("train", "test")}
    np.savez(tmp_path / "ad-data.npz", **arrays)
    np.savez(tmp_path / "kws-data.npz", **arrays, train_labels=RNG.integers(0, 3, 40).astype(np.uint8),
             test_labels=RNG.integers(0, 3, 40).astype(np.uint8))
    return tmp_path


def of_images(size, outputs):
    """A network for images of this size."""
    return nn.Sequential(nn.Conv2d(3, 4, 8, size // 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, outputs))


def test_classes_and_values_are_compared_with_floats_and_run_in_rtl(folder):
    found = measure_mlperf_tiny((Row("words", "kws", "kws.pt2", EIGHT), Row("values", "ad", "ad.pt2", EIGHT)),
                                folder, None, 2)
    words, values = found["rows"]
    assert words["rtl"] == values["rtl"] == {"inputs": 2, "outputs_differ": 0, "counters_differ": 0}
    assert words["float"]["agreement"] == 1 and 0.9 <= words["engine"]["agreement"] <= 1
    assert set(words["engine"]) == {"accuracy", "agreement"}
    assert values["float"] == {"relative_error": 0} and 0 < values["engine"]["relative_error"] < 0.1
    assert words["weights"] == 20 * 16 + 16 * 3 and 0 < words["weights_kept"] <= words["weights"]
    lines = mlperf_tiny_table(found).splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["words", "values"] and "2: 0, 0" in lines[-1]


def test_rtl_that_differs_is_told(folder, monkeypatch):
    real = mlperf_tiny.EngineNetwork.measure

    def measure(self, acts, target):
        measured = real(self, acts, target)
        wrong = replace(measured.comparison, mismatches=1)
        return replace(measured, comparison=wrong)
    monkeypatch.setattr(mlperf_tiny.EngineNetwork, "measure", measure)
    found = measure_mlperf_tiny((Row("words", "kws", "kws.pt2", EIGHT),), folder, None, 1)
    assert found["rows"][0]["rtl"]["outputs_differ"] == 1


def test_images_are_those_of_cifar(folder):
    images = {f"{part}_images": RNG.integers(0, 256, (40, 3, 32, 32)).astype(np.uint8) for part in ("train", "test")}
    np.savez(folder / "c.npz", **images, train_labels=RNG.integers(0, 10, 40), test_labels=RNG.integers(0, 10, 40))
    saved(folder / "ic.pt2", of_images(32, 10), 3, 32, 32)
    saved(folder / "vww.pt2", of_images(96, 2), 3, 96, 96)
    rows = (Row("bytes", "ic", "ic.pt2", CONV), Row("enlarged", "vww", "vww.pt2", CONV))
    with pytest.raises(UserError, match="'ic' needs images of CIFAR-10; give --cifar"):
        measure_mlperf_tiny(rows, folder, None, 0)
    bytes_, enlarged = measure_mlperf_tiny(rows, folder, f"npz:{folder / 'c.npz'}", 0)["rows"]
    model = torch.export.load(folder / "ic.pt2").module()
    with torch.no_grad():
        outputs = np.concatenate([model(torch.from_numpy(one[None].astype(np.float32))).numpy()
                                  for one in images["test_images"]])
    labels = np.load(folder / "c.npz")["test_labels"]
    assert bytes_["float"]["accuracy"] == (outputs.argmax(1) == labels).mean()      # of 0 to 255, not of 0 to 1
    assert bytes_["engine"]["agreement"] > 0.9 and bytes_["rtl"] is None
    assert set(enlarged["engine"]) == {"relative_error", "agreement", "agreement_near"}
    assert 0 < enlarged["engine"]["relative_error"] < 0.2


def test_bad_arguments_are_named(folder, capsys):
    assert run_command(main, ["mlperf-tiny", str(folder), "--network", "nobody"]) == 2
    assert "--network must be part of a network's name, such as keyword spotting" in capsys.readouterr().err
    assert run_command(main, ["mlperf-tiny", str(folder), "--rtl", "-1", "-o", str(folder / "out")]) == 2
    assert "--rtl must be 0 to 1000, not -1" in capsys.readouterr().err
    (folder / "ad-data.npz").unlink()
    assert run_command(main, ["mlperf-tiny", str(folder), "--network", "anomaly", "-o", str(folder / "out")]) == 2
    assert "ad-data.npz' is missing" in capsys.readouterr().err


def test_the_command_writes_its_figures(folder, monkeypatch, capsys):
    monkeypatch.setattr("host.bench.__main__.ROWS", (Row("words", "kws", "kws.pt2", EIGHT),))
    assert run_command(main, ["mlperf-tiny", str(folder), "--rtl", "0", "-o", str(folder / "out")]) == 0
    assert "words" in capsys.readouterr().out
    assert json.loads((folder / "out" / "mlperf-tiny.json").read_text())["rows"][0]["name"] == "words"


def test_every_network_has_rows():
    assert {row.task for row in ROWS} == {"kws", "ic", "vww", "ad"}
    assert len({row.name for row in ROWS}) == len(ROWS)
