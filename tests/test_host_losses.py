# SPDX-License-Identifier: Apache-2.0
"""What sharing and quantising lose is a warning that names the step and the layer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from host.compile import Settings, compile_model
from host.graph import Linear, Network
from host.losses import loss_note, quantizing_errors, sharing_errors
from host.quantize import quantize
from host.sharing import ShareSettings, share_weights
from rtl.config import PRESETS
from tests.stripes import network, run, write_files

CONFIG = PRESETS["tiny"]


def drawn(levels):
    """Three layers; the second one's weights are of so many values, the others' of 15."""
    rng = np.random.default_rng(3)

    def layer(name, rows, cols, count, relu):
        values = np.concatenate([-np.arange(1, count // 2 + 1), np.arange(1, count - count // 2 + 1)])
        weight = rng.choice(values, (rows, cols)) / (count * cols ** 0.5)
        return Linear(name, weight.astype(np.float32), rng.normal(0, 0.1, rows).astype(np.float32), relu)
    return Network("drawn", (layer("one", 30, 20, 15, True), layer("two", 30, 30, levels, True),
                             layer("three", 5, 30, 15, False)))


def test_the_error_of_sharing_is_that_of_the_layer_that_has_it():
    images = np.random.default_rng(4).random((100, 20), np.float32)
    exact = sharing_errors(drawn(15), share_weights(drawn(15), CONFIG), images)
    assert exact[0] < 1e-6 and max(exact[1]) < 1e-6
    many = drawn(901)
    shared = share_weights(many, CONFIG)
    total, own = sharing_errors(many, shared, images)
    wanted = run(many, images.astype(np.float64))
    error = run(shared.as_network(), images.astype(np.float64)) - wanted
    spread = wanted - wanted.mean(axis=0)
    assert total == pytest.approx((np.square(error).sum() / np.square(spread).sum()) ** 0.5, rel=1e-4)
    assert own[1] > 0.02 and max(own[0], own[2]) < 1e-6


def test_the_error_of_quantising_is_that_of_the_layer_that_has_it():
    images = np.random.default_rng(4).normal(size=(100, 20)).astype(np.float32)
    shared = share_weights(drawn(15), CONFIG)
    integers = quantize(shared, CONFIG, images)
    total, own = quantizing_errors(shared, integers, images)
    assert 0 < total < 0.08 and max(own) < 0.06
    broken = replace(integers.layers[1], bias=integers.layers[1].bias + 3000)
    worse, worse_own = quantizing_errors(shared, replace(integers, layers=(
        integers.layers[0], broken, integers.layers[2])), images)
    assert worse > 10 * total and int(np.argmax(worse_own)) == 1
    assert worse_own[0] == own[0] and worse_own[2] < 10 * own[2]


@pytest.mark.parametrize("points, errors, lost, layer", [
    (None, (0.04, [0.1, 0.2]), None, ""), (1.9, (0.9, [0.1, 0.2]), None, ""),
    (None, (0.06, [0.1, 0.2]), "accuracy: the outputs differ by 6% of their spread",
     "'fc2', whose outputs change by 20%"),
    (2.1, (0.01, [0.3, 0.2]), "2.1 points of test error", "'fc1', whose outputs change by 30%")])
def test_a_loss_beyond_its_bound_is_a_warning(points, errors, lost, layer):
    wanted = [f"warning: sharing weights loses {lost}; most of it in layer {layer} of theirs"] if lost else []
    assert loss_note("sharing weights", ["fc1", "fc2"], errors, points) == wanted


def notes_of(tmp_path, *, labels, bits):
    """Warnings of compiling a network that knows all labels, with codebooks of so many bits."""
    net = network()
    model, _ = write_files(tmp_path, net)
    images = np.random.default_rng(4).random((400, 49), np.float32)
    np.save(tmp_path / "calib.npy", images)
    answers = run(net, images.astype(np.float64)).argmax(axis=1)
    np.savez(tmp_path / "data.npz", train_images=images, train_labels=answers, test_images=images, test_labels=answers)
    given = {"data": f"npz:{tmp_path / 'data.npz'}"} if labels else {"calib": f"npy:{tmp_path / 'calib.npy'}"}
    work = compile_model(Settings(Path(model), CONFIG, "tiny", prune=False, sharing=ShareSettings(bits=bits, epochs=0),
                                  **given))
    return [note for note in work.notes if note.startswith("warning: ")]


@pytest.mark.parametrize("labels, lost", [(True, " points of test error; "), (False, "accuracy: the outputs differ ")])
def test_a_network_that_loses_much_is_warned_of(tmp_path, labels, lost):
    note = notes_of(tmp_path, labels=labels, bits=2)[0]
    assert note.startswith("warning: sharing weights loses ") and lost in note and " in layer 'fc" in note


def test_without_a_loss_there_is_no_warning(tmp_path):
    assert notes_of(tmp_path, labels=True, bits=4) == []
