# SPDX-License-Identifier: Apache-2.0
"""Zeros around the input of a convolution: other numbers at the end than at the beginning, in every kind of file."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional

from host.importers.conv_padding import in_numbers, joined
from host.importers.load_network import load_network
from host.importers.source_layers import ConvPart, PadPart
from host.importers.stored_tensor import StoredTensor
from host.training.forward import logits, tensors
from tests.support.model_files import check, refusal, write
from tests.support.torch_models import Branches, normalized

WEIGHT = StoredTensor((2, 3, 4, 4))


class Padded(nn.Module):
    """Zeros by torch.nn.functional.pad before a convolution with its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, stride=2, padding=(0, 1))

    def forward(self, images):
        return self.conv(functional.pad(images, (1, 0, 2, 1))).relu()


MODELS = {
    "at the end": nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(2, 3, 3, stride=2), nn.ReLU()),
    "two paddings": nn.Sequential(nn.ZeroPad2d((0, 1, 2, 0)), nn.ConstantPad2d((2, 0, 0, 1), 0.0),
                                  nn.Conv2d(2, 3, 3, padding=1)),
    "even kernel": nn.Sequential(nn.Conv2d(2, 3, (4, 2), padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                                 nn.Linear(3 * 3 * 3, 2)),
    "later": nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.ZeroPad2d((3, 0, 0, 2)),
                           nn.Conv2d(3, 3, 3, stride=(1, 3), groups=3)),
    "functional": Padded(),
}


@pytest.mark.parametrize("kind", ["pt", "pt2", "onnx"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_zeros_join_the_convolution(tmp_path, name, kind):
    model = MODELS[name].eval()
    if kind == "pt" and name == "functional":
        return  # a module of one's own is no Sequential
    network = load_network(write(tmp_path, kind, model, (2, 6, 7)), input_shape=(2, 6, 7))
    check(network, model, (2, 6, 7))
    assert all(layer.geometry is None or not layer.fixed for layer in network.layers)


def test_the_paddings_of_a_file_are_the_layers(tmp_path):
    network = load_network(write(tmp_path, "pt2", MODELS["two paddings"], (2, 6, 7)))
    assert network.layers[0].geometry.pads == ((3, 2), (3, 2))
    network = load_network(write(tmp_path, "pt2", MODELS["at the end"], (2, 6, 7)))
    assert network.layers[0].geometry.pads == ((0, 1), (0, 1))


@pytest.mark.parametrize(("more", "before", "after"), [("UPPER", (1, 0), (1, 1)), ("LOWER", (1, 1), (1, 0))])
def test_onnx_pads_by_rule(tmp_path, more, before, after):
    """6 rows by strides of 1 and a kernel of 3 need 2 zeros, 7 columns by strides of 3 and a kernel of 2 need 1."""
    kernel = np.random.default_rng(0).normal(size=(3, 2, 3, 2)).astype(np.float32)
    node = helper.make_node("Conv", ["in", "k"], ["out"], auto_pad=f"SAME_{more}", strides=[1, 3])
    values = [helper.make_tensor_value_info(name, 1, shape) for name, shape in (("in", (1, 2, 6, 7)),
                                                                               ("out", (1, 3, 6, 3)))]
    graph = helper.make_graph([node], "g", values[:1], values[1:], [numpy_helper.from_array(kernel, "k")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "model.onnx")
    network = load_network(tmp_path / "model.onnx")
    (rows, cols), = (layer.geometry.pads for layer in network.layers)
    assert (rows, cols) == ((1, 1), (0, 1) if more == "UPPER" else (1, 0))
    image = torch.rand(1, 2, 6, 7)
    expected = functional.conv2d(functional.pad(image, (*cols, *rows)), torch.from_numpy(kernel), stride=(1, 3))
    assert torch.allclose(logits(tensors(network), image.flatten(1)), expected.flatten(1), atol=1e-5)


OTHERS = {
    # What stands between the zeros and the next convolution, or follows no convolution at all
    "max": [nn.ZeroPad2d((1, 0, 2, 1)), nn.MaxPool2d(2)], "mean": [nn.ZeroPad2d(1), nn.AvgPool2d(2, 1)],
    "last": [nn.Sigmoid(), nn.ZeroPad2d((0, 2, 1, 0))], "sigmoid": [nn.ZeroPad2d((0, 2, 1, 0)), nn.Sigmoid()],
    "norm": [nn.ReLU(), nn.ZeroPad2d(1), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 2)],
    "linear": [nn.ZeroPad2d((1, 0, 0, 0)), nn.Flatten(), nn.Linear(144, 4)],
}


@pytest.mark.parametrize("kind", ["pt", "pt2", "onnx"])
@pytest.mark.parametrize("name", OTHERS)
def test_zeros_that_no_convolution_takes_become_a_layer(tmp_path, name, kind):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), *OTHERS[name]).eval()
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            normalized(module)
    network = load_network(write(tmp_path, kind, model, (2, 6, 7)), input_shape=(2, 6, 7))
    check(network, model, (2, 6, 7))


def test_a_sum_of_padded_values(tmp_path):
    model = Branches(lambda m, x: (functional.pad(m.a(x), (1, 0, 1, 0)) + functional.pad(m.b(x), (0, 1, 0, 1))).relu(),
                     a=nn.Conv2d(2, 3, 1), b=nn.Conv2d(2, 3, 1)).eval()
    network = load_network(write(tmp_path, "pt2", model, (2, 6, 7)))
    check(network, model, (2, 6, 7))
    assert [layer.name for layer in network.layers] == ["a", "b", "pad", "pad_1"]


@pytest.mark.parametrize(("layers", "problem"), [
    ([nn.Conv2d(2, 2, 3), nn.ZeroPad2d((0, 12, 0, 0)), nn.MaxPool2d(2)],
     "pads by (0, 0) rows and (0, 12) columns, which must be 0 to 11 each; retrain with less"),
    ([nn.ConstantPad2d(1, 0.5), nn.Conv2d(2, 2, 3)],
     "pads with something other than zeros; use zeros, in torch.nn.Conv2d padding_mode='zeros'"),
    ([nn.ZeroPad2d((9, 0, 0, 0)), nn.Conv2d(2, 2, 3, padding=3)],
     "has a padding of (3, 12) and (3, 3) at the end, which must be 0 to 11; retrain with less"),
])
@pytest.mark.parametrize("kind", ["pt", "pt2", "onnx"])
def test_other_paddings_are_refused(tmp_path, kind, layers, problem):
    told = refusal(write(tmp_path, kind, nn.Sequential(*layers), (2, 6, 7)), input_shape=(2, 6, 7))
    assert told.split(" ", 2)[2] == problem


def test_negative_sizes_are_refused(tmp_path):
    model = nn.Sequential(nn.ZeroPad2d((-1, 0, 0, 0)), nn.Conv2d(2, 2, 3))
    assert refusal(write(tmp_path, "pt2", model, (2, 6, 7))).endswith(
        "pads by [-1, 0, 0, 0]; only zeros around rows and columns are supported, none less than 0")


def test_all_zeros_in_numbers():
    conv = ConvPart("conv", WEIGHT, None, (1, 2), (1, 2), end_padding=(0, 1))
    both = in_numbers(conv, (4, 4), (3, 8, 8), PadPart("pad", (1, 0), (0, 3)))
    assert (both.padding, both.end_padding) == ((2, 2), (0, 4))
    # 9 rows with those of the padding take 4 - 1 zeros; 11 columns by strides of 2 take (6 - 1) * 2 + 4 - 11.
    conv = ConvPart("conv", WEIGHT, None, (1, 2), same="upper")
    both = in_numbers(conv, (4, 4), (3, 8, 8), PadPart("pad", (1, 0), (0, 3)))
    assert (both.padding, both.end_padding, both.same) == ((1 + 1, 1), (2, 2 + 3), "")
    assert joined(PadPart("a", (1, 2), (3, 4)), PadPart("b", (5, 6), (7, 8))) == PadPart("b", (6, 8), (10, 12))
