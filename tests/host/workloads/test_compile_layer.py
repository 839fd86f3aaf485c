# SPDX-License-Identifier: Apache-2.0
"""A drawn layer gets an engine that holds it."""

import dataclasses

from host.workloads.compile_layer import Options, compile_drawn, compile_layer
from host.workloads.drawn_layers import draw
from host.workloads.eie_layers import CONFIG, Layer
from tests.support.networks import SMALL


def test_outputs_are_neither_all_zero_nor_saturated():
    network, acts = draw(Layer("drawn", 1000, 500, 0.2, 0.3), CONFIG, 1, 4)
    outputs = compile_drawn(network, acts, Options()).outputs[0]
    assert 0.2 < (outputs > 0).mean() < 0.8 and (outputs == 255).mean() < 0.05 and outputs.max() > 60


def test_memories_grow_to_hold_a_layer():
    network, _ = draw(Layer("large", 700, 400, 0.3, 0.5), SMALL, 1, 0)
    config = compile_layer(network, Options(SMALL)).config
    assert (config.acc_depth, config.act_depth, config.slice_depth) == (128, 512, 1024)
    assert dataclasses.replace(config, acc_depth=8, act_depth=32, slice_depth=256, entry_depth=512) == SMALL
    tiny, _ = draw(Layer("tiny", 60, 30, 0.3, 0.5), SMALL, 1, 0)
    assert compile_layer(tiny, Options(SMALL)).config == SMALL


def test_words_get_wider_where_depth_does_not_suffice():
    config = dataclasses.replace(SMALL, pes=2, entries_per_word=2, slice_word_bits=8)
    network, _ = draw(Layer("full", 1100, 300, 1.0, 1.0), config, 1, 0)
    grown = compile_layer(network, Options(config, order=False)).config
    assert (grown.entries_per_word, grown.entry_depth) == (4, 65536)
