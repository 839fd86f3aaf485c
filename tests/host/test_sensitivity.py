# SPDX-License-Identifier: Apache-2.0
"""The sensitivity scan: one layer at a time, by held-out images, and the thresholds drawn from it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from host.compression.layer_densities import density_above
from host.compression.prune import prune
from host.compression.recipe import PruneSettings
from host.sensitivity import main, scan
from host.training.samples import split
from nonzero.errors import UserError, run_command
from tests.support.stripes import dataset, network, run, write_files


@pytest.fixture(scope="module")
def trained():
    learn = PruneSettings(density=1.0, rounds=1, final_epochs=8, batch=50, final_learning_rate=0.02, augment=0)
    return prune(network(), dataset(), learn).network


def error(net):
    images, labels = split(dataset())[1]
    outputs = run(net, images.reshape(len(images), -1) / np.float64(255))
    return 100 * (outputs.argmax(axis=1) != labels).mean()


def test_one_layer_at_a_time_loses_its_smallest_weights(trained):
    found = scan(trained, dataset(), [0.05, 0.5], tolerance=5)
    assert found.dense_error == pytest.approx(error(trained)) and [one.name for one in found.layers] == [
        "fc1", "fc2", "fc3"]
    for layer, before in zip(found.layers, trained.layers, strict=True):
        assert [point.density for point in layer.points] == [1, 0.5, 0.05]
        for point in layer.points:
            mask = np.abs(before.weight) >= point.threshold
            assert mask.sum() == round(point.density * mask.size)
            assert density_above(before.weight, point.quality * (1 - 1e-6)) == pytest.approx(point.density, abs=0.002)
            cut = replace(trained, layers=tuple(
                replace(one, weight=one.weight * (mask if one.name == layer.name else 1)) for one in trained.layers))
            assert point.error == pytest.approx(error(cut))
    assert found.layers[0].points[-1].error > found.dense_error


def test_the_chosen_point_is_the_last_within_the_tolerance(trained):
    found = scan(trained, dataset(), [0.5, 0.2, 0.1, 0.05, 0.02, 0.01], tolerance=5)
    assert [layer.name for layer in found.layers] == ["fc1", "fc2", "fc3"]
    for layer in found.layers:
        borne = [point.error <= found.dense_error + 5 for point in layer.points]
        assert False in borne
        assert layer.chosen == layer.points[borne.index(False) - 1]
    at_once = scan(trained, dataset(), [0.5], 100).layers
    assert [layer.chosen for layer in at_once] == [layer.points[-1] for layer in at_once]
    assert [layer.chosen.density for layer in at_once] == [0.5] * 3


def test_test_images_choose_nothing(trained):
    data = dataset()
    other = replace(data, test_images=255 - data.test_images, test_labels=(data.test_labels + 1) % 3)
    assert scan(trained, data, [0.3]) == scan(trained, other, [0.3])


@pytest.fixture
def files(tmp_path, trained):
    model, data = write_files(tmp_path, trained)
    return [model, "--data", data, "-o", str(tmp_path / "out")]


def test_the_command_writes_what_the_scan_finds(files, tmp_path, capsys, trained):
    assert run_command(main, [*files, "--densities", "0.5,0.1", "--tolerance", "3"]) == 0
    text = capsys.readouterr().out
    found = scan(trained, dataset(), [0.5, 0.1], 3)
    assert json.loads((tmp_path / "out/sensitivity.json").read_text()) == json.loads(json.dumps(found.figures()))
    picture = (tmp_path / "out/sensitivity.svg").read_text()
    assert picture.startswith("<?xml") and "fc2" in picture
    keep = ",".join(f"{layer.name}={layer.chosen.density:g}" for layer in found.layers)
    assert f"\n--keep {keep}\n" in text and f"{found.layers[0].points[1].error:.2f}" in text
    assert run_command(main, [*files, "--densities", "0.5,0.1", "--tolerance", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "out/sensitivity.json").read_text())


def test_settings_out_of_range_are_refused(files, trained, capsys):
    with pytest.raises(UserError) as caught:
        scan(trained, dataset(), [0.5, 0.0, 1.5], tolerance=-1)
    assert caught.value.problems == ["densities must be above 0 and at most 1, not 0.0",
                                     "densities must be above 0 and at most 1, not 1.5",
                                     "tolerance must be 0 to 100 percentage points, not -1"]
    with pytest.raises(SystemExit):
        main([*files, "--densities", "half"])
    assert "must be like 0.5,0.2,0.1, not 'half'" in capsys.readouterr().err
