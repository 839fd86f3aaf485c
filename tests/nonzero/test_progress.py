# SPDX-License-Identifier: Apache-2.0
"""Progress bars appear on a terminal and nowhere else."""

import io
import sys

import numpy as np
import pytest

from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from tests.support.networks import SMALL, random_acts, random_network


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_packing_and_verification_tell_a_terminal_what_they_do(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    rng = np.random.default_rng(0)
    network = random_network(rng, SMALL, [20, 12, 3], 0.3)
    decoded = decode(parse_image(image_file(pack(network, SMALL)), SMALL), SMALL)
    acts = random_acts(rng, network, 20, 0.5)
    predict(decoded, acts, forward(network, acts))
    shown = sys.stderr.getvalue()
    for what in ("packing (the first time", "golden model: ", "cycle model (the first time", "cycle model:   0%"):
        assert (what in shown) == (stream is Terminal)
    assert stream is Terminal or shown == ""


def test_blocks_of_inputs_are_as_one():
    rng = np.random.default_rng(1)
    network = random_network(rng, SMALL, [20, 12, 3], 0.3)
    decoded = decode(parse_image(image_file(pack(network, SMALL)), SMALL), SMALL)
    acts = random_acts(rng, network, 21, 0.5)
    whole, single = (predict(decoded, part, forward(network, part)) for part in (acts, acts[17:18]))
    assert len(whole.pass_ends) == len(whole.counters["cycles"]) == 21
    assert {name: values[17] for name, values in whole.counters.items()} \
        == {name: values[0] for name, values in single.counters.items()}
    assert np.array_equal(whole.pass_ends[17], single.pass_ends[0])
    assert predict(decoded, acts[:0], forward(network, acts[:0])).useful_macs.shape == (0, 2)
