# SPDX-License-Identifier: Apache-2.0
"""Random chains of layers, in every kind of file: refused by name, or read as what torch computes."""

import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from host.importers.load_network import load_network
from nonzero.errors import UserError
from tests.support.model_files import check, problems, write

STRANGE = {
    1: [nn.Sigmoid, nn.Tanh, lambda c, s: nn.LayerNorm(s[-1]), nn.PReLU, lambda c, s: nn.Softmax(0), nn.LeakyReLU,
        lambda c, s: nn.Unflatten(1, (c, 1)), lambda c, s: nn.GroupNorm(1, c)],
    2: [lambda c, s: nn.Conv1d(c, 3, 2), lambda c, s: nn.MaxPool1d(2), lambda c, s: nn.BatchNorm1d(c),
        lambda c, s: nn.Linear(s[-1], 5), lambda c, s: nn.Softmax(2), lambda c, s: nn.ConvTranspose1d(c, 2, 2)],
    3: [lambda c, s: nn.Conv2d(c, 3, 2, padding="same"), lambda c, s: nn.Conv2d(c, 3, 3, dilation=2),
        lambda c, s: nn.Conv2d(c, 3, 3, padding=1, padding_mode="circular"), lambda c, s: nn.Linear(s[-1], 4),
        lambda c, s: nn.MaxPool2d(2, ceil_mode=True), lambda c, s: nn.Softmax(3), lambda c, s: nn.ZeroPad2d(1),
        lambda c, s: nn.AdaptiveAvgPool2d(3), lambda c, s: nn.ConvTranspose2d(c, 2, 2), nn.Sigmoid, nn.ReLU6,
        lambda c, s: nn.GroupNorm(1, c), lambda c, s: nn.PReLU(c), lambda c, s: nn.Flatten(2),
        lambda c, s: nn.AvgPool2d(3, 1, 1, count_include_pad=False), lambda c, s: nn.InstanceNorm2d(c)],
    4: [lambda c, s: nn.Conv3d(c, 2, 1), lambda c, s: nn.MaxPool3d(1), lambda c, s: nn.BatchNorm3d(c)],
}
"""By the number of axes without the batch's, from the channels and the shape."""

PLAIN = {
    1: [lambda c, s: nn.Linear(c, 7), lambda c, s: nn.Linear(c, 4, bias=False), nn.ReLU, nn.Dropout, nn.Flatten,
        lambda c, s: nn.BatchNorm1d(c, eps=0.3), lambda c, s: nn.Softmax(1)],
    2: [nn.Flatten, nn.ReLU],
    3: [lambda c, s: nn.Conv2d(c, 4, 3, padding=1), lambda c, s: nn.Conv2d(c, 3, 2, stride=2, bias=False), nn.ReLU,
        lambda c, s: nn.Conv2d(c, 2 * c, 3, groups=c), lambda c, s: nn.BatchNorm2d(c), lambda c, s: nn.MaxPool2d(2),
        lambda c, s: nn.MaxPool2d(1), lambda c, s: nn.AvgPool2d(2, 1), lambda c, s: nn.AvgPool2d(1),
        lambda c, s: nn.AdaptiveAvgPool2d(1), nn.Flatten, nn.Flatten, lambda c, s: nn.Softmax(1)],
    4: [nn.Flatten, nn.ReLU],
}


def random_chain(seed):
    """A Sequential of up to six layers that torch runs, and the shape of an input."""
    random_, shape = random.Random(seed), None
    torch.manual_seed(seed)
    strange = random_.choice([0, 0, 0.1, 0.5])
    shape = random_.choice([(6,), (3, 8), (1, 8, 8), (2, 6, 7), (4, 1, 1), (2, 2, 3, 3)])
    values, layers = torch.rand(3, *shape), []
    for _ in range(random_.randint(2, 6)):
        kinds = (STRANGE if random_.random() < strange else PLAIN)[values.dim() - 1]
        kind = random_.choice(kinds)
        layer = (kind() if isinstance(kind, type) else kind(values.shape[1], tuple(values.shape[1:]))).eval()
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of padding="same" with even kernels
                values = layer(values)
        except RuntimeError:
            continue
        layers.append(layer)
    model = nn.Sequential(*layers, *[] if layers else [nn.ReLU()])
    for layer in model:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return model.eval(), shape


@pytest.mark.parametrize("kind", ["pt", "pt2", "onnx"])
def test_random_chains_are_refused_or_right(tmp_path, kind):
    right = refused = 0
    for seed in range(60 if kind == "pt" else 24):
        model, shape = random_chain(seed)
        try:
            path = write(tmp_path, kind, model, shape)
        except (RuntimeError, torch.onnx.errors.OnnxExporterError):
            continue  # torch's own limits
        try:
            network = load_network(path, input_shape=shape if kind == "pt" and len(shape) == 3 else None)
        except UserError as error:
            assert error.problems and all(error.problems)
            refused += 1
            continue
        if kind == "pt" and len(shape) != 1 and network.inputs != np.prod(shape):
            continue  # a linear layer alone, of which the file does not tell that it works on the last of several axes
        check(network, model, shape, any(isinstance(layer, nn.Softmax) for layer in model))
        assert network.input_shape == shape or kind == "pt"
        right += 1
    assert right >= 5 and refused >= 10


FIRST = {
    "Conv1d": (nn.Conv1d(2, 3, 2), (2, 5)), "Conv3d": (nn.Conv3d(1, 3, 2), (1, 3, 3, 3)),
    "sigmoid": (nn.Sigmoid(), (6,)), "LayerNorm": (nn.LayerNorm(6), (6,)), "GroupNorm": (nn.GroupNorm(1, 3), (3, 4, 4)),
    "same": (nn.Conv2d(2, 3, 2, padding="same", dilation=2), (2, 4, 4)), "PReLU": (nn.PReLU(), (6,)),
    "circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 4, 4)),
    "pool": (nn.MaxPool2d(1), (3, 4, 4)),
    "transposed": (nn.ConvTranspose2d(2, 3, 2), (2, 4, 4)), "padding": (nn.ZeroPad2d(1), (3, 4, 4)),
    "ReLU": (nn.ReLU(), (6,)), "flatten": (nn.Flatten(), (2, 3)), "norm": (nn.BatchNorm1d(6), (6,)),
    "softmax": (nn.Softmax(1), (6,)), "ceil": (nn.MaxPool2d(3, ceil_mode=True), (2, 4, 4)),
}


RUN = {(kind, name) for kind in ("pt", "pt2", "onnx") for name in ("same", "transposed", "Conv1d")} - {("pt", "Conv1d")}
"""Of `FIRST`, those that must run."""


@pytest.mark.parametrize("kind", ["pt", "pt2", "onnx"])
@pytest.mark.parametrize("name", FIRST)
def test_what_follows_a_rare_first_layer_is_right_or_refused(tmp_path, kind, name):
    first, shape = FIRST[name]
    first = first.eval()
    with torch.no_grad():
        made = first(torch.rand(3, *shape))
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[made.dim()]
    for after in ([nn.ReLU()], [norm(made.shape[1]), nn.ReLU()], [nn.ReLU(), norm(made.shape[1])]):
        model = nn.Sequential(first, *after, nn.Flatten(), nn.Linear(made[0].numel(), 2)).eval()
        path = write(tmp_path, kind, model, shape)
        given = shape if kind == "pt" and len(shape) == 3 else None
        try:
            network = load_network(path, input_shape=given)
        except UserError:
            assert problems(path, input_shape=given) and (kind, name) not in RUN
        else:
            check(network, model, shape)


def test_a_convolution_without_its_shape_before_a_relu_is_refused(tmp_path):
    torch.save({"conv.weight": torch.zeros(2, 1, 3, 3), "bn.weight": torch.ones(2), "bn.bias": torch.ones(2),
                "bn.running_mean": torch.zeros(2), "bn.running_var": torch.ones(2), "fc.weight": torch.zeros(3, 2)},
               tmp_path / "model.pt")
    assert problems(tmp_path / "model.pt")[0].startswith("layer 'conv' is a convolution")


def test_a_linear_layer_on_the_last_axis_behind_a_pooling_is_refused(tmp_path):
    model = nn.Sequential(nn.MaxPool2d(1), nn.Linear(8, 3))
    assert "takes 8 inputs, but an input has 1 x 8 x 8 values" in problems(
        write(tmp_path, "pt", model, (1, 8, 8)), input_shape=(1, 8, 8))[0]
