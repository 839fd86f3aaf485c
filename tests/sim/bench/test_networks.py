# SPDX-License-Identifier: Apache-2.0
"""The benchmark of whole networks, on a small one: the same functions as on the large ones."""

import json

import numpy as np
import pytest

from host.workloads.whole_networks import ALEXNET, DRAWN, VGG16, Drawn, Stage, draw_images, draw_network
from sim.bench import networks
from sim.bench.__main__ import main
from sim.bench.networks import networks_table, run_networks
from tests.support.networks import CONVOLUTIONS

SMALL = Drawn("small", (3, 12, 12), (
    Stage("conv1", 6, 0.6, 0.7, 3, padding=1, pool=3, pool_stride=2),
    Stage("conv2", 10, 0.5, 0.5, 3, stride=2, groups=2), Stage("fc1", 20, 0.4, 0.4), Stage("fc2", 7, 0.5, 1.0)),
    CONVOLUTIONS)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(DRAWN, "small", SMALL)


def test_a_network_runs_in_rtl_as_predicted(tmp_path, capsys):
    main(["networks", "--network", "small", "--images", "2", "-o", str(tmp_path)])
    found = json.loads((tmp_path / "networks.json").read_text())
    (row,) = found["networks"]
    assert (found["mismatches"], found["counter_mismatches"]) == (0, 0)
    assert row["rtl_cycles"] == row["predicted_cycles"] > row["ideal_cycles"] > 0
    assert [layer["name"] for layer in row["layers"]] == ["conv1", "conv2", "fc1", "fc2"]
    for layer in row["layers"]:
        assert layer["rtl_cycles"] == layer["predicted_cycles"] and layer["mismatches"] == 0
        assert layer["weights_kept"] / 2 < layer["image_bytes"] < row["image_bytes"]
        assert layer["utilisation"] == pytest.approx(layer["ideal_cycles"] / layer["rtl_cycles"])
    assert 0 < row["loading_seconds"] < row["simulation_seconds"]
    assert sum(layer["rtl_cycles"] for layer in row["layers"]) == row["rtl_cycles"]
    assert sum(layer["useful_macs"] for layer in row["layers"]) == row["useful_macs"]
    assert row["storage_ratio"] == pytest.approx(32 * row["weights"] / row["weights_kept"] / row["bits_per_weight"])
    assert row["pruning_ratio"] > row["indexed_ratio"] and row["weights"] == 6 * 27 + 10 * 27 + 10 * 4 * 20 + 20 * 7
    assert "conv2" in networks_table(found) and "0 outputs of layers differ" in capsys.readouterr().out


def test_cycles_without_the_rtl(tmp_path):
    main(["networks", "--network", "small", "--cycles-only", "-o", str(tmp_path)])
    (row,) = json.loads((tmp_path / "networks.json").read_text())["networks"]
    assert row["rtl_cycles"] is None and row["mismatches"] is None and row["layers"][0]["rtl_cycles"] is None
    assert row["ratio"] == pytest.approx(row["predicted_cycles"] / row["ideal_cycles"])


def test_what_the_engine_gets_wrong_is_counted(monkeypatch):
    """A word of the second layer has a wrong bit on its way to the memory, and comes a cycle late."""
    def wrong(one, writes):
        first = one.image.layers[0]["output_words"]
        cycle, address, word = writes[first]
        return honest(one, [*writes[:first], (cycle + 1, address, word ^ 1), *writes[first + 1:]])

    honest = networks.compare_layers
    monkeypatch.setattr(networks, "compare_layers", wrong)
    found = run_networks(["small"], images=2, seed=1, rtl=True)
    assert [layer["mismatches"] for layer in found["networks"][0]["layers"]] == [0, 1, 0, 0]
    # The second layer takes a cycle more, the third one less.
    assert found["counter_mismatches"] == 2


def test_drawn_networks_have_their_densities():
    images = draw_images(SMALL.in_shape, 4, 1)
    assert images.shape == (4, 3, 12, 12) and images.std() > 40
    assert not np.array_equal(images, draw_images(SMALL.in_shape, 4, 2))
    shared = draw_network(SMALL, images, 4, 1)
    for layer, stage in zip(shared.layers, SMALL.stages, strict=True):
        assert (layer.codes != 0).mean() == pytest.approx(stage.weight_density, abs=0.01)
        assert layer.activation.signed == (stage.act_density == 1) and (layer.geometry is None) == (stage.kernel == 0)
        assert layer.codes.max() < 16 and layer.values[0] == 0
    again = draw_network(SMALL, images, 4, 1)
    assert all(np.array_equal(one.codes, other.codes) for one, other in zip(shared.layers, again.layers, strict=True))


@pytest.mark.parametrize("drawn, weights", [(ALEXNET, 60_954_656), (VGG16, 138_344_128)])
def test_sizes_of_the_published_networks(drawn, weights):
    """The published numbers of weights are without biases."""
    shape: tuple[int, ...] = drawn.in_shape
    found = 0
    for stage in drawn.stages:
        geometry = stage.geometry(shape)
        found += stage.outputs * (shape[0] // stage.groups * stage.kernel ** 2 if geometry else int(np.prod(shape)))
        shape = (stage.outputs, *geometry.out_shape) if geometry else (stage.outputs, 1, 1)
    assert found == weights
