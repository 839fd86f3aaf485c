# SPDX-License-Identifier: Apache-2.0
"""Pruning with retraining: what is removed, what stays removed, every rule of the recipe, going on after a kill."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from host.compression.layer_densities import round_keep, spread_density, targets
from host.compression.prune import prune
from host.compression.recipe import PruneSettings
from host.compression.retrain import Retraining, flat
from host.training.checkpoint import Checkpoint
from host.training.samples import HELD_OUT, split
from nonzero.errors import UserError
from tests.support.stripes import dataset, network, run, same

SHORT = PruneSettings(density=0.1, rounds=4, round_epochs=2, final_epochs=4, batch=50, learning_rate=0.01,
                      final_learning_rate=0.02, augment=0.3)


def test_one_shot_keeps_the_greatest_weights():
    net = network()
    result = prune(net, None, PruneSettings(keep={"fc1": 0.25, "fc2": 0.5}))
    for before, after, fraction in zip(net.layers, result.network.layers, (0.25, 0.5, 1.0), strict=True):
        kept = after.weight != 0
        assert np.array_equal(after.weight[kept], before.weight[kept])
        assert kept.sum() == round(fraction * kept.size)
        assert np.abs(before.weight[kept]).min() >= np.abs(before.weight[~kept]).max(initial=0)
    (record,) = result.history
    assert record.kept == {"fc1": 490, "fc2": 400, "fc3": 60} and record.losses == ()
    assert record.density == 950 / (1960 + 800 + 60)


def test_quality_is_a_threshold_in_standard_deviations():
    net = network()
    result = prune(net, None, PruneSettings(quality=0.1))
    for before, after in zip(net.layers, result.network.layers, strict=True):
        survives = np.abs(before.weight) >= 0.1 * before.weight.std()
        assert np.array_equal(after.weight != 0, survives)


def test_quality_of_huge_weights():
    net = network()
    huge = replace(net, layers=tuple(replace(layer, weight=layer.weight * np.float32(1e37)) for layer in net.layers))
    kept, expected = (prune(one, None, PruneSettings(quality=1.0)).network.layers[0].weight != 0 for one in (huge, net))
    assert np.array_equal(kept, expected)


def test_weights_that_are_zero_do_not_count_for_quality():
    net = prune(network(), None, PruneSettings(keep={"fc1": 0.5})).network
    after = prune(net, None, PruneSettings(quality=1.0)).network.layers[0].weight
    alive = net.layers[0].weight[net.layers[0].weight != 0]
    assert np.count_nonzero(after) == np.count_nonzero(np.abs(alive) >= alive.std())


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


def test_the_seed_decides_every_bit():
    one, other = (prune(network(), dataset(), SHORT, seed=3).network for _ in range(2))
    assert same(one, other)
    assert not same(one, prune(network(), dataset(), SHORT, seed=4).network)


def test_test_images_choose_nothing():
    data = dataset()
    other = replace(data, test_images=255 - data.test_images, test_labels=(data.test_labels + 1) % 3)
    assert same(prune(network(), data, SHORT).network, prune(network(), other, SHORT).network)


def test_a_round_ends_when_the_held_out_error_is_flat():
    settings = replace(SHORT, rounds=2, round_epochs=30, patience=3)
    first, last = prune(network(), dataset(), settings).history
    assert 4 <= len(first.losses) < 30 and len(last.losses) == settings.final_epochs
    best = min(first.held_out_errors[:-3])
    assert all(error >= best for error in first.held_out_errors[-3:])


def test_the_learning_curve_is_flat():
    assert not flat([3, 2, 2], None) and not flat([3, 2], 2) and not flat([3, 2, 1], 1) and not flat([3, 2, 3, 1], 2)
    assert flat([3, 2, 2], 1) and flat([3, 2, 2, 3], 2) and flat([2, 3, 3], 2)


def test_split_is_the_same_for_every_run_and_complete():
    data = dataset()
    (images, labels), (held_images, held_labels) = split(data)
    assert (len(labels), len(held_labels), len(images), len(held_images)) == (458, 42, 458, 42)
    both = np.concatenate([images, held_images]).reshape(500, -1)
    assert np.array_equal(np.unique(both, axis=0), np.unique(data.train_images.reshape(500, -1), axis=0))
    assert round(60_000 * HELD_OUT) == 5000
    other = replace(data, train_images=data.train_images[::-1])
    assert np.array_equal(split(other)[1][1], held_labels) and not np.array_equal(split(other)[1][0], held_images)


def test_quality_by_layer_and_anew_in_each_round():
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
def test_schedules(schedule, densities):
    settings = PruneSettings(density=0.2, allocation="uniform", rounds=2, first_density=0.4, schedule=schedule)
    net = network()
    found = [round_keep(net, targets(net, settings), settings, index) for index in (0, 1)]
    assert [keep["fc2"] for keep in found] == pytest.approx(densities)
    assert all(len(set(keep.values())) == 1 for keep in found)


def weights_during(settings, monkeypatch, net=None):
    """Runs; returns the result and the network at the begin of each round, as it is after the cut."""
    seen = []
    begin = Retraining.begin

    def spy(self, network, names):
        seen.append(network)
        begin(self, network, names)
    with monkeypatch.context() as patch:
        patch.setattr(Retraining, "begin", spy)
        return prune(net or network(), dataset(), settings, 3), seen


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
    """The dense network is untrained here: its outputs are no help, and yet they are learned."""
    net, images = network(), dataset().test_images.reshape(100, -1) / 255
    chances = [softmax(run(one, images) / 2) for one in (net, *(
        prune(net, dataset(), replace(SHORT, distill=share)).network for share in (0.0, 1.0)))]
    distances = [np.abs(chances[0] - one).mean() for one in chances[1:]]
    assert distances[1] < 0.2 * distances[0]


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


@pytest.mark.parametrize("epochs", [1, 2, 5, 9])
@pytest.mark.parametrize("changes", [{}, {"dropout": 0.2, "penalty": "l1", "distill": 0.5},
                                     {"freeze": (("fc1", "fc2"), ("fc3",)), "allocation": "uniform"},
                                     {"criterion": "magnitude", "allocation": "erdos-renyi"},
                                     {"broadcasts": 25.0, "activity_penalty": 0.01}])
def test_goes_on_after_a_kill_to_the_same_bits(tmp_path, monkeypatch, epochs, changes):
    settings = replace(SHORT, **changes)
    whole = prune(network(), dataset(), settings, 3)
    saved = []
    save = Checkpoint.save

    def save_and_die(self, state):
        save(self, state)
        saved.append(state)
        if len(saved) == epochs:
            raise Killed
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(Killed):
            prune(network(), dataset(), settings, 3, tmp_path / "pruning.checkpoint")
    resumed = prune(network(), dataset(), settings, 3, tmp_path / "pruning.checkpoint")
    assert same(resumed.network, whole.network)
    assert [replace(one, seconds=0) for one in resumed.history] == [replace(one, seconds=0) for one in whole.history]


def test_a_checkpoint_of_another_run_is_left_alone(tmp_path):
    path = tmp_path / "pruning.checkpoint"
    prune(network(), dataset(), SHORT, 3, path)
    content = path.read_bytes()
    for net, settings, seed in ((network(), replace(SHORT, rounds=5), 3), (network(), SHORT, 4),
                                (network(1), SHORT, 3)):
        path.write_bytes(content)
        assert same(prune(net, dataset(), settings, seed, path).network, prune(net, dataset(), settings, seed).network)
    path.write_bytes(b"PK\3\4 nonsense")
    assert same(prune(network(), dataset(), SHORT, 3, path).network, prune(network(), dataset(), SHORT, 3).network)


def test_the_first_cut_takes_neurons(monkeypatch):
    settings = replace(SHORT, density=0.3, neurons={"fc1": 10, "fc2": 8})
    result, seen = weights_during(settings, monkeypatch)
    for one in seen:
        assert [np.count_nonzero(layer.weight.any(axis=1)) <= most
                for layer, most in zip(one.layers, (10, 8, 3), strict=True)] == [True] * 3
    assert result.network.layers[0].rows == 10 and result.network.layers[1].rows <= 8
    blindly = prune(network(), None, replace(settings, density=0.2)).network
    assert [layer.rows for layer in blindly.layers] == [10, 8, 3]
    # The first ones to stay are those with the greatest weights.
    rows = np.abs(network().layers[0].weight).sum(axis=1)
    strong = network().layers[0].weight[rows >= np.sort(rows)[-10]]
    kept = blindly.layers[0].weight
    assert np.array_equal(kept[kept != 0], strong[kept != 0])


@pytest.mark.parametrize(("settings", "message"), [
    (PruneSettings(), "give one of density, keep and quality, not none"),
    (PruneSettings(density=0.1, quality=1.0),
     "give one of density, keep and quality, not density and quality"),
    (PruneSettings(density=0.0), "density must be above 0 and at most 1, not 0.0"),
    (PruneSettings(density=float("nan")), "density must be above 0 and at most 1, not nan"),
    (PruneSettings(quality=-1.0), "quality must be 0 or more, not -1.0"),
    (PruneSettings(keep={"fc9": 0.5}), "keep names a layer 'fc9', but the network has fc1, fc2, fc3"),
    (PruneSettings(keep={"fc1": 2.0}), "keep of layer 'fc1' must be above 0 and at most 1, not 2.0"),
    (replace(SHORT, rounds=0), "rounds must be 1 to 100000, not 0"),
    (replace(SHORT, learning_rate=0.0), "learning_rate must be above 0 and at most 1, not 0.0"),
    (replace(SHORT, augment=-1.0), "augment must be 0 to 4, not -1.0"),
    (replace(SHORT, distill=1.5), "distill must be 0 to 1, not 1.5"),
    (replace(SHORT, rate_divisor=0.5), "rate_divisor must be 1 to 1e+06, not 0.5"),
    (replace(SHORT, penalty="l3"), "penalty must be one of none, l1, l2, not 'l3'"),
    (replace(SHORT, criterion="size"), "criterion must be one of magnitude, obd, fisher, not 'size'"),
    (PruneSettings(quality={"fc9": 1.0}), "quality names a layer 'fc9', but the network has fc1, fc2, fc3"),
    (PruneSettings(density=0.5, neurons={"fc3": 2}),
     "neurons names a layer 'fc3', but the hidden layers are fc1, fc2"),
    (PruneSettings(density=0.5, neurons={"fc1": 41}), "neurons of layer 'fc1' must be 1 to 40, not 41"),
    (replace(SHORT, freeze=(("fc1",), ("fc2",)), allocation="uniform"),
     "freeze must name each of the layers fc1, fc2, fc3 in one group, not ['fc1', 'fc2']"),
    (replace(SHORT, freeze=(("fc1",), ("fc2", "fc3"))),
     "allocation 'global' needs all layers at once; use another or leave out freeze"),
])
def test_settings_out_of_range(settings, message):
    with pytest.raises(UserError) as caught:
        prune(network(), None, settings)
    assert caught.value.problems == [message]


def test_all_problems_at_once_and_data_that_does_not_fit():
    with pytest.raises(UserError) as caught:
        prune(network(), None, replace(SHORT, density=2.0, rounds=0, batch=0))
    assert len(caught.value.problems) == 3
    with pytest.raises(UserError) as caught:
        prune(network(sizes=(50, 4, 2)), dataset(), SHORT)
    assert "has 49 values for each image, but the network has 50 inputs" in caught.value.problems[0]
    assert "has labels up to 2, but the network has only 2 outputs" in caught.value.problems[1]
