# SPDX-License-Identifier: Apache-2.0
"""Size of a compressed network, on the engine or on disk."""

import numpy as np
import pytest

from host.compression.share_weights import share_weights
from host.network.layers import Linear, Network
from host.study.measuring import distributions, engine, on_disk, on_engine
from host.study.subject import QUICK_EPOCHS, Effort, Subject
from nonzero.errors import UserError
from rtl.numbers import Activation
from tests.support.stripes import dataset, network


@pytest.mark.parametrize("code_bits", [4, 8])
def test_the_engine_holds_codebooks(tmp_path, code_bits):
    subject = Subject("lenet-300-100", dataset(), Effort.of(QUICK_EPOCHS), tmp_path)
    shared = share_weights(network(sizes=(49, 40, 40, 40, 40)), engine(code_bits, direct=False))
    found = on_engine(subject, shared, 100, 0.0, code_bits)
    assert found.place == "chip" and found.bits > code_bits * found.parameters


def test_what_the_engine_refuses_stays_on_disk(tmp_path, monkeypatch):
    subject = Subject("lenet-300-100", dataset(), Effort.of(QUICK_EPOCHS), tmp_path)
    net = network()
    net.layers[0].weight[:, :40] = 0
    chip = on_engine(subject, net, 100, 2.0)
    assert chip.place == "chip" and 0.9 < chip.parameters / net.weights_kept <= 1 and chip.seconds == 2.0

    def refuse(*_):
        raise UserError("too large")
    monkeypatch.setattr("host.study.measuring.pack", refuse)
    disk = on_engine(subject, net, 100, 2.0)
    biases = sum(layer.rows for layer in net.layers)
    assert disk.place == "disk" and disk.bits == 32 * (net.weights_kept + biases) + net.weights_total
    assert disk == on_disk(subject, net, 100, 2.0) and abs(disk.test_error - chip.test_error) < 20


def test_distributions_leave_out_zeros():
    one, other = (Network("", (Linear("a", np.array([weights], np.float32), np.zeros(1, np.float32),
                                      Activation.IDENTITY),)) for weights in ([0, -1, 1, 3], [0, 0, 0, 5]))
    found = distributions(one, other)["a"]
    assert found["edges"][0] == -1 and found["edges"][-1] == 5 and len(found["edges"]) == 61
    assert sum(found["before"]) == 3 and sum(found["after"]) == found["after"][-1] == 1
