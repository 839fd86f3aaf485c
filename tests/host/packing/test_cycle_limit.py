# SPDX-License-Identifier: Apache-2.0
"""The watchdog's limit: above what any inference takes, and not far above."""

from dataclasses import replace

import numpy as np
import pytest

from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.image.image import parse_image
from host.packing.cycle_limit import MARGIN, cycle_limit
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from rtl.image_format import LIMIT_STEP, header_layout
from rtl.structure import counter_bits
from tests.support.networks import SMALL, random_acts, random_network


def cycles(network, config, acts):
    """The limit, what the header of the image says of it, and what these activations take by the cycle model."""
    packed = pack(network, config)
    image = parse_image(image_file(packed), config)
    header = header_layout().from_bits(int.from_bytes(image.engine[:header_layout().size // 8], "little"))
    found = predict(decode(image, config), acts, forward(network, acts))
    return cycle_limit(packed), int(header.cycle_limit), found.counters["cycles"]


@pytest.mark.parametrize("density, queue", [(0.05, 16), (0.3, 32), (1.0, 16)])
def test_no_inference_comes_to_the_limit(density, queue):
    rng = np.random.default_rng(3)
    config = replace(SMALL, queue_depth=queue)
    for _ in range(10):
        network = random_network(rng, config, [int(size) for size in rng.integers(1, 28, 3)], density)
        limit, stored, taken = cycles(network, config, random_acts(rng, network, 3, 1.0))
        assert stored == limit and limit % LIMIT_STEP == 0
        # Without the margin it holds as well.
        assert taken.max() < limit / MARGIN + LIMIT_STEP
        assert limit < 3 * MARGIN * taken.max() + 2 * LIMIT_STEP


def test_the_engine_can_count_to_the_limit(monkeypatch):
    monkeypatch.setattr("host.packing.cycle_limit.PASS_CYCLES", 1 << 40)
    network = random_network(np.random.default_rng(1), SMALL, [8, 4], 0.5)
    assert cycle_limit(pack(network, SMALL)) == (1 << counter_bits(SMALL)) - LIMIT_STEP
