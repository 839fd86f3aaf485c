# SPDX-License-Identifier: Apache-2.0
"""Pruning: what is removed, what stays removed, and that dead neurons go without a trace."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from host.datasets import Dataset
from host.errors import UserError
from host.graph import Linear, Network
from host.learning import split
from host.prune import PruneSettings, prune, remove_dead_neurons, spread_density
from host.resuming import read_state, write_state


def network(seed=0, sizes=(49, 40, 20, 3)):
    rng = np.random.default_rng(seed)
    return Network("small", tuple(
        Linear(f"fc{index + 1}", rng.normal(0, cols ** -0.5, (rows, cols)).astype(np.float32),
               rng.normal(0, 0.1, rows).astype(np.float32), index < len(sizes) - 2)
        for index, (cols, rows) in enumerate(pairwise(sizes))))


def dataset(count=600):
    """7 x 7 images of three classes: a bright stripe in one third of the image."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 3, count)
    images = rng.integers(0, 100, (count, 7, 7), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label:2 * label + 2] += 100
    return Dataset("stripes", images[100:], labels[100:], images[:100], labels[:100])


SHORT = PruneSettings(density=0.1, rounds=4, round_epochs=2, final_epochs=4, batch=50, learning_rate=0.01,
                      final_learning_rate=0.02, augment=0.3)


def run(net, inputs):
    for layer in net.layers:
        inputs = inputs @ layer.weight.astype(np.float64).T + layer.bias
        inputs = np.maximum(inputs, 0) if layer.relu else inputs
    return inputs


def same(one, other):
    return all(np.array_equal(a.weight, b.weight) and np.array_equal(a.bias, b.bias)
               for a, b in zip(one.layers, other.layers, strict=True))


def test_one_shot_keeps_the_greatest_weights():
    net = network()
    result = prune(net, None, PruneSettings(keep={"fc1": 0.25, "fc2": 0.5}))
    for before, after, fraction in zip(net.layers, result.network.layers, (0.25, 0.5, 1.0), strict=True):
        kept = after.weight != 0
        assert np.array_equal(after.weight[kept], before.weight[kept])
        assert kept.sum() == round(fraction * kept.size)
        assert np.abs(before.weight[kept]).min() >= np.abs(before.weight[~kept]).max(initial=0)
    (record,) = result.history
    assert record.kept == {"fc1": 490, "fc2": 400, "fc3": 60} and record.test_error is None
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


def test_dead_neurons_are_removed_and_the_function_stays():
    net = network()
    one, two, three = (layer.weight.copy() for layer in net.layers)
    one[[3, 5, 7]] = 0         # no inputs: constant outputs
    two[:, [8, 9]] = 0         # no outputs
    two[4] = 0
    two[6, [i for i in range(40) if i not in (3, 5)]] = 0  # inputs from dead neurons only
    three[:, 11] = 0
    net = net.with_weights({"fc1": one, "fc2": two, "fc3": three},
                           {layer.name: layer.bias for layer in net.layers})
    cleaned = remove_dead_neurons(net)
    one, two, three = (layer.weight for layer in cleaned.layers)
    assert not two[:, [3, 5, 7]].any() and not one[[8, 9]].any()
    assert not three[:, [4, 6]].any() and not two[11].any()
    assert not cleaned.layers[0].bias[[3, 5, 7, 8, 9]].any() and not cleaned.layers[1].bias[[4, 6, 11]].any()
    assert cleaned.weights_kept < net.weights_kept
    inputs = np.random.default_rng(1).uniform(size=(50, 49))
    assert np.allclose(run(cleaned, inputs), run(net, inputs), rtol=0, atol=1e-5)
    assert same(remove_dead_neurons(cleaned), cleaned)


def test_death_spreads_through_layers_without_relu():
    net = network(sizes=(5, 4, 3, 2))
    net = replace(net, layers=tuple(replace(layer, relu=False) for layer in net.layers))
    third = net.layers[2].weight.copy()
    third[:] = 0
    net = replace(net, layers=(*net.layers[:2], replace(net.layers[2], weight=third)))
    cleaned = remove_dead_neurons(net)
    assert cleaned.weights_kept == 0 and not cleaned.layers[0].bias.any()
    assert np.array_equal(cleaned.layers[2].bias, net.layers[2].bias)
    first = replace(net.layers[0], weight=np.zeros((4, 5), np.float32))
    blind = replace(network(sizes=(5, 4, 3, 2)), layers=(first, *network(sizes=(5, 4, 3, 2)).layers[1:]))
    cleaned = remove_dead_neurons(blind)
    assert cleaned.weights_kept == 0
    assert np.allclose(cleaned.layers[2].bias, run(blind, np.zeros((1, 5)))[0], atol=1e-6)


def test_retraining_learns_and_removed_weights_stay_removed():
    net = network()
    result = prune(net, dataset(), SHORT)
    history = result.history
    assert len(history) == 4 and all(record.test_error is not None for record in history)
    assert all(later.density < earlier.density for earlier, later in pairwise(history))
    assert result.network.weights_kept == sum(history[-1].kept.values()) <= round(0.1 * net.weights_total)
    assert result.network.weights_kept > 0.09 * net.weights_total
    assert history[-1].test_error == 0 and history[-1].losses[-1] < history[0].losses[0]
    assert len(history[-1].losses) == len(history[-1].held_out_errors) == 4
    one_round = prune(result.network, dataset(), replace(SHORT, density=1.0, rounds=1))
    for before, after in zip(result.network.layers, one_round.network.layers, strict=True):
        assert np.array_equal(before.weight != 0, after.weight != 0)
        assert not np.array_equal(before.weight, after.weight)


def test_the_seed_decides_every_bit():
    one, other = (prune(network(), dataset(), SHORT, seed=3).network for _ in range(2))
    assert same(one, other)
    assert not same(one, prune(network(), dataset(), SHORT, seed=4).network)


@pytest.mark.parametrize("saves", [1, 2, 3, 9])
def test_interrupted_retraining_goes_on_to_the_same_bits(tmp_path, monkeypatch, saves):
    """After the first and the second epoch of the first round, in the second round, in the last."""
    checkpoint = tmp_path / "pruning.checkpoint"
    expected = prune(network(), dataset(), SHORT)
    left = [None] * saves

    def write(path, state):
        write_state(path, state)
        left.pop()
        if not left:
            raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr("host.prune.write_state", write)
        with pytest.raises(KeyboardInterrupt):
            prune(network(), dataset(), SHORT, checkpoint=checkpoint)
    epochs = []
    monkeypatch.setattr("host.prune.write_state", lambda path, state: epochs.append(path))
    result = prune(network(), dataset(), SHORT, checkpoint=checkpoint)
    assert same(result.network, expected.network) and result.history == expected.history
    assert len(epochs) == sum(len(one.losses) for one in expected.history) - saves


@pytest.mark.parametrize("change", [{"seed": 1}, {"settings": replace(SHORT, rounds=3)}, {"network": network(seed=1)},
                                    {"dataset": dataset(599)}])
def test_a_checkpoint_of_other_inputs_is_replaced(tmp_path, change):
    checkpoint = tmp_path / "pruning.checkpoint"
    inputs = {"network": network(), "dataset": dataset(), "settings": SHORT, "seed": 0}
    prune(**(inputs | change), checkpoint=checkpoint)
    assert same(prune(**inputs, checkpoint=checkpoint).network, prune(**inputs).network)


def test_a_damaged_checkpoint_is_replaced(tmp_path):
    checkpoint = tmp_path / "pruning.checkpoint"
    checkpoint.write_bytes(b"PK")
    assert same(prune(network(), dataset(), SHORT, checkpoint=checkpoint).network,
                prune(network(), dataset(), SHORT).network)
    assert read_state(checkpoint)["identity"]


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


def test_split_is_random_and_complete():
    data = dataset()
    (images, labels), (held_images, held_labels) = split(data, 0.1, seed=1)
    assert (len(labels), len(held_labels), len(images), len(held_images)) == (450, 50, 450, 50)
    both = np.concatenate([images, held_images]).reshape(500, -1)
    assert np.array_equal(np.unique(both, axis=0), np.unique(data.train_images.reshape(500, -1), axis=0))
    assert not np.array_equal(held_labels, split(data, 0.1, seed=2)[1][1])


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
    (replace(SHORT, held_out=0.9), "held_out must be above 0 and at most 0.5, not 0.9"),
    (replace(SHORT, augment=-1.0), "augment must be 0 to 4, not -1.0"),
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
