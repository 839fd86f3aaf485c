# SPDX-License-Identifier: Apache-2.0
"""Where activations lie: three channels of three pixels, and the words of two PEs."""

from types import SimpleNamespace

import numpy as np

from host.image.activation_layout import ActivationLayout
from host.network.layers import Geometry

LAYOUT = ActivationLayout(np.array([2, 0, -1, 1]), 2, 3)
"""A pixel takes two words: channels 2 and 0, then nothing and channel 1."""

VALUES = [6, 0, -1, 3, 7, 1, -1, 4, 8, 2, -1, 5]
"""In torch's order channel 0 is the values 0 to 2, channel 1 the values 3 to 5, channel 2 the values 6 to 8."""


def test_pixels_lie_in_whole_words():
    assert (LAYOUT.pixel_words, LAYOUT.words) == (2, 6)
    assert LAYOUT.values.tolist() == VALUES


def test_every_channel_has_a_place_in_a_pixel():
    assert LAYOUT.channel_positions.tolist() == [1, 3, 0]


def test_a_convolution_reads_pixels_and_a_fully_connected_layer_all_of_them_as_one():
    assert LAYOUT.read_by(SimpleNamespace(geometry=Geometry((3, 1, 3), (1, 1)))) is LAYOUT
    flat = LAYOUT.read_by(SimpleNamespace(geometry=None))
    assert (flat.pixels, flat.words, flat.pixel_words) == (1, 6, 6)
    assert flat.channels.tolist() == flat.values.tolist() == VALUES
    assert flat.channel_positions.tolist() == [1, 5, 9, 3, 7, 11, 0, 4, 8]
