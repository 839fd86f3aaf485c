# SPDX-License-Identifier: Apache-2.0
"""Graphs and modules: what is left out, folded or used again computes what torch computes."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune

from host.importers.load_network import load_network
from host.importers.torch_archive import EXPORT
from tests.support.model_files import Own, check, problems, write


@pytest.mark.parametrize("kind", ["pt", "pt2", "onnx"])
@pytest.mark.parametrize(("softmax", "text"), [
    (nn.Softmax(1), "is a softmax over axis 1 of 3 x 4 x 4 outputs"),
    (nn.LogSoftmax(-1), "is a softmax over axis "), (nn.Softmax(0), "over another axis than the outputs"),
])
def test_a_softmax_over_each_pixel_is_refused(tmp_path, kind, softmax, text):
    path = write(tmp_path, kind, nn.Sequential(nn.Conv2d(1, 3, 3), softmax, nn.Flatten()), (1, 6, 6))
    lines = problems(path, input_shape=(1, 6, 6) if kind == "pt" else None)
    assert text in lines[0] or "softmax over another axis" in lines[0]


def test_a_layer_used_twice_is_two_layers(tmp_path):
    layer = nn.Linear(6, 6)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(6, 2))
    for kind in ("pt", "pt2", "onnx"):
        network = check(load_network(write(tmp_path, kind, model, (6,))), model, (6,))
        assert len({one.name for one in network.layers}) == 3
    network = load_network(write(tmp_path, "pt2", model, (6,)))
    name = network.layers[0].name
    assert name in ("0", "2") and [one.name for one in network.layers] == [name, f"{name}_2", "4"]


def test_weights_that_are_computed_from_stored_tensors(tmp_path):
    masked = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    prune.l1_unstructured(masked[0], "weight", 0.5)
    normed = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(1, 3, 3)), nn.ReLU(), nn.Flatten(),
                           parametrizations.weight_norm(nn.Linear(48, 2)))
    for model, shape in ((masked, (6,)), (normed, (1, 6, 6))):
        network = check(load_network(write(tmp_path, "pt2", model, shape)), model, shape)
        assert [one.name for one in network.layers] == (["0", "2"] if model is masked else ["0", "3"])
    assert np.count_nonzero(load_network(write(tmp_path, "pt2", masked, (6,))).layers[0].weight) == 15
    check(load_network(write(tmp_path, "onnx", masked, (6,))), masked, (6,))
    other = nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 3))).eval()
    text = problems(write(tmp_path, "pt2", other, (6,)))[0]
    assert "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')" in text
    parametrize.remove_parametrizations(other[0], "weight")
    check(load_network(write(tmp_path, "pt2", other, (6,))), other, (6,))


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize(("function", "layer", "shape"), [
    (lambda self, inputs: self.layer((inputs - 0.1307) / 0.3081), nn.Linear(16, 3), (16,)),
    (lambda self, inputs: self.layer((inputs - self.mean) / self.std), nn.Conv2d(3, 4, 3), (3, 6, 6)),
    (lambda self, inputs: self.layer((inputs - self.mean) / self.std).flatten(1), nn.Conv2d(3, 6, 3, groups=3),
     (3, 6, 6)),
    (lambda self, inputs: self.layer(inputs * 2 / 255), nn.Conv2d(3, 4, 3, padding=1), (3, 6, 6)),
    (lambda self, inputs: self.layer((self.mean + 2 * inputs).flatten(1)), nn.Linear(108, 3), (3, 6, 6)),
    (lambda self, inputs: self.layer(inputs - self.mean), nn.Conv2d(3, 4, 3, padding=1), (3, 6, 6)),
    (lambda self, inputs: self.layer(functional.avg_pool2d(inputs * 2, 2)), nn.Conv2d(3, 4, 3, padding=1), (3, 6, 6)),
    (lambda self, inputs: functional.max_pool2d(inputs, 1) * 1.5 - self.layer(inputs), nn.Conv2d(3, 3, 3, padding=1),
     (3, 6, 6)),
    (lambda self, inputs: self.layer(inputs) * 16, nn.Conv2d(3, 4, 3, padding=1), (3, 6, 6)),
])
def test_constants_are_computed_with(tmp_path, kind, function, layer, shape):
    torch.manual_seed(0)
    model = Own(function, layer=layer, mean=torch.rand(1, 3, 1, 1), std=torch.rand(3, 1, 1) + 0.5)
    check(load_network(write(tmp_path, kind, model, shape)), model, shape)


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize(("function", "text"), [
    (lambda self, inputs: self.layer(inputs - self.whole), "can neither be folded in nor run as a layer"),
    (lambda self, inputs: functional.max_pool2d(inputs, 1) / self.layer(inputs), "of several values"),
    (lambda self, inputs: self.layer(inputs * self.whole), "differs within a channel"),
    (lambda self, inputs: 16 / self.layer(inputs), "which the engine does not run"),
    (lambda self, inputs: self.layer(inputs / 0.0), "works with a constant that divides by 0"),
])
def test_arithmetic_that_cannot_be_folded_is_refused(tmp_path, kind, function, text):
    model = Own(function, layer=nn.Conv2d(3, 3, 3, padding=1), mean=torch.rand(1, 3, 1, 1), whole=torch.rand(3, 6, 6))
    assert text in "\n".join(problems(write(tmp_path, kind, model, (3, 6, 6))))


def test_normalised_data_is_the_way_out_of_padding(tmp_path):
    """The refusal of --normalize names the data as the layer takes it."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    path = write(tmp_path, "pt2", model, (1, 6, 6))
    assert "give the data (--data, --calib) as the layer takes it" in problems(path, normalize=(0.1, 0.3))[0]
    check(load_network(path), model, (1, 6, 6))


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_a_dropout_of_training_is_announced(tmp_path, kind):
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout())
    path = tmp_path / f"model.{kind}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "pt2":
            torch.export.save(torch.export.export(model, (torch.rand(2, 6),)), path)
        else:
            torch.onnx.export(model, (torch.rand(2, 6),), str(path), dynamo=False,
                              training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False)
    network = load_network(path)
    assert len(network.assumptions) == 1 and "call model.eval() before the export" in network.assumptions[0]
    check(network, model.eval(), (6,))


def test_the_line_that_a_refusal_names_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, example = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Dropout()), torch.rand(1, 6)
    exec(EXPORT, {"torch": torch, "model": model, "example": example})
    check(load_network(tmp_path / "model.pt2"), model.eval(), (6,))

