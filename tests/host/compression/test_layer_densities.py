# SPDX-License-Identifier: Apache-2.0
"""Shares of an amount for layers and rounds."""

from dataclasses import replace

import numpy as np
import pytest

from host.compression.layer_densities import round_keep, spread_density, targets
from host.compression.prune import prune
from host.compression.recipe import PruneSettings
from tests.support.stripes import network


def test_density_is_met_overall_and_lowest_in_the_widest_layer():
    net = network(sizes=(784, 300, 100, 10))
    keep = spread_density(net, 0.04)
    total = sum(keep[layer.name] * layer.weight.size for layer in net.layers)
    assert total == pytest.approx(0.04 * net.weights_total)
    assert keep["fc1"] < keep["fc2"] < keep["fc3"] < 1
    assert keep["fc2"] / keep["fc1"] == pytest.approx((400 / 30000) / (1084 / 235200))
    assert spread_density(net, 1.0) == {"fc1": 1, "fc2": 1, "fc3": 1}
    nearly = spread_density(net, 0.5)
    total = sum(nearly[layer.name] * layer.weight.size for layer in net.layers)
    assert nearly["fc3"] == 1 and total == pytest.approx(0.5 * net.weights_total)
    assert prune(net, None, PruneSettings(density=0.04)).network.weights_kept == pytest.approx(10648, abs=2)


def test_quality_counts_by_layer_and_anew_in_each_round():
    net = network()
    by_layer = PruneSettings(quality={"fc1": 0.5, "fc3": 2.0})
    keep = targets(net, by_layer)
    first = net.layers[0].weight
    assert keep["fc1"] == np.mean(np.abs(first) >= 0.5 * first.std()) and keep["fc2"] == 1 and keep["fc3"] < 0.1
    greedy = PruneSettings(quality=0.5, schedule="greedy")
    once = prune(net, None, greedy).network
    again = round_keep(once, keep, greedy, 1)
    assert again["fc1"] < keep["fc1"] * 0.95  # those left have a greater deviation
    assert round_keep(once, keep, replace(by_layer, schedule="geometric", rounds=1), 0) == pytest.approx(keep)


@pytest.mark.parametrize(("schedule", "densities"), [
    ("geometric", [0.4 * 0.5 ** (1 / 2), 0.2]), ("cubic", [0.2 + 0.2 / 8, 0.2]), ("greedy", [0.2, 0.2])])
def test_schedules_spread_the_density_over_rounds(schedule, densities):
    settings = PruneSettings(density=0.2, allocation="uniform", rounds=2, first_density=0.4, schedule=schedule)
    net = network()
    found = [round_keep(net, targets(net, settings), settings, index) for index in (0, 1)]
    assert [keep["fc2"] for keep in found] == pytest.approx(densities)
    assert all(len(set(keep.values())) == 1 for keep in found)
