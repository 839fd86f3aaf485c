# SPDX-License-Identifier: Apache-2.0
"""Models with convolutions: what is read computes what torch computes; what cannot run is refused, all at once."""

import numpy as np
import pytest
import torch
from torch import nn

from host.importers.fold_normalization import fold_normalization
from host.importers.known_networks import looks_like, zoo_parts
from host.importers.layer_graph import LayerGraph
from host.importers.load_network import load_network
from host.importers.safetensors_file import safetensors_file
from host.importers.stored_tensor import StoredTensor
from host.network.dead_neurons import drop_dead_neurons
from host.network.zoo import KNOWN, build
from host.training.forward import logits, tensors
from nonzero.errors import UserError
from rtl.numbers import Activation
from tests.support.model_files import saved
from tests.support.stripes import with_weights


def settled(model):
    """The model with batch statistics and biases that are not those of a new one."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(values)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def check(directory, model, shape):
    """The network of the file gives torch's outputs."""
    network = load_network(saved(directory, settled(model)), input_shape=shape)
    inputs = torch.rand(5, *shape) - 0.3
    with torch.no_grad():
        expected = model(inputs).flatten(1)
    assert torch.allclose(logits(tensors(network), inputs.flatten(1)), expected, atol=1e-4)
    return network


CHAINS = {
    "usual": (nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(),
                            nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(8 * 5 * 5, 10)), (1, 28, 28)),
    "norms": (nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(),
                            nn.Flatten(), nn.Linear(4 * 6 * 7, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)),
              (3, 8, 9)),
    "pool before ReLU": (nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(3, 2), nn.ReLU(),
                                       nn.Conv2d(4, 3, 2)), (2, 9, 9)),
    "strides and groups": (nn.Sequential(nn.Conv2d(4, 8, (3, 2), (2, 1), (1, 2), groups=2), nn.ReLU(),
                                         nn.Conv2d(8, 8, 3, groups=8, padding="same"), nn.ReLU(),
                                         nn.Conv2d(8, 2, 1, padding="valid")), (4, 7, 8)),
    "mean": (nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(3, 4, 2), nn.AvgPool2d((2, 3), 1),
                           nn.ReLU(), nn.Flatten(), nn.Linear(4 * 3 * 2, 2)), (1, 12, 12)),
    "padded mean": (nn.Sequential(nn.Conv2d(1, 3, 3), nn.AvgPool2d(3, 2, 1), nn.ReLU()), (1, 9, 9)),
    "global mean": (nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                  nn.Linear(5, 2)), (1, 9, 8)),
    "adaptive": (nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d((3, None)),
                               nn.AdaptiveMaxPool2d((3, 2)), nn.Flatten(), nn.Linear(30, 2)), (1, 8, 4)),
    "adaptive of equal size": (nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(6)), (1, 8, 8)),
    "pool after pool": (nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.MaxPool2d(3, 1), nn.Flatten(),
                                      nn.Linear(27, 2)), (1, 12, 12)),
    "pool first": (nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2, 3, 3), nn.ReLU()), (2, 8, 8)),
    "mean first": (nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(18, 4)), (2, 6, 6)),
    "ceil that changes nothing": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, ceil_mode=True)), (1, 8, 8)),
    "ceil": (nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)), (1, 8, 10)),
    "padded max": (nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(2, 3, 2)),
                   (1, 9, 8)),
    "padded max and ceil": (nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)),
                            (1, 8, 9)),
    "gaps": (nn.Sequential(nn.Conv2d(1, 2, 3, dilation=2, padding=2), nn.ReLU(),
                           nn.Conv2d(2, 3, (2, 3), dilation=(5, 1))), (1, 9, 8)),
    "flat at once": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)), (1, 4, 4)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_what_is_read_computes_what_torch_computes(tmp_path, name):
    check(tmp_path, *CHAINS[name])


def test_poolings_become_layers_whose_weights_stay(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(75, 2))
    layers = load_network(saved(tmp_path, model), input_shape=(1, 12, 12)).layers
    assert [(layer.name, layer.fixed, layer.activation) for layer in layers] == [
        ("0", False, Activation.RELU), ("2", True, Activation.RELU), ("4", False, Activation.IDENTITY)]
    assert np.array_equal(layers[1].weight, np.full((3, 4), 0.25))


def refusal(directory, model, shape=(1, 12, 12)):
    with pytest.raises(UserError) as caught:
        load_network(saved(directory, model), input_shape=shape)
    return [problem.split(": ", 1)[1] for problem in caught.value.problems]


@pytest.mark.parametrize(("layers", "starts"), [
    ([nn.Conv2d(1, 2, 3, dilation=6)], ["layer '0' has a dilation of 6 x 6, with which its kernel of 3 x 3 covers"]),
    ([nn.Conv2d(1, 2, 12)], ["layer '0' has a kernel of 12 x 12, but 11 x 11 is the largest"]),
    ([nn.Conv2d(2, 2, 3)], ["layer '0' takes 2 channels, but gets 1 x 12 x 12 values; check --input-shape"]),
    ([nn.Conv2d(1, 2, 3, padding=12)], ["layer '0' has a padding of (12, 12), which must be 0 to 11"]),
    ([nn.Conv2d(1, 2, 3, padding_mode="reflect", padding=1)], ["layer '0' pads with something other than zeros; "]),
    ([nn.Conv2d(1, 2, 3), nn.Linear(10, 2)], ["layer '1' takes 10 inputs, but the layer before it, '0', gives"]),
    ([nn.Conv2d(1, 2, 3), nn.Linear(200, 2)], ["layer '1' takes 200 inputs, but the layer before it, '0', gives"]),
    ([nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(7, 2)], ["layer '2' takes 7 inputs, but the layer before it, '0',"]),
    ([nn.Flatten(), nn.Conv2d(1, 2, 3)], ["layer '1' works on images, but gets flat values; leave out"]),
    ([nn.Linear(144, 144), nn.MaxPool2d(2)], ["layer '1' works on images, but gets flat values; leave out"]),
    ([nn.Conv2d(1, 2, 11), nn.Conv2d(2, 2, 3)], ["layer '1' has a kernel of 3 x 3, which exceeds its input of 2 x"]),
    ([nn.Conv2d(1, 2, 2), nn.MaxPool2d(2, ceil_mode=True)], ["layer '1' is a max pooling whose windows reach over"]),
    ([nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, padding=1)], ["layer '1' is a max pooling whose windows reach over"]),
    ([nn.Conv2d(1, 2, 3), nn.MaxPool2d((2, 3))], ["layer '1' has a window of 2 x 3 and a stride of 2 x 3, but those"]),
    ([nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, 3)], ["layer '1' has windows 2 wide and 3 apart, but those of max pooling"]),
    ([nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, dilation=2)], ["layer '1' has a dilation, but windows have no gaps here"]),
    ([nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, return_indices=True)], ["layer '1' returns indices beside its values"]),
    ([nn.Conv2d(1, 2, 3), nn.MaxPool2d(11)], ["layer '1' has a window of 11 x 11, which exceeds its input of 2 x 10"]),
    ([nn.Conv2d(1, 2, 3), nn.AvgPool2d(2, divisor_override=3)], ["layer '1' divides by a number of its own; leave"]),
    ([nn.Conv2d(1, 2, 3), nn.AdaptiveMaxPool2d(3)], ["layer '1' gives 3 x 3 values of 10 x 10, for which its windows"]),
    ([nn.Conv2d(1, 2, 3), nn.BatchNorm2d(3)], ["layer '1': its weight has the shape [3], but the layer has 2 outputs"]),
    ([nn.Conv2d(1, 2, 3, dilation=6), nn.Softsign(), nn.ConvTranspose3d(2, 2, 3), nn.Conv2d(2, 4, 13)],
     ["layer '0' has a dilation of", "layer '1' is torch.nn.Softsign, an a", "layer '2' is the convolution torch.nn.Co",
      "layer '3' has a kernel of 13 x 13, but"]),
])
def test_what_cannot_run_is_refused(tmp_path, layers, starts):
    problems = refusal(tmp_path, nn.Sequential(*layers))
    assert [problem[:len(start)] for problem, start in zip(problems, starts, strict=False)] == starts
    assert len(problems) == max(len(starts), 1) or problems[len(starts)].startswith("layer '1': its ")


def test_without_the_images_shape_the_option_is_named(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3), nn.Flatten(),
                          nn.Linear(5, 2))
    problem, = refusal(tmp_path, model, None)
    assert problem == ("layer '0' works on images, but the file does not say how large the images are; add "
                       "--input-shape CHANNELS,HEIGHT,WIDTH, for instance 1,28,28")


@pytest.mark.parametrize(("name", "option", "value", "start"), [
    ("conv", "stride", (1, -1), "has a stride, padding, dilation or groups that are no whole numbers"),
    ("conv", "stride", (0, 1), "has a stride of (0, 1), which must be positive"),
    ("conv", "stride", "x" * 100, "has a stride, padding"), ("conv", "padding", (1 << 80, 0), "has a stride, padding"),
    ("conv", "groups", 0, "has 0 groups, which must divide its 2 outputs"),
    ("conv", "groups", 1 << 40, "has 1099511627776 groups"), ("conv", "groups", -1, "has -1 groups"),
    ("conv", "dilation", None, "has a stride, padding"), ("conv", "padding", {"a": 1}, "has a stride, padding"),
    ("conv", "padding_mode", 7, "pads with something other"),
    ("pool", "kernel_size", (0, 0), "has a window of (0, 0)"), ("pool", "kernel_size", None, "has a kernel_size"),
    ("pool", "stride", [2, 2, 2], "has a kernel_size"), ("pool", "stride", 0, "has a window of (2, 2), a stride of (0"),
    ("pool", "padding", 1.5, "has a kernel_size"), ("adaptive", "output_size", (0, 1), "has an output_size"),
    ("adaptive", "output_size", 1 << 60, "has an output_size"), ("adaptive", "output_size", "3", "has an output_size"),
])
def test_options_that_no_module_has_are_refused(tmp_path, name, option, value, start):
    model = nn.Sequential()
    for key, module in (("conv", nn.Conv2d(1, 2, 3)), ("pool", nn.MaxPool2d(2)),
                        ("adaptive", nn.AdaptiveAvgPool2d(5))):
        model.add_module(key, module)
    setattr(model.get_submodule(name), option, value)
    assert any(problem.startswith(f"layer '{name}' {start}") for problem in refusal(tmp_path, model))


@pytest.mark.parametrize("name", [name for name in KNOWN if name != "lenet-300-100"])
def test_networks_of_the_zoo_have_shapes_that_chain(name):
    """Shapes are compared without weights, of which the largest network has half a gigabyte."""
    with torch.device("meta"):
        model = KNOWN[name]()
        outputs = model(torch.empty(2, *model.input_shape))
    assert outputs.shape == (2, 10 if name.startswith("lenet") else 1000)
    described = {key: StoredTensor(tuple(value.shape)) for key, value in model.state_dict().items()}
    assert looks_like(described) == name
    parts, shape = zoo_parts(name, described)
    assert shape == model.input_shape
    graph = LayerGraph(shape)
    for part in parts:
        graph.add(part)
    assert not graph.problems and graph.shape == outputs.shape[1:]
    described[next(iter(described))] = StoredTensor((1, 2, 3, 4))
    assert looks_like(described) is None
    with pytest.raises(UserError, match=f"of --known {name}: '.*' has the shape \\[1, 2, 3, 4\\], not "):
        zoo_parts(name, described)


def test_a_network_of_the_zoo_that_lost_channels_is_recognised(tmp_path):
    torch.manual_seed(0)
    torch.save(build("lenet-5").state_dict(), tmp_path / "model.pt")
    network = load_network(tmp_path / "model.pt", known="lenet-5")
    lost = {name: layer.weight.copy() for layer in network.layers for name in [layer.name]}
    lost["conv1"][[2, 5]] = 0
    lost["conv2"][7] = 0
    lost["fc1"][:100] = 0
    network = with_weights(network, lost)
    dropped = drop_dead_neurons(network)
    (tmp_path / "small.safetensors").write_bytes(safetensors_file(dropped))
    back = load_network(tmp_path / "small.safetensors")
    assert [layer.weight.shape for layer in back.layers] == [(18, 25), (49, 450), (400, 784), (10, 400)]
    inputs = torch.rand(5, 784)
    assert torch.allclose(logits(tensors(back), inputs), logits(tensors(network), inputs), atol=1e-5)


def test_names_are_those_of_torchvision():
    with torch.device("meta"):
        alexnet, vgg = KNOWN["alexnet"]().state_dict(), KNOWN["vgg-16"]().state_dict()
    assert {key: tuple(value.shape) for key, value in alexnet.items() if "weight" in key} == {
        "features.0.weight": (64, 3, 11, 11), "features.3.weight": (192, 64, 5, 5),
        "features.6.weight": (384, 192, 3, 3), "features.8.weight": (256, 384, 3, 3),
        "features.10.weight": (256, 256, 3, 3), "classifier.1.weight": (4096, 9216),
        "classifier.4.weight": (4096, 4096), "classifier.6.weight": (1000, 4096)}
    numbers = [int(key.split(".")[1]) for key in vgg if key.startswith("features") and key.endswith("weight")]
    assert numbers == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert [key for key in vgg if key.startswith("classifier")] == [
        f"classifier.{number}.{leaf}" for number in (0, 3, 6) for leaf in ("weight", "bias")]
    assert sum(value.numel() for value in vgg.values()) == 138_357_544


def test_another_shape_than_that_of_the_zoo_is_refused(tmp_path):
    torch.save(build("lenet-5").state_dict(), tmp_path / "model.pt")
    with pytest.raises(UserError, match="it takes images of 1 x 28 x 28 values, not of 3 x 32 x 32; leave out --input"):
        load_network(tmp_path / "model.pt", input_shape=(3, 32, 32), known="lenet-5")


def test_a_state_dictionary_of_convolutions_says_what_is_missing(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(200, 2))
    assert refusal(tmp_path, model.state_dict())[0].startswith(
        "layer '0' is a convolution (weight of the shape [2, 1, 3, 3]), and a state dictionary of tensors does not")


def test_a_normalisation_is_folded_into_a_convolution(tmp_path):
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(300, 2))
    path, inputs = saved(tmp_path, model), torch.rand(4, 2, 12, 12)
    network = load_network(path, input_shape=(2, 12, 12), normalize=(0.3, 0.5))
    with torch.no_grad():
        expected = model((inputs - 0.3) / 0.5)
    assert torch.allclose(logits(tensors(network), inputs.flatten(1)), expected, atol=1e-5)
    padded = load_network(saved(tmp_path, nn.Conv2d(2, 3, 3, padding=1)), input_shape=(2, 12, 12))
    with pytest.raises(UserError, match="layer 'linear' pads its input with zeros"):
        fold_normalization(padded, 0.3, 0.5)
    assert np.array_equal(fold_normalization(padded, 0, 0.5).layers[0].weight, padded.layers[0].weight * 2)
