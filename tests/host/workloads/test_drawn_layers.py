# SPDX-License-Identifier: Apache-2.0
"""Random layers have the densities that they are drawn with."""

import numpy as np
import pytest

from host.workloads.drawn_layers import draw
from host.workloads.eie_layers import CONFIG, Layer


def test_drawn_layers_have_their_densities():
    layer = Layer("drawn", 1000, 500, 0.2, 0.3)
    for uneven in (False, True):
        network, acts = draw(layer, CONFIG, 1, 20, uneven=uneven)
        kept = network.layers[0].codes != 0
        assert kept.mean() == pytest.approx(0.2, rel=0.02) and (acts != 0).mean() == pytest.approx(0.3, rel=0.05)
        for axis in (0, 1):
            shares = np.sort(kept.mean(axis=axis))
            spread = shares[-len(shares) // 10:].mean() / shares[:len(shares) // 10].mean()
            assert (2.5 < spread < 4.5) if uneven else spread < 1.7
    again = draw(layer, CONFIG, 1, 20, uneven=True)
    assert np.array_equal(again[0].layers[0].codes, network.layers[0].codes) and np.array_equal(again[1], acts)
