# SPDX-License-Identifier: Apache-2.0
"""Batch normalisations and constants anywhere: folded into a layer before or behind them, else layers of their own."""

import pytest
import torch
from torch import nn

from host.importers.load_network import load_network
from tests.support.model_files import check, refusal, write
from tests.support.torch_models import Branches, normalized

Linear, Conv, Relu = nn.Linear, nn.Conv2d, nn.ReLU


def conv(inputs=3, outputs=3):
    return Conv(inputs, outputs, 3, padding=1)


def per_channel(model):
    model.register_buffer("mean", torch.tensor([0.1, 0.4, 0.2]).view(1, 3, 1, 1))
    model.register_buffer("std", torch.tensor([0.5, 0.7, 0.9]).view(3, 1, 1))
    return model


MODELS = {
    # name: shape of an input, model, and the names of its layers; those that only scale are in brackets
    "behind an activation": ((6,), lambda: nn.Sequential(Linear(6, 8), Relu(), normalized(nn.BatchNorm1d(8)),
                                                         Linear(8, 3)), "0 3"),
    "first": ((6,), lambda: nn.Sequential(normalized(nn.BatchNorm1d(6)), Linear(6, 3)), "1"),
    "last": ((6,), lambda: nn.Sequential(Linear(6, 8), Relu(), normalized(nn.BatchNorm1d(8))), "0 [2]"),
    "first, padded": ((3, 6, 5), lambda: nn.Sequential(normalized(nn.BatchNorm2d(3)), conv()), "[0] 1"),
    "first, not padded": ((3, 6, 5), lambda: nn.Sequential(normalized(nn.BatchNorm2d(3)), Conv(3, 4, 3)), "1"),
    "before a max pooling": ((3, 6, 5), lambda: nn.Sequential(conv(), Relu(), normalized(nn.BatchNorm2d(3)),
                                                              nn.MaxPool2d(2), Conv(3, 5, 2)), "0 4"),
    "negative before a max pooling": (
        (3, 6, 5), lambda: nn.Sequential(conv(), Relu(), normalized(nn.BatchNorm2d(3), -1.0), nn.MaxPool2d(2),
                                         Conv(3, 5, 2)), "0 [2] 4"),
    "before a mean": ((3, 6, 5), lambda: nn.Sequential(conv(), Relu(), normalized(nn.BatchNorm2d(3)), nn.AvgPool2d(2),
                                                       Conv(3, 5, 2)), "0 avg_pool2d 4"),
    "of a flattened map": ((3, 6, 5), lambda: nn.Sequential(conv(), Relu(), nn.Flatten(), normalized(
        nn.BatchNorm1d(90)), Linear(90, 3)), "0 4"),
    "constants behind an activation": ((6,), lambda: Branches(
        lambda m, x: m.b((m.a(x).relu() * 0.5 - 1) / 3 + 2), a=Linear(6, 8), b=Linear(8, 3)), "a b"),
    "constants before an activation": ((6,), lambda: Branches(
        lambda m, x: m.b((2 - m.a(x) * 0.5).relu()), a=Linear(6, 8), b=Linear(8, 3)), "a b"),
    "behind a sum": ((3, 6, 5), lambda: Branches(
        lambda m, x: (lambda y: m.c(m.n(m.b(y) + y).relu()))(m.a(x).relu()), a=conv(), b=conv(), c=conv(),
        n=normalized(nn.BatchNorm2d(3))), "a b [n] c"),
    "before an activation of one branch": ((3, 6, 5), lambda: Branches(
        lambda m, x: (lambda y: m.b(m.n(y).relu()) + y)(m.a(x)), a=conv(), b=conv(),
        n=normalized(nn.BatchNorm2d(3))), "a [n] b"),
    "of an input of several layers": ((3, 6, 5), lambda: Branches(
        lambda m, x: (lambda y: m.a(y) + y)(x / 2 - 0.25), a=conv()), "[input] a"),
    "of one of two inputs": ((3, 6, 5), lambda: Branches(
        lambda m, x: m.a(x) + m.b(x / 2 + 0.5), a=conv(), b=conv()), "a [div] b"),
    "of each channel of the input": ((3, 6, 5), lambda: per_channel(Branches(
        lambda m, x: m.a((x - m.mean) / m.std), a=conv())), "[input] a"),
}


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize("name", MODELS)
def test_scales_fold_or_run(tmp_path, name, kind):
    shape, made, names = MODELS[name]
    torch.manual_seed(0)
    model = made().eval()
    network = load_network(write(tmp_path, kind, model, shape))
    check(network, model, shape)
    alone = [layer.geometry is not None and layer.shape.kernel == (1, 1) and layer.cols == 1
             for layer in network.layers]
    if kind == "pt2":
        found = [f"[{layer.name}]" if scales else layer.name
                 for layer, scales in zip(network.layers, alone, strict=True)]
        assert " ".join(found) == names
    assert sum(alone) == names.count("[")


def with_constant(model, constant):
    model.register_buffer("constant", constant)
    return model


@pytest.mark.parametrize(("model", "problem"), [
    (lambda: nn.Sequential(conv(), Relu(), nn.Flatten(), nn.BatchNorm1d(90)),
     ("layer '3' scales or shifts each value of a flattened map by itself, and no linear layer follows to take that "
      "up; do it for each channel before the map is flattened")),
    (lambda: with_constant(Branches(lambda m, x: m.b(m.a(x).relu() * m.constant), a=conv(), b=conv()), torch.ones(5)),
     ("layer 'mul' works with a constant of the shape [5], where 3 x 6 x 5 values flow; use one number, or one for "
      "each channel")),
    (lambda: Branches(lambda m, x: m.b(m.a(x).relu() / 0.0), a=conv(), b=conv()), "layer 'div': divides by 0"),
], ids=["flat", "by column", "zero"])
def test_what_does_not_fold_is_refused(tmp_path, model, problem):
    assert problem in refusal(write(tmp_path, "pt2", model().eval(), (3, 6, 5)))
