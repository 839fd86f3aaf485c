# SPDX-License-Identifier: Apache-2.0
"""A saved network is read as the network that it was, without assumptions; a garbled description is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from torch import nn

from host.importers.description import KEY
from host.importers.known_networks import description
from host.importers.load_network import load_network
from host.importers.safetensors_file import safetensors_file
from host.network.layers import Network
from host.network.zoo import KNOWN, build, empty
from nonzero.errors import UserError
from rtl.numbers import Activation
from tests.support.paths import ROOT

NETS = {
    "fully connected": (nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU()), None),
    "square layers named against their order": (nn.Sequential(nn.Sequential(), nn.Linear(4, 4), nn.ReLU()), None),
    "strides and groups": (nn.Sequential(nn.Conv2d(4, 8, (3, 2), (2, 1), (1, 2), groups=2), nn.ReLU(),
                                         nn.Conv2d(8, 8, 3, groups=8, padding="same"), nn.MaxPool2d(2, 1), nn.ReLU(),
                                         nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(8, 2, 1)), (4, 7, 8)),
    "means": (nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3, 2, 1),
                            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), (1, 12, 12)),
    "mean, then maximum": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.AvgPool2d(2), nn.MaxPool2d(2), nn.ReLU()), (2, 12, 12)),
    "two maxima": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.MaxPool2d(3, 1), nn.ReLU()), (2, 12, 12)),
    "an image first flattened": (nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), None),
}


def assert_equal(network: Network, other: Network) -> None:
    assert len(network.layers) == len(other.layers)
    for layer, back in zip(network.layers, other.layers, strict=True):
        assert (layer.name, layer.activation, layer.geometry, layer.fixed, type(layer)) \
            == (back.name, back.activation, back.geometry, back.fixed, type(back))
        np.testing.assert_array_equal(layer.weight, back.weight)
        np.testing.assert_array_equal(layer.bias, back.bias)


@pytest.mark.parametrize("name", NETS)
def test_what_is_saved_is_read_again(tmp_path, name):
    model, shape = NETS[name]
    torch.save(model, tmp_path / "model.pt")
    network = load_network(tmp_path / "model.pt", input_shape=shape)
    (tmp_path / "model.safetensors").write_bytes(safetensors_file(network))
    back = load_network(tmp_path / "model.safetensors")
    assert_equal(network, back)
    assert back.assumptions == ()


def test_the_order_of_layers_is_that_of_the_description(tmp_path):
    """Sorted by their names, the square layers would run the other way round."""
    rng = np.random.default_rng(0)
    model = nn.Sequential()
    for name in ("z", "b10", "b9", "a"):
        model.add_module(name, nn.Linear(4, 4))
    torch.save(model, tmp_path / "model.pt")
    network = load_network(tmp_path / "model.pt")
    (tmp_path / "model.safetensors").write_bytes(safetensors_file(network))
    back = load_network(tmp_path / "model.safetensors")
    assert [layer.name for layer in back.layers] == ["z", "b10", "b9", "a"]
    inputs = torch.from_numpy(rng.random((3, 4), np.float32))
    acts = inputs.numpy()
    for layer in back.layers:
        assert layer.activation is Activation.IDENTITY
        acts = acts @ layer.weight.T + layer.bias
    np.testing.assert_allclose(acts, model(inputs).detach(), atol=1e-6)


def test_the_shape_of_an_image_is_kept(tmp_path):
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), tmp_path / "model.pt")
    network = replace(load_network(tmp_path / "model.pt"), input_shape=(3, 2, 2))
    (tmp_path / "model.safetensors").write_bytes(safetensors_file(network))
    assert_equal(load_network(tmp_path / "model.safetensors", input_shape=(3, 2, 2)), network)
    with pytest.raises(UserError, match="it takes images of 3 x 2 x 2 values, not of 2 x 2 x 3"):
        load_network(tmp_path / "model.safetensors", input_shape=(2, 2, 3))


@pytest.mark.parametrize("name", ["lenet-300-100", "lenet-5"])
def test_what_was_trained_is_read_as_what_it_is(tmp_path, name):
    """The file is as host.train writes it, which tests/host/test_train.py runs."""
    state = build(name).state_dict()
    torch.save({"state_dict": state, KEY: description(name)}, tmp_path / "model.pt")
    torch.save({"state_dict": state}, tmp_path / "bare.pt")
    network = load_network(tmp_path / "model.pt")
    assert network.assumptions == ()
    assert_equal(network, load_network(tmp_path / "bare.pt", known=name))


@pytest.mark.parametrize("name", KNOWN)
def test_every_network_of_the_zoo_is_described(name):
    kinds = [entry["layer"] for entry in json.loads(description(name))["layers"]]
    modules = list(empty(name).modules())
    assert kinds.count("convolution") == sum(isinstance(one, nn.Conv2d) for one in modules)
    assert kinds.count("linear") == sum(isinstance(one, nn.Linear) for one in modules)
    assert kinds.count("relu") == sum(isinstance(one, nn.ReLU) for one in modules)


def change(**changes):
    def changed(found):
        found["layers"][0].update(changes)
    return changed


@pytest.mark.parametrize(("spoil", "reason"), [
    (lambda found: found.update(version=2), "has the version '2', but 1 is known"),
    (lambda found: found.update(version=None), "has the version 'None', but 1 is known"),
    (lambda found: found.update(more=1), "garbled: it must have version, input_shape and layers"),
    (lambda found: found.pop("layers"), "garbled: it must have version"),
    (lambda found: found.update(layers={}), "garbled: layers must be a list of at most 2,048"),
    (lambda found: found.update(layers=[1] * 2049), "garbled: layers must be a list of at most 2,048"),
    (lambda found: found.update(layers=[1]), "garbled: a layer must be one of linear, convolution, "),
    (lambda found: found.update(layers=[]), "does not name its tensors 'conv.bias', 'conv.weight', 'fc.bias'"),
    (lambda found: found["layers"].pop(), "does not name its tensors 'fc.bias', 'fc.weight'"),
    (lambda found: found.update(input_shape=[1, 0, 4]), "garbled: input_shape must be null or sizes of axes"),
    (lambda found: found.update(input_shape=[1] * 9), "garbled: input_shape must be null or sizes of axes"),
    (lambda found: found.update(input_shape=784), "garbled: input_shape must be null or sizes of axes"),
    (lambda found: found.update(input_shape=[2, 4, 4]), "layer 'conv' takes 1 channels, but gets 2 x 4 x 4"),
    (change(layer="nosuch"), "garbled: a layer must be one of"), (change(layer=["linear"]), "garbled: a layer must"),
    (change(more=1), "garbled: a layer of the kind convolution must have name, stride, padding, dilation, groups"),
    (change(name=["conv"]), "garbled: a layer of the kind convolution must have name"),
    (change(name="fc"), "does not name its tensors 'conv.bias'"),
    (change(name="other"), "garbled: the tensor 'other.weight' is missing"),
    (change(stride=[1, 0]), "garbled: the option 'stride'"), (change(stride=[1, True]), "garbled: the option 'stride'"),
    (change(stride=[1]), "garbled: the option 'stride'"), (change(stride=1), "garbled: the option 'stride'"),
    (change(padding=[1, -1]), "garbled: the option 'padding'"), (change(groups=1.0), "garbled: the option 'groups'"),
    (change(padding=[1 << 80, 1]), "garbled: the option 'padding'"), (change(groups=0), "garbled: the option 'groups'"),
    (change(dilation=[12, 12]), "layer 'conv' has a dilation of"),
])
def test_garbled_descriptions_are_refused(tmp_path, spoil, reason):
    refused(tmp_path, lambda text: json.dumps(spoilt(text, spoil)), reason)


def spoilt(text, spoil):
    found = json.loads(text)
    spoil(found)
    return found


@pytest.mark.parametrize(("garble", "reason"), [
    (lambda text: "", "garbled: "), (lambda text: text[:-1], "garbled: "),
    (lambda text: "[" * 100_000, "garbled: it nests too deep"),
    (lambda text: "[]", "garbled: it must have version"), (lambda text: "9" * 5000, "garbled: "),
    (lambda text: text.replace('"version":1', '"version":1,"version":1'), "garbled: it has the key 'version' twice"),
    (lambda text: text.replace('"version":1', '"version":NaN'), "garbled: NaN is no number of JSON"),
    (lambda text: text + " " * (1 << 20), "garbled: it is no text of at most 1,048,576 characters"),
])
def test_what_is_no_description_is_refused(tmp_path, garble, reason):
    refused(tmp_path, garble, reason)


def refused(tmp_path, garble, reason):
    """A file whose description was garbled is refused for this reason, also as a checkpoint."""
    model = nn.Sequential()
    for name, module in (("conv", nn.Conv2d(1, 2, 3)), ("flat", nn.Flatten()), ("fc", nn.Linear(8, 2))):
        model.add_module(name, module)
    torch.save(model, tmp_path / "model.pt")
    content = safetensors_file(load_network(tmp_path / "model.pt", input_shape=(1, 4, 4)))
    length = int.from_bytes(content[:8], "little")
    text = garble(json.loads(content[8:8 + length])["__metadata__"][KEY])
    (tmp_path / "model.safetensors").write_bytes(save(load(content), {KEY: text}))
    torch.save({"model": dict(sorted(model.state_dict().items())), KEY: text}, tmp_path / "model.pt")
    for name in ("model.safetensors", "model.pt"):
        with pytest.raises(UserError) as caught:
            load_network(tmp_path / name)
        assert any(reason in problem for problem in caught.value.problems), caught.value.problems


def test_a_description_that_is_no_text_is_refused(tmp_path):
    torch.save({"model": nn.Linear(2, 2).state_dict(), KEY: {"version": 1}}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="its description of the network is garbled: it is no text"):
        load_network(tmp_path / "model.pt")


def test_the_example_of_the_document_is_read(tmp_path):
    example = (ROOT / "docs/formats.md").read_text().partition("Model files with a description")[2]
    text = example.split("```")[1]
    state = {"conv1.weight": torch.rand(4, 1, 5, 5), "conv1.bias": torch.rand(4), "fc1.weight": torch.rand(10, 576)}
    torch.save({"state_dict": state, KEY: text}, tmp_path / "model.pt")
    network = load_network(tmp_path / "model.pt")
    assert [(layer.name, layer.activation, layer.inputs, layer.outputs) for layer in network.layers] \
        == [("conv1", Activation.RELU, 784, 576), ("fc1", Activation.IDENTITY, 576, 10)]
    assert network.assumptions == ()
