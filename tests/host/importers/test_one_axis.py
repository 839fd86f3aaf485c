# SPDX-License-Identifier: Apache-2.0
"""Networks over one axis, torch.nn.Conv1d and what goes with it: right values against torch, or refused by name."""

import pytest
import torch
from onnx import helper
from torch import nn
from torch.nn import functional

from host.importers.load_network import load_network
from tests.support.model_files import Own, check, onnx_file, problems, write
from tests.support.torch_models import normalized

SHAPE = (2, 12)


def conv(inputs=2, outputs=4, kernel=3, **options):
    return nn.Conv1d(inputs, outputs, kernel, **options)


def ended(values, *modules):
    return nn.Sequential(*modules, nn.Flatten(), nn.Linear(values, 3))


MODELS = {
    "plain": lambda: ended(40, conv(), nn.ReLU()),
    "kernel of 1": lambda: ended(48, conv(kernel=1), nn.Tanh()),
    "stride, padding": lambda: ended(24, conv(stride=2, padding=1), nn.ReLU()),
    "dilation, groups": lambda: ended(32, conv(dilation=2, groups=2), nn.ReLU()),
    "padding same": lambda: ended(48, conv(padding="same"), nn.ReLU()),
    "padding same, even": lambda: ended(48, conv(kernel=4, padding="same"), nn.ReLU()),
    "uneven padding": lambda: ended(60, nn.ConstantPad1d((1, 4), 0.0), conv(), nn.ReLU()),
    "padding behind another": lambda: ended(60, nn.ConstantPad1d((3, 0), 0.0), conv(padding=1, bias=False)),
    "norm": lambda: ended(40, conv(), normalized(nn.BatchNorm1d(4)), nn.ReLU()),
    "norm behind": lambda: ended(40, conv(), nn.ReLU(), normalized(nn.BatchNorm1d(4))),
    "norm first": lambda: ended(40, normalized(nn.BatchNorm1d(2)), conv(), nn.ReLU()),
    "max": lambda: ended(20, conv(), nn.ReLU(), nn.MaxPool1d(2)),
    "max, stride, padding": lambda: ended(20, conv(), nn.ReLU(), nn.MaxPool1d(3, 2, 1)),
    "max, ceil": lambda: ended(20, conv(kernel=4), nn.ReLU(), nn.MaxPool1d(2, ceil_mode=True)),
    "mean": lambda: ended(20, conv(), nn.ReLU(), nn.AvgPool1d(2)),
    "mean, stride, padding": lambda: ended(20, conv(), nn.ReLU(), nn.AvgPool1d(4, 2, 1)),
    "adaptive mean": lambda: ended(4, conv(), nn.ReLU(), nn.AdaptiveAvgPool1d(1)),
    "adaptive mean of 5": lambda: ended(20, conv(), nn.ReLU(), nn.AdaptiveAvgPool1d(5)),
    "adaptive maximum": lambda: ended(8, conv(), nn.ReLU(), nn.AdaptiveMaxPool1d(2)),
    "two": lambda: ended(12, conv(), nn.ReLU(), nn.MaxPool1d(2), conv(4, 4, 2), nn.GELU(), nn.AvgPool1d(1),
                        conv(4, 4, 2)),
    "residual": lambda: Own(lambda m, x: m.b((m.a(x) + x).relu().flatten(1)), a=conv(2, 2, padding=1),
                            b=nn.Linear(24, 3)),
    "mean of values": lambda: Own(lambda m, x: m.b(m.a(x).relu().mean(-1)), a=conv(), b=nn.Linear(4, 3)),
    "mean of axis 2": lambda: Own(lambda m, x: m.b(m.a(x).relu().mean(2, keepdim=True).flatten(1)), a=conv(),
                                  b=nn.Linear(4, 3)),
    "greatest value": lambda: Own(lambda m, x: m.b(m.a(x).relu().amax(2)), a=conv(), b=nn.Linear(4, 3)),
    "squeezed": lambda: Own(lambda m, x: m.b(functional.adaptive_avg_pool1d(m.a(x).relu(), 1).squeeze(-1)), a=conv(),
                            b=nn.Linear(4, 3)),
    "flatten of two axes": lambda: Own(lambda m, x: m.b(m.a(x).relu().flatten(1, 2)), a=conv(), b=nn.Linear(40, 3)),
    "normalised input": lambda: Own(lambda m, x: m.b(m.a((x - 0.5) / 0.25).flatten(1)), a=conv(), b=nn.Linear(40, 3)),
}


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize("name", MODELS)
def test_networks_over_one_axis(tmp_path, name, kind):
    torch.manual_seed(1)
    model = MODELS[name]().eval()
    network = check(load_network(write(tmp_path, kind, model, SHAPE)), model, SHAPE)
    assert network.input_shape == SHAPE


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize("function", [lambda x: x.unsqueeze(1), lambda x: x[:, None], lambda x: x.view(-1, 1, 12),
                                      lambda x: x.reshape(x.size(0), 1, 12)])
def test_a_vector_becomes_a_row(tmp_path, kind, function):
    torch.manual_seed(2)
    model = Own(lambda m, x: m.b(m.a(function(x)).relu().flatten(1)), a=conv(1), b=nn.Linear(40, 3)).eval()
    assert check(load_network(write(tmp_path, kind, model, (12,))), model, (12,)).layers[0].geometry.kernel == (1, 3)


REFUSED = {
    "channels padded": (Own(lambda m, x: m.a(functional.pad(x, (0, 0, 1, 1))), a=conv(4)), {
        "pt2": "layer 'pad' pads by [0, 0, 1, 1]; only zeros around rows and columns are supported, none less than 0",
        "onnx": "layer '/Pad' pads by [0, 1, 0, 0, 1, 0]; only zeros around rows and columns are supported, none less "
                "than 0"}),
    "three axes": (Own(lambda m, x: m.a(x.view(-1, 2, 2, 2, 3)), a=nn.Conv3d(2, 2, 2)), {
        "onnx": "layer '/a/Conv' is a convolution over 3 axes; only those over one or two are supported"}),
    "mean of channels": (Own(lambda m, x: m.a(x).mean(1), a=conv()), {
        "pt2": "layer 'mean' is a mean over other axes than rows and columns, and only those of feature maps run, as "
               "torch.nn.AdaptiveAvgPool2d(1) takes them",
        "onnx": "layer '/ReduceMean' is a mean over other axes than rows and columns, and only those of feature maps "
                "run, as torch.nn.AdaptiveAvgPool2d(1) takes them"}),
}


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path, name, kind):
    model, told = REFUSED[name]
    if kind in told:
        assert told[kind] in problems(write(tmp_path, kind, model.eval(), SHAPE))


def test_one_image_without_a_batch_axis_is_refused(tmp_path):
    """A convolution over rows and columns would take the channels for the batch."""
    model = nn.Conv2d(2, 4, (1, 3))
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(model, (torch.rand(2, 2, 12),)), path)
    assert problems(path) == [("layer 'conv2d' is a convolution of one image without a batch axis; export the model "
                               "with an example that has one: example[None]")]


@pytest.mark.parametrize("attributes", [{"strides": [1, 1]}, {"pads": [0, 0, 1, 1]}, {"dilations": [1, 1]}])
def test_attributes_of_another_number_of_axes_are_garbled(tmp_path, attributes):
    path = onnx_file(tmp_path, [helper.make_node("Conv", ["in", "k"], ["out"], **attributes)],
                     {"k": torch.ones(1, 2, 3).numpy()}, shape=(1, 2, 12))
    name, = attributes
    assert problems(path)[0].startswith(f"layer 'Conv_0' is a garbled Conv (attribute {name});")
