# SPDX-License-Identifier: Apache-2.0
"""Weight sharing: clusters, fine-tuning of their centres, going on after a kill."""

from dataclasses import replace

import numpy as np
import pytest

from host.compression.kmeans import INITIALISATIONS, cluster
from host.compression.share_weights import ShareSettings, share_weights
from host.datasets import as_inputs
from host.network.layers import Network
from host.training.samples import split
from nonzero.errors import UserError
from tests.support.killed import killed_after
from tests.support.stripes import Widths, dataset, run, same, sparse_network


def test_cluster_finds_separate_groups():
    rng = np.random.default_rng(0)
    truth = np.array([-2.0, -0.5, 0.5, 3.0])
    members = rng.integers(0, 4, 1000)
    centres, found = cluster(truth[members] + rng.normal(0, 0.01, 1000), 4)
    assert np.array_equal(found, members) and np.allclose(centres, truth, atol=0.01)


def test_cluster_is_at_rest_and_optimal_for_its_members():
    weights = np.random.default_rng(1).normal(size=5000)
    centres, members = cluster(weights, 15)
    assert len(centres) == 15 and np.all(np.diff(centres) > 0)
    assert np.array_equal(members, np.abs(weights[:, None] - centres).argmin(axis=1))
    assert np.allclose(centres, [weights[members == index].mean() for index in range(15)])


def test_cluster_of_few_values_is_exact_and_without_empty_centres():
    weights = np.array([0.5, -1.0, 0.5, 2.0])
    centres, members = cluster(weights, 15)
    assert centres.tolist() == [-1.0, 0.5, 2.0] and np.array_equal(centres[members], weights)
    far = np.concatenate([np.linspace(0, 0.1, 50), [1000.0]])
    centres, members = cluster(far, 15)
    assert set(members.tolist()) == set(range(len(centres))) and centres[-1] == 1000


@pytest.mark.parametrize("code_bits", [4, 5, 8])
def test_zeros_have_code_zero_and_nothing_else_has(code_bits):
    net = sparse_network()
    shared = share_weights(net, Widths(code_bits=code_bits))
    for layer, codes in zip(net.layers, shared.layers, strict=True):
        assert codes.codes.dtype == np.uint8 and codes.codes.max() < 1 << code_bits
        assert codes.values.shape == (1 << code_bits,) and codes.values[0] == 0
        assert np.array_equal(codes.codes == 0, layer.weight == 0)
        spread = layer.weight[layer.weight != 0].std()
        assert np.abs(codes.weight - layer.weight).max() < spread * 8 / (1 << code_bits)


def test_fine_tuning_learns_and_shares_stay_shared():
    net, data = sparse_network(), dataset()
    coarse = share_weights(net, Widths())
    fine = share_weights(net, Widths(), data, ShareSettings(epochs=15, batch=50, learning_rate=0.02))
    assert len(fine.losses) == 15 and fine.losses[-1] < 0.5 * fine.losses[0]
    for before, after in zip(coarse.layers, fine.layers, strict=True):
        assert np.array_equal(before.codes, after.codes) and after.values[0] == 0
        used = np.unique(before.codes[before.codes > 0])
        # But for a centre whose weights feed neurons that never fire.
        assert (after.values[used] != before.values[used]).mean() > 0.9
    right = [(run(shared, as_inputs(data.test_images)).argmax(axis=1) == data.test_labels).mean()
             for shared in (coarse, fine)]
    assert right[0] < 0.9 < right[1]


def test_gradient_of_a_centre_is_the_sum_over_its_weights():
    """One step of plain Adam has the sign of the summed gradient."""
    data = dataset()
    net = sparse_network(sizes=(49, 3))
    coarse = share_weights(net, Widths())
    fine = share_weights(net, Widths(), data, ShareSettings(epochs=1, batch=500, learning_rate=1e-4))
    (layer,), (tuned,) = coarse.layers, fine.layers
    images, labels = split(data)[0]
    inputs = images.reshape(len(images), -1) / np.float64(255)
    outputs = inputs @ layer.weight.T + layer.bias
    probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    gradient = (probabilities - np.eye(3)[labels]).T @ inputs / len(inputs)
    for code in range(1, 16):
        moved = tuned.values[code] - layer.values[code]
        assert np.sign(moved) == -np.sign(gradient[layer.codes == code].sum())


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_each_initialisation_comes_to_rest(initialisation):
    weights = np.random.default_rng(1).normal(size=5000)
    centres, members = cluster(weights, 15, initialisation, seed=2)
    assert len(centres) == 15 and np.all(np.diff(centres) > 0)
    assert np.array_equal(members, np.abs(weights[:, None] - centres).argmin(axis=1))
    assert np.square(weights - centres[members]).mean() < 0.02


def test_first_centres_are_linear_by_density_or_random():
    """Outliers show where each kind of first centres lies."""
    weights = np.concatenate([np.linspace(-1, 1, 1000), [50.0, 51.0, 80.0, 100.0]])
    largest = {kind: cluster(weights, 7, kind, seed=1)[0] for kind in INITIALISATIONS}
    assert (largest["linear"] > 2).sum() >= 3  # the few great ones are represented
    assert (largest["density"] > 2).sum() == 1  # nearly all centres lie where most weights are
    assert np.array_equal(largest["random"], cluster(weights, 7, "random", seed=1)[0])
    spread = np.random.default_rng(1).normal(size=200)
    assert not np.array_equal(cluster(spread, 7, "random", seed=1)[0], cluster(spread, 7, "random", seed=2)[0])


@pytest.mark.parametrize("bits", range(2, 9))
def test_bits_set_the_number_of_codes(bits):
    shared = share_weights(sparse_network(), Widths(code_bits=8), settings=ShareSettings(bits=bits))
    for layer, before in zip(shared.layers, sparse_network().layers, strict=True):
        assert layer.codes.max() == min((1 << bits) - 1, len(np.unique(before.weight[before.weight != 0])))
        assert layer.values.shape == (256,)

    def error(bits):
        shared = share_weights(sparse_network(), Widths(code_bits=8), settings=ShareSettings(bits=bits))
        return sum(np.square(one.weight - before.weight).sum()
                   for one, before in zip(shared.layers, sparse_network().layers, strict=True))
    assert bits == 2 or error(bits) < error(2)


def test_the_shared_network_is_what_was_tuned():
    data = dataset()
    shared = share_weights(sparse_network(), Widths(), data, ShareSettings(epochs=3, batch=50, learning_rate=0.02))
    images, labels = split(data)[1]
    outputs = run(shared.as_network(), images.reshape(len(images), -1) / np.float64(255))
    assert shared.held_out_errors[-1] == pytest.approx(100 * (outputs.argmax(axis=1) != labels).mean())
    assert shared.iterations == 3 * (458 // 50) and shared.seconds > 0 and len(shared.losses) == 3
    assert isinstance(shared.as_network(), Network)


@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_goes_on_after_a_kill_to_the_same_bits(tmp_path, monkeypatch, epochs):
    settings, path = ShareSettings(epochs=4, batch=50, augment=0.5), tmp_path / "sharing.checkpoint"
    whole = share_weights(sparse_network(), Widths(), dataset(), settings, 3)
    with killed_after(epochs, monkeypatch):
        share_weights(sparse_network(), Widths(), dataset(), settings, 3, path)
    resumed = share_weights(sparse_network(), Widths(), dataset(), settings, 3, path)
    assert same(resumed, whole) and resumed.losses == whole.losses
    assert resumed.held_out_errors == whole.held_out_errors
    for other in (replace(settings, epochs=5), replace(settings, bits=3)):
        assert same(share_weights(sparse_network(), Widths(), dataset(), other, 3, path),
                    share_weights(sparse_network(), Widths(), dataset(), other, 3))


def test_share_settings_and_data_that_do_not_fit():
    with pytest.raises(UserError) as caught:
        share_weights(sparse_network(), Widths(), dataset(), ShareSettings(
            epochs=-1, batch=0, learning_rate=0.0, augment=9.0, bits=5, initialisation="even"))
    assert [problem.split(" of weight")[0] for problem in caught.value.problems] == [
        "initialisation", "bits", "epochs", "batch", "augment", "learning rate"]
    assert caught.value.problems[1].endswith("must be 2 to 4, the engine's code_bits, not 5")
    with pytest.raises(UserError, match="has 49 values for each image, but the network has 50 inputs"):
        share_weights(sparse_network(sizes=(50, 4, 3)), Widths(), dataset())
