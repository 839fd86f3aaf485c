# SPDX-License-Identifier: Apache-2.0
"""Retraining: every rule of the recipe that changes weights, and which ones it leaves alone."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from host.compression.prune import prune
from host.compression.retrain import Retraining, flat
from tests.support.stripes import SHORT, dataset, network, run, same, weights_during


def test_retraining_learns_and_removed_weights_stay_removed():
    net = network()
    result = prune(net, dataset(), SHORT)
    history = result.history
    assert len(history) == 4 and all(record.trained == ("fc1", "fc2", "fc3") for record in history)
    assert history[-1].iterations == 4 * (458 // 50) and all(record.seconds > 0 for record in history)
    assert all(later.density < earlier.density for earlier, later in pairwise(history))
    assert result.network.weights_kept == sum(history[-1].kept.values()) <= round(0.1 * net.weights_total)
    assert result.network.weights_kept > 0.09 * net.weights_total
    assert history[-1].held_out_errors[-1] == 0 and history[-1].losses[-1] < history[0].losses[0]
    assert len(history[-1].losses) == len(history[-1].held_out_errors) == 4
    one_round = prune(result.network, dataset(), replace(SHORT, density=1.0, rounds=1))
    for before, after in zip(result.network.layers, one_round.network.layers, strict=True):
        assert np.array_equal(before.weight != 0, after.weight != 0)
        assert not np.array_equal(before.weight, after.weight)


def test_a_round_ends_when_the_held_out_error_is_flat():
    settings = replace(SHORT, rounds=2, round_epochs=30, patience=3)
    first, last = prune(network(), dataset(), settings).history
    assert 4 <= len(first.losses) < 30 and len(last.losses) == settings.final_epochs
    best = min(first.held_out_errors[:-3])
    assert all(error >= best for error in first.held_out_errors[-3:])


def test_the_learning_curve_is_flat():
    assert not flat([3, 2, 2], None) and not flat([3, 2], 2) and not flat([3, 2, 1], 1) and not flat([3, 2, 3, 1], 2)
    assert flat([3, 2, 2], 1) and flat([3, 2, 2, 3], 2) and flat([2, 3, 3], 2)


def test_survivors_keep_their_weights_or_are_reset(monkeypatch):
    one_round = replace(SHORT, rounds=1)
    net = network()
    for survivors in ("keep", "reset"):
        _, (cut,) = weights_during(replace(one_round, survivors=survivors), monkeypatch, net)
        for before, after in zip(net.layers, cut.layers, strict=True):
            mask = after.weight != 0
            assert np.array_equal(after.weight[mask], before.weight[mask]) == (survivors == "keep")
            assert np.abs(before.weight[mask]).mean() > np.abs(before.weight[~mask]).mean()


def test_frozen_layers_stay_while_their_group_waits(monkeypatch):
    groups = (("fc1",), ("fc2", "fc3"))
    net = network()
    settings = replace(SHORT, keep={"fc1": 0.5, "fc2": 0.5}, density=None, rounds=2, freeze=groups,
                       criterion="magnitude")
    result, seen = weights_during(settings, monkeypatch, net)
    assert [record.trained for record in result.history] == [("fc1",), ("fc1",), ("fc2", "fc3"), ("fc2", "fc3")]
    assert result.history[1].kept["fc1"] == 980 and result.history[1].kept["fc2"] == 800
    assert result.history[3].kept["fc2"] == 400
    for number in (1, 2):  # fc2 and fc3 do not move while fc1 does
        assert np.array_equal(seen[1].layers[number].weight, net.layers[number].weight)
        assert np.array_equal(seen[1].layers[number].bias, net.layers[number].bias)
    assert np.array_equal(seen[2].layers[0].weight, result.network.layers[0].weight)
    assert not np.array_equal(seen[1].layers[0].weight, seen[2].layers[0].weight)


def test_penalties_shrink_weights():
    sums = {penalty: [np.abs(layer.weight).sum() for layer in prune(
        network(), dataset(), replace(SHORT, penalty=penalty, penalty_strength=0.05)).network.layers]
        for penalty in ("none", "l1", "l2")}
    assert sums["l1"][0] < sums["none"][0] and sums["l2"][0] < sums["none"][0]
    assert sums["l1"] != sums["l2"]


def test_dropout_is_scaled_by_the_connections_left(monkeypatch):
    settings = replace(SHORT, dropout=0.5, keep={"fc1": 0.25}, density=None, rounds=1, criterion="magnitude")
    rates = []
    dropout = Retraining.dropout_rates
    monkeypatch.setattr(Retraining, "dropout_rates", lambda self: rates.append(dropout(self)) or rates[-1])
    result = prune(network(), dataset(), settings)
    assert len(rates) == 4 and rates[0] == [pytest.approx(0.5 * np.sqrt(490 / 1960), abs=0.01), pytest.approx(0.5)]
    assert not same(result.network, prune(network(), dataset(), replace(settings, dropout=0)).network)


def test_the_learning_rate_is_divided():
    divided = replace(SHORT, learning_rate=0.1, final_learning_rate=0.2, rate_divisor=10)
    assert same(prune(network(), dataset(), divided).network, prune(network(), dataset(), SHORT).network)


def test_a_constant_rate_ends_when_the_curve_is_flat():
    settings = replace(SHORT, rounds=1, final_epochs=40, patience=3, final_rate="constant")
    (only,) = prune(network(), dataset(), settings).history
    assert 4 <= len(only.losses) < 40


def softmax(values):
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_distillation_draws_towards_the_dense_network():
    """The outputs of the dense network are learned even where they help nothing, since it is untrained here."""
    net, images = network(), dataset().test_images.reshape(100, -1) / 255
    chances = [softmax(run(one, images) / 2) for one in (net, *(
        prune(net, dataset(), replace(SHORT, distill=share)).network for share in (0.0, 1.0)))]
    distances = [np.abs(chances[0] - one).mean() for one in chances[1:]]
    assert distances[1] < 0.2 * distances[0]
