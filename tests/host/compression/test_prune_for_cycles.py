# SPDX-License-Identifier: Apache-2.0
"""Pruning for cycles: inputs and neurons that are not worth their broadcasts go, and fewer neurons are active."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from host.compression.prune import prune
from host.compression.prune_for_cycles import activity, keep_worthy
from host.compression.recipe import PruneSettings
from host.compression.retrain import Retraining
from host.network.activate import activate
from host.network.layers import Conv2d, Geometry, Linear, Network
from host.training.samples import Samples, split
from nonzero.errors import UserError
from rtl.numbers import Activation
from tests.support.stripes import dataset, network, run, same

SHORT = PruneSettings(density=0.2, rounds=3, round_epochs=2, final_epochs=4, batch=50, learning_rate=0.01,
                      final_learning_rate=0.02, augment=0.3, broadcasts=25.0)


def broadcasts(net, images):
    """Broadcasts of a mean image: its inputs and hidden neurons that are not zero and have weights."""
    total, acts = 0.0, images.reshape(len(images), -1) / 255
    for number, layer in enumerate(net.layers):
        total += (acts[:, layer.weight.any(axis=0)] != 0).sum() / len(images)
        acts = run(replace(net, layers=net.layers[number:number + 1]), acts)
        acts = activate(acts, layer.activation)
    return total


def test_activity_counts_what_is_not_zero():
    net, images = network(), dataset().train_images
    found = activity(net, images)
    inputs = images.reshape(len(images), -1)
    assert np.allclose(found[0], (inputs != 0).mean(axis=0)) and [len(one) for one in found] == [49, 40, 20]
    hidden = np.maximum(run(replace(net, layers=net.layers[:1]), inputs / 255), 0)
    assert np.allclose(found[1], (hidden > 0).mean(axis=0), atol=0.01)


def test_inputs_with_the_least_saliency_for_a_broadcast_are_removed():
    layers = (Linear("fc1", np.ones((2, 4), np.float32), np.zeros(2, np.float32), Activation.RELU),
              Linear("fc2", np.ones((3, 2), np.float32), np.zeros(3, np.float32), Activation.IDENTITY))
    net = Network("small", layers)
    saliency = [np.array([[4.0, 1, 0, 2], [0, 1, 0, 1]]), np.ones((3, 2))]
    # Inputs are worth 4, 2, 0 and 3, neurons 7 and 2; for a broadcast 4, 20, 0, 6, 7 and 4 / 3.
    often = [np.array([1.0, 0.1, 0.5, 0.5]), np.array([1.0, 1.5])]
    found = keep_worthy(net, saliency, often, 1.7, 1)
    assert np.array_equal(found.layers[0].weight, [[0, 1, 0, 1], [0, 0, 0, 0]])
    assert np.array_equal(found.layers[1].weight, [[1, 0]] * 3)
    # With another round to come, down to the square root of 4.1 times 1.7: one more input stays.
    found = keep_worthy(net, saliency, often, 1.7, 2)
    assert np.array_equal(found.layers[0].weight, [[1, 1, 0, 1], [0, 0, 0, 0]])
    assert same(keep_worthy(net, saliency, often, 100.0, 1), net)


def test_a_channel_is_broadcast_once_for_each_pixel():
    weight = np.ones((4, 4), np.float32)
    conv = Conv2d("conv", weight, np.zeros(4, np.float32), Activation.RELU, Geometry((2, 2, 2), (2, 1), groups=1))
    net = Network("small", (conv, Linear("fc", np.ones((3, 8), np.float32), np.zeros(3, np.float32),
                                         Activation.IDENTITY)))
    assert [len(one) for one in activity(net, np.ones((5, 8), np.float32))] == [8, 8]
    often = [np.array([1.0, 1, 1, 1, 0.25, 0.25, 0.25, 0.25]), np.array([0.5, 0.5, 1, 1, 0.1, 0.1, 1, 1])]
    found = keep_worthy(net, [weight, np.ones((3, 8))], often, 2.5, 1)
    # The second channel of the input costs 1 and the first 4, those of the convolution 1, 2, 0.2 and 2.
    assert np.array_equal(found.layers[0].weight, [[0, 0, 1, 1], [0] * 4, [0, 0, 1, 1], [0] * 4])
    assert np.array_equal(found.layers[1].weight, [[1, 1, 0, 0, 1, 1, 0, 0]] * 3)


def test_pruning_ends_with_the_broadcasts_asked_for(monkeypatch):
    data, seen = dataset(), []
    begin = Retraining.begin

    def spy(self, net, names):
        seen.append(net)
        begin(self, net, names)
    monkeypatch.setattr(Retraining, "begin", spy)
    prune(network(), data, SHORT)
    images = split(data)[0][0]
    before = broadcasts(network(), images)
    found = [broadcasts(net, images) for net in seen]
    assert before > found[0] > found[1] > found[2] and 20 < found[2] <= 25
    assert found[0] == pytest.approx(before * (25 / before) ** (1 / 3), abs=1)


def test_unused_inputs_are_not_trained_with(monkeypatch):
    """Training without the unused inputs has the same losses, but for rounding."""
    shapes, losses = [], []
    run_round = Retraining.run

    def spy(self, *arguments):
        shapes.append(self.weights[0].shape)
        run_round(self, *arguments)
        losses.append(self.curve["losses"])
    monkeypatch.setattr(Retraining, "run", spy)
    small = prune(network(), dataset(), SHORT).network
    assert shapes[-1][1] == np.count_nonzero(small.layers[0].weight.any(axis=0)) < 40 and small.inputs == 49
    monkeypatch.setattr(Retraining, "used_inputs", lambda self, net: None)
    prune(network(), dataset(), replace(SHORT, rounds=1))
    monkeypatch.undo()
    monkeypatch.setattr(Retraining, "run", spy)
    prune(network(), dataset(), replace(SHORT, rounds=1))
    assert shapes[-2][1] == 49 > shapes[-1][1] and losses[-1] == pytest.approx(losses[-2], rel=1e-3)


def test_samples_of_some_inputs():
    data = dataset()
    places = np.array([3, 40, 7])
    for augment in (0.0, 0.5):
        samples = Samples(data.train_images, data.train_labels, augment=augment)
        whole = next(samples.batches(50, torch.Generator().manual_seed(1)))[0]
        samples.want(places)
        some = next(samples.batches(50, torch.Generator().manual_seed(1)))[0]
        assert some.shape == (50, 3) and np.allclose(some, whole[:, places], atol=1e-5)


def test_a_penalty_on_activations_makes_fewer_neurons_active():
    images = split(dataset())[0][0]
    plain, penalised = (prune(network(), dataset(), replace(SHORT, broadcasts=None, activity_penalty=strength))
                        for strength in (0.0, 0.05))
    assert sum(map(np.sum, activity(penalised.network, images)[1:])) < \
        0.7 * sum(map(np.sum, activity(plain.network, images)[1:]))
    assert penalised.history[-1].held_out_errors[-1] < 5


@pytest.mark.parametrize(("changes", "message"), [
    ({"broadcasts": 0.5}, "broadcasts must be 1 or more, not 0.5"),
    ({"broadcasts": float("nan")}, "broadcasts must be 1 or more, not nan"),
    ({"activity_penalty": -0.1}, "activity_penalty must be 0 to 1, not -0.1"),
])
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(UserError) as caught:
        prune(network(), dataset(), replace(SHORT, **changes))
    assert caught.value.problems == [message]


def test_broadcasts_need_data():
    with pytest.raises(UserError, match="broadcasts needs --data: training images show how often neurons are active"):
        prune(network(), None, SHORT)
