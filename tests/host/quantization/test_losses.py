# SPDX-License-Identifier: Apache-2.0
"""A step of the compiler that costs much is named, with the layer that loses most; one that costs little is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from host.compile import main
from host.compression.prune import prune
from host.compression.recipe import PruneSettings
from host.compression.share_weights import ShareSettings, share_weights
from host.network.layers import Conv2d, Geometry, Linear, Network
from host.quantization.losses import float_values, integer_values, loss_notes
from host.quantization.quantize import quantize
from nonzero.errors import run_command
from rtl.config import PRESETS
from rtl.numbers import Activation

RNG = np.random.default_rng(0)


def layer(name, rows, cols, activation=Activation.RELU):
    return Linear(name, RNG.normal(0, 1 / np.sqrt(cols), (rows, cols)).astype(np.float32),
                  RNG.normal(0, 0.1, rows).astype(np.float32), activation)


NETWORK = Network("small", (layer("a", 30, 20), layer("b", 30, 30), layer("c", 5, 30, Activation.IDENTITY)))
CONVOLUTIONS = Network("conv", (
    Conv2d("a", RNG.normal(0, 0.3, (4, 9)).astype(np.float32), np.zeros(4, np.float32), Activation.RELU,
           Geometry((1, 8, 8), (3, 3), pool=2, pool_stride=2)), layer("b", 10, 36),
    layer("c", 3, 10, Activation.IDENTITY)))
IMAGES = {"small": RNG.integers(0, 256, (300, 20), np.uint8), "conv": RNG.random((40, 1, 8, 8), np.float32)}


def spoilt(network, name, share):
    """The network with noise of this share of the weights of one layer."""
    layers = [replace(one, weight=one.weight + (one.name == name) * np.float32(share * one.weight.std())
                      * RNG.normal(size=one.weight.shape).astype(np.float32)) for one in network.layers]
    return replace(network, layers=tuple(layers))


@pytest.mark.parametrize("network", [NETWORK, CONVOLUTIONS])
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_the_layer_that_loses_most_is_named(network, name):
    images = IMAGES[network.name]
    broken = spoilt(spoilt(network, name, 2), "abc"["abc".index(name) - 1], 0.2)
    note, = loss_notes("weight sharing", network, float_values(broken), images)
    assert note.startswith("weight sharing costs ") and f"; layer '{name}' loses most; give --data to fine-t" in note
    assert loss_notes("weight sharing", network, float_values(spoilt(network, name, 0.001)), images) == []
    assert loss_notes("weight sharing", network, float_values(network), images) == []


def test_the_share_is_that_of_torch():
    model = nn.Sequential(*(module for one in NETWORK.layers for module in (nn.Linear(one.cols, one.rows), nn.ReLU())))
    last = replace(NETWORK.layers[2], weight=NETWORK.layers[2].weight * 2)
    twice = replace(NETWORK, layers=(*NETWORK.layers[:2], last))
    outputs = []
    for network in (NETWORK, twice):
        for module, one in zip(model[::2], network.layers, strict=True):
            module.weight.data, module.bias.data = torch.from_numpy(one.weight), torch.from_numpy(one.bias)
        with torch.no_grad():
            outputs.append(model[:-1](torch.from_numpy(IMAGES["small"][:256] / np.float32(255))))
    expected = 100 * float((outputs[1] - outputs[0]).norm() / (outputs[0] - outputs[0].mean(0)).norm())
    note, = loss_notes("pruning", NETWORK, float_values(twice), IMAGES["small"][:256])
    assert note == (f"pruning costs {expected:.0f} % of the outputs' standard deviation on the calibration inputs; "
                    "layer 'c' loses most; give --data to retrain, or keep more with --density")


def test_what_all_outputs_have_alike_hides_no_loss():
    """An error that is small beside the outputs, but as large as their differences."""
    one = replace(NETWORK.layers[2], bias=NETWORK.layers[2].bias + 1e4)
    network = replace(NETWORK, layers=(*NETWORK.layers[:2], one))
    note, = loss_notes("quantisation", network, float_values(spoilt(network, "a", 2)), IMAGES["small"])
    alike, = loss_notes("quantisation", NETWORK, float_values(spoilt(NETWORK, "a", 2)), IMAGES["small"])
    assert note.startswith("quantisation costs ") and "layer 'a'" in note and "layer 'a'" in alike


def test_with_labels_points_of_error_count():
    broken = float_values(spoilt(NETWORK, "b", 2))
    for errors in ((3.0, 4.9), (3.0, 5.0), (9.0, 3.0)):
        assert loss_notes("quantisation", NETWORK, broken, IMAGES["small"], errors) == []
    note, = loss_notes("quantisation", NETWORK, broken, IMAGES["small"], (3.0, 5.5))
    assert note.startswith("quantisation costs 2.5 points of test error (3.00 % before, 5.50 % after); layer "
                           "'b' loses most; give --calib")
    note, = loss_notes("weight sharing", NETWORK, broken, IMAGES["small"], (3.0, 5.5))
    assert note.endswith("'b' loses most; give more --share-epochs, or an engine with more code_bits")
    note, = loss_notes("quantisation", NETWORK, broken, IMAGES["small"], (None, None))
    assert "% of the outputs' standard deviation" in note


@pytest.mark.parametrize("network", [NETWORK, CONVOLUTIONS])
def test_integers_compute_nearly_what_floats_compute(network):
    images = IMAGES[network.name]
    config = PRESETS["conv"]
    shared = share_weights(network, config, settings=ShareSettings(epochs=0))
    quantized = quantize(shared, config, images)
    exact, found = float_values(shared.as_network())(images), integer_values(quantized)(images)
    assert len(exact) == 1 + len(network.layers)  # the inputs as well
    for values, others in zip(exact, found, strict=True):
        assert np.linalg.norm(values - others) < 0.1 * np.linalg.norm(values)
    for number in range(len(network.layers)):
        layers = list(quantized.layers)
        layers[number] = replace(layers[number], bias=layers[number].bias + 3000)
        broken = integer_values(replace(quantized, layers=tuple(layers)))
        note, = loss_notes("quantisation", shared.as_network(), broken, images)
        assert f"; layer '{'abc'[number]}' loses most; " in note


def test_inputs_that_are_cut_off_are_named():
    shared = share_weights(NETWORK, PRESETS["default"], settings=ShareSettings(epochs=0))
    quantized = quantize(shared, PRESETS["default"], RNG.random((50, 20), np.float32))
    note, = loss_notes("quantisation", shared.as_network(), integer_values(quantized),
                       3 * RNG.random((50, 20), np.float32) - 2)
    assert "; the rounding of the inputs loses most; give --calib" in note


def test_pruning_without_data_keeps_the_shapes_beside():
    result = prune(NETWORK, None, PruneSettings(density=0.05))
    assert [one.weight.shape for one in result.whole.layers] == [one.weight.shape for one in NETWORK.layers]
    values, others = (float_values(one)(IMAGES["small"])[-1] for one in (result.whole, result.network))
    assert np.allclose(values, others, atol=1e-5)


def test_the_compiler_tells_what_a_step_costs(tmp_path, capsys):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 5))
    torch.save(model, tmp_path / "model.pt")
    np.save(tmp_path / "inputs.npy", IMAGES["small"])
    arguments = [str(tmp_path / "model.pt"), "-o", str(tmp_path / "out"), "--calib", f"npy:{tmp_path / 'inputs.npy'}",
                 "--max-loss", "100"]
    for options, step, before in ((["--density", "0.1"], "pruning", "share: "),
                                  (["--no-prune", "--share-bits", "2"], "weight sharing", "quantize: ")):
        assert run_command(main, [*arguments, *options]) == 0
        told = capsys.readouterr()
        place = told.err.index(f"note: {step} costs ")
        assert "' loses most; give " in told.err[place:place + 200] and place < told.err.index(before)
        assert f"{step} costs " in told.out
