# SPDX-License-Identifier: Apache-2.0
"""Predictions for each layer: its work, and the cycles that no engine can go below."""

import numpy as np

from host.cycle_model.predict import Prediction, predict
from host.decoding.decode import decode
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from rtl.protocol import COUNTERS
from tests.support.networks import SMALL, random_acts, random_network


def test_ideal_and_limit_are_of_work_and_broadcasts():
    """Two inferences of two layers on 4 PEs: of each layer the limit is the greater of its work and its broadcasts."""
    macs, broadcasts = np.array([[40, 8], [400, 80]]), np.array([[5, 3], [20, 30]])
    found = Prediction({}, np.zeros((2, 2), np.int64), macs, broadcasts)
    assert found.ideal_cycles(4).tolist() == [48 / 4, 480 / 4]
    assert found.limit_cycles(4).tolist() == [10 + 3, 100 + 30]


def test_layers_have_the_work_of_their_passes():
    """Rows in several passes: each pass broadcasts the layer's inputs once more."""
    rng = np.random.default_rng(0)
    network = random_network(rng, SMALL, [12, 60, 8], 0.5)
    packed = pack(network, SMALL)
    passes = [len(layer.passes) for layer in packed.layers]
    assert passes[0] > 1
    decoded = decode(parse_image(image_file(packed), SMALL), SMALL)
    acts = random_acts(rng, network, 3, 0.5)[:, :decoded.network.inputs]
    golden = forward(network, acts)
    found = predict(decoded, acts, golden)
    inputs = [acts, golden[0]]
    assert found.useful_macs.tolist() == [
        [int((layer.codes[:, values[number] != 0] != 0).sum()) for values, layer in zip(
            inputs, network.layers, strict=True)] for number in range(3)]
    assert found.broadcasts.tolist() == [
        [count * np.count_nonzero(values[number]) for count, values in zip(passes, inputs, strict=True)]
        for number in range(3)]
    assert found.counters.keys() == dict.fromkeys(COUNTERS).keys()
    assert found.counters["useful_macs"].tolist() == found.useful_macs.sum(axis=1).tolist()
    assert found.pass_ends.shape == (3, sum(passes)) and (np.diff(found.pass_ends, axis=1) > 0).all()
