# SPDX-License-Identifier: Apache-2.0
"""Small networks with branches, blocks of well-known networks, and every activation function behind a convolution, for
`host.bench.conversions`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from host.bench.conversion_images import SHAPE, conv, ended, image_net
from host.bench.conversion_subjects import (
    ACTIVATION,
    ACTIVATIONS,
    CHAIN,
    HIDDEN,
    INPUTS,
    NORM,
    OUTPUTS,
    Net,
    Subject,
)

__all__ = ["BRANCHED"]


def _same(rows: int, channels: int, *, stride: int = 1, groups: int = 1) -> nn.Module:
    """A convolution of 3 x 3 without a bias, as before a batch normalisation, and that normalisation."""
    return nn.Sequential(conv(rows, 3, channels, stride=stride, padding=1, groups=groups, bias=False),
                         nn.BatchNorm2d(rows))


def _point(rows: int, channels: int, *, stride: int = 1) -> nn.Module:
    return nn.Sequential(conv(rows, 1, channels, stride=stride, bias=False), nn.BatchNorm2d(rows))


def _projected(activation: Callable[[Tensor], Tensor] = functional.relu) -> nn.Module:
    """ResNet's block with a stride: its shortcut is a convolution of 1 x 1."""
    return image_net(lambda net, x: activation(net.c(activation(net.b(net.stem(x)))) + net.short(net.stem(x))), 64,
                     stem=conv(4, padding=1), b=_same(4, 4, stride=2), c=_same(4, 4), short=_point(4, 4, stride=2))


def _bottleneck() -> nn.Module:
    return image_net(lambda net, x: (net.c(net.b(net.a(net.stem(x).relu()).relu()).relu()) + net.stem(x).relu()).relu(),
                     256, stem=conv(4, padding=1), a=_point(2, 4), b=_same(2, 2), c=_point(4, 2))


def _preactivation() -> nn.Module:
    """ResNet-v2: normalisation and ReLU come before the convolutions, the sum goes on as it is."""
    def run(net: Any, x: Tensor) -> Tensor:
        stem = net.stem(x)
        return net.last_norm(net.b(net.norm2(net.a(net.norm1(stem).relu())).relu()) + stem).relu()
    return image_net(run, 256, stem=conv(4, padding=1), norm1=nn.BatchNorm2d(4), a=conv(4, 3, 4, padding=1),
                     norm2=nn.BatchNorm2d(4), b=conv(4, 3, 4, padding=1), last_norm=nn.BatchNorm2d(4))


def _inverted(activation: Callable[[Tensor], Tensor]) -> nn.Module:
    """MobileNetV2's and V3's block: wider inside, no activation before the sum."""
    return image_net(lambda net, x: net.c(activation(net.b(activation(net.a(net.stem(x)))))) + net.stem(x), 128,
                     stem=_same(2, 2), a=_point(6, 2), b=_same(6, 6, groups=6), c=_point(2, 6))


def _keyword_spotting() -> nn.Module:
    """MLPerf Tiny's DS-CNN, smaller: uneven padding, then depthwise and pointwise convolutions, and a mean."""
    return nn.Sequential(nn.ZeroPad2d((1, 1, 4, 5)), nn.Conv2d(1, 4, (10, 4), 2, bias=False), nn.BatchNorm2d(4),
                         nn.ReLU(), _same(4, 4, groups=4), nn.ReLU(), _point(4, 4), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, OUTPUTS))


def _autoencoder() -> nn.Module:
    """MLPerf Tiny's, smaller: linear outputs."""
    modules: list[nn.Module] = []
    for cols, rows in ((INPUTS, HIDDEN), (HIDDEN, 4), (4, HIDDEN)):
        modules += [nn.Linear(cols, rows), nn.BatchNorm1d(rows), nn.ReLU()]
    return nn.Sequential(*modules, nn.Linear(HIDDEN, INPUTS))


GRAPHS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "projected shortcut": (_projected, SHAPE),
    "projected shortcut, hard swish": (partial(_projected, functional.hardswish), SHAPE),
    "residual of two scales": (lambda: image_net(lambda net, x: (net.a(x) * 16 + x / 4).relu(), 128,
                                                 a=conv(2, padding=1)), SHAPE),
    "residual of a fraction": (lambda: image_net(lambda net, x: (net.a(x) * 0.0625 + x).relu(), 128,
                                                 a=conv(2, padding=1)), SHAPE),
    "bottleneck block": (_bottleneck, SHAPE), "pre-activation block": (_preactivation, SHAPE),
    "parallel branches, sum": (lambda: image_net(lambda net, x: net.a(x).relu() + net.b(x).relu(), 256, a=conv(4, 1),
                                                 b=conv(4, 3, padding=1)), SHAPE),
    "three branches, sum": (lambda: image_net(lambda net, x: (net.a(x) + net.b(x) + net.c(x)).relu(), 256,
                                              a=conv(4, 1), b=conv(4, padding=1), c=conv(4, 5, padding=2)), SHAPE),
    "inverted residual, relu6": (partial(_inverted, functional.relu6), SHAPE),
    "inverted residual, hard swish": (partial(_inverted, functional.hardswish), SHAPE),
    "inverted residual, hard swish by relu6": (partial(_inverted, lambda x: x * functional.relu6(x + 3) / 6), SHAPE),
    "residual around a pooling": (lambda: image_net(lambda net, x: net.b(functional.max_pool2d(net.a(x).relu(), 2))
                                                    + functional.avg_pool2d(x, 2), 32, a=conv(4, padding=1),
                                                    b=conv(2, 3, 4, padding=1)), SHAPE),
    "dense block, concatenated": (lambda: image_net(lambda net, x: net.b(torch.cat([x, net.a(x).relu()], 1)).relu(),
                                                    128, a=conv(3, padding=1), b=conv(2, 3, 5, padding=1)), SHAPE),
    "keyword spotting": (_keyword_spotting, (1, 16, 8)),
    "autoencoder": (_autoencoder, (INPUTS,)),
    "autoencoder of images": (lambda: nn.Sequential(
        conv(4, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2, 2)), SHAPE),
    "autoencoder of images, upsampled": (lambda: nn.Sequential(
        conv(4, stride=2, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2), conv(2, 3, 4, padding=1)), SHAPE),
    "siamese": (lambda: Net(lambda net, x: net.last(net.b(net.a(x).relu()).relu() + net.b(net.c(x).tanh()).relu()),
                            a=nn.Linear(INPUTS, HIDDEN), b=nn.Linear(HIDDEN, HIDDEN), c=nn.Linear(INPUTS, HIDDEN),
                            last=nn.Linear(HIDDEN, OUTPUTS)), (INPUTS,)),
    "siamese, halves of the input": (lambda: Net(lambda net, x: net.b(net.a(x[:, :6]).relu() + net.a(x[:, 6:]).relu()),
                                                 a=nn.Linear(6, HIDDEN), b=nn.Linear(HIDDEN, OUTPUTS)), (INPUTS,)),
    "difference of two": (lambda: Net(lambda net, x: net.c((net.a(x) - net.b(x)).relu()), a=nn.Linear(INPUTS, HIDDEN),
                                      b=nn.Linear(INPUTS, HIDDEN), c=nn.Linear(HIDDEN, OUTPUTS)), (INPUTS,)),
    "gate of channels": (lambda: image_net(lambda net, x: net.a(x) * net.b(x).sigmoid(), 144, a=conv(), b=conv()),
                         SHAPE),
    "two heads": (lambda: Net(lambda net, x: (net.b(net.a(x).relu().flatten(1)), net.c(net.a(x).relu().flatten(1))),
                              a=conv(), b=nn.Linear(144, OUTPUTS), c=nn.Linear(144, 2)), SHAPE),
    "plain recurrent": (lambda: Net(lambda net, x: net.b(net.a(x)[0][:, -1]), a=nn.RNN(6, 8, batch_first=True),
                                    b=nn.Linear(8, OUTPUTS)), (4, 6)),
    "layer norm first": (lambda: nn.Sequential(nn.LayerNorm(INPUTS), nn.ReLU(), nn.Linear(INPUTS, OUTPUTS)), (INPUTS,)),
    "gelu by tanh": (lambda: Net(lambda net, x: net.b((lambda y: 0.5 * y * (1 + torch.tanh(0.79788456 * (
        y + 0.044715 * y ** 3))))(net.a(x))), a=nn.Linear(INPUTS, HIDDEN), b=nn.Linear(HIDDEN, OUTPUTS)), (INPUTS,)),
    "padding as tensorflow's same": (lambda: ended(nn.ZeroPad2d((0, 1, 0, 1)), conv(stride=2), nn.ReLU6()), SHAPE),
    "dilation of rows": (lambda: ended(nn.Conv2d(2, 4, 3, padding=(3, 1), dilation=(3, 1)), nn.ReLU(),
                                       nn.AdaptiveAvgPool2d((1, 2))), SHAPE),
}

ONE_AXIS: dict[str, Callable[[], nn.Module]] = {
    "padding, stride": lambda: ended(nn.Conv1d(2, 4, 5, 2, 2), nn.ReLU(), shape=(2, 12)),
    "padding same, dilation": lambda: ended(nn.Conv1d(2, 4, 3, padding="same", dilation=2), nn.ReLU(), shape=(2, 12)),
    "groups": lambda: ended(nn.Conv1d(2, 4, 3, groups=2), nn.Tanh(), shape=(2, 12)),
    "batch norm behind": lambda: ended(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.BatchNorm1d(4), shape=(2, 12)),
    "average pooling": lambda: ended(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AvgPool1d(2), shape=(2, 12)),
    "adaptive average": lambda: ended(nn.Conv1d(2, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool1d(1), shape=(2, 12)),
    "pooling with padding": lambda: ended(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.MaxPool1d(3, 2, 1), shape=(2, 12)),
    "uneven padding": lambda: ended(nn.ConstantPad1d((2, 0), 0.0), nn.Conv1d(2, 4, 3), nn.ReLU(), shape=(2, 12)),
    "residual": lambda: Net(lambda net, x: net.b((net.a(x) + x).relu().flatten(1)), a=nn.Conv1d(2, 2, 3, padding=1),
                            b=nn.Linear(24, OUTPUTS)),
    "mean": lambda: Net(lambda net, x: net.b(net.a(x).relu().mean(-1)), a=nn.Conv1d(2, 4, 3), b=nn.Linear(4, OUTPUTS)),
    "transposed": lambda: ended(nn.ConvTranspose1d(2, 4, 3), nn.ReLU(), shape=(2, 12)),
}

BRANCHED = [
    *(Subject(f"graph: {name}", build, f"{CHAIN}|{ACTIVATION}|{NORM}", shape)
      for name, (build, shape) in GRAPHS.items()),
    *(Subject(f"one axis: {name}", build, CHAIN, (2, 12)) for name, build in ONE_AXIS.items()),
    *(Subject(f"behind a convolution: {name}", partial(lambda make: ended(conv(), make(), conv(3, 3, 4)), make),
              ACTIVATION, SHAPE) for name, make in ACTIVATIONS.items()),
    *(Subject(f"max pooling behind it: {name}", partial(lambda make: ended(conv(), make(), nn.MaxPool2d(2)), make),
              ACTIVATION, SHAPE) for name, make in ACTIVATIONS.items()
      if name in ("tanh", "silu", "gelu", "leaky relu", "relu6", "sigmoid")),
]
"""Subjects with branches, of one axis, and with activation functions behind convolutions."""
