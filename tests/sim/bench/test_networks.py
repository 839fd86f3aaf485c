# SPDX-License-Identifier: Apache-2.0
"""The benchmark of whole networks, on a small one: the same functions as on the large ones."""

import json

import pytest

from host.workloads.whole_networks import DRAWN
from sim.bench import networks
from sim.bench.__main__ import main
from sim.bench.networks import networks_table, run_networks
from tests.support.drawn import SMALL


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
