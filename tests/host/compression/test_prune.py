# SPDX-License-Identifier: Apache-2.0
"""Pruning: what is removed, by which amount, and going on after a kill."""

from dataclasses import replace

import numpy as np
import pytest

from host.compression.prune import prune
from host.compression.recipe import PruneSettings
from nonzero.errors import UserError
from tests.support.killed import killed_after
from tests.support.stripes import SHORT, dataset, network, same, weights_during


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


def test_the_seed_decides_every_bit():
    one, other = (prune(network(), dataset(), SHORT, seed=3).network for _ in range(2))
    assert same(one, other)
    assert not same(one, prune(network(), dataset(), SHORT, seed=4).network)


def test_test_images_choose_nothing():
    data = dataset()
    other = replace(data, test_images=255 - data.test_images, test_labels=(data.test_labels + 1) % 3)
    assert same(prune(network(), data, SHORT).network, prune(network(), other, SHORT).network)




@pytest.mark.parametrize("epochs", [1, 2, 5, 9])
@pytest.mark.parametrize("changes", [{}, {"dropout": 0.2, "penalty": "l1", "distill": 0.5},
                                     {"freeze": (("fc1", "fc2"), ("fc3",)), "allocation": "uniform"},
                                     {"criterion": "magnitude", "allocation": "erdos-renyi"},
                                     {"broadcasts": 25.0, "activity_penalty": 0.01}])
def test_goes_on_after_a_kill_to_the_same_bits(tmp_path, monkeypatch, epochs, changes):
    settings = replace(SHORT, **changes)
    whole = prune(network(), dataset(), settings, 3)
    with killed_after(epochs, monkeypatch):
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
def test_settings_out_of_range_are_refused(settings, message):
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
