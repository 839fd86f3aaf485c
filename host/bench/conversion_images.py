# SPDX-License-Identifier: Apache-2.0
"""Small networks of images, of every kind that is converted, for `host.bench.conversions`."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from host.bench.conversion_subjects import ACTIVATION, CHAIN, NORM, OUTPUTS, Net, Subject

__all__ = ["IMAGES", "SHAPE", "conv", "ended", "image_net"]

CHANNELS, SIZE = 2, 8
SHAPE = (CHANNELS, SIZE, SIZE)
GEOMETRY = r"LeNet|strides?|padding|pooling"


def ended(*modules: nn.Module, shape: tuple[int, ...] = SHAPE) -> nn.Module:
    """The ``modules``, which take inputs of this ``shape``, then a flatten and a linear layer."""
    return _ended_by(lambda values: nn.Linear(values, OUTPUTS), *modules, shape=shape)


def _ended_by(last: Callable[[int], nn.Module], *modules: nn.Module, shape: tuple[int, ...] = SHAPE) -> nn.Module:
    body = nn.Sequential(*modules, nn.Flatten()).eval()
    with torch.no_grad():
        values = body(torch.zeros(2, *shape)).shape[1]
    return nn.Sequential(*modules, nn.Flatten(), last(values))


def conv(rows: int = 4, kernel: int | tuple[int, int] = 3, channels: int = CHANNELS, *, stride: int | tuple[int, int]
          = 1, padding: str | int | tuple[int, int] = 0, dilation: int = 1, groups: int = 1, bias: bool = True,
          mode: Literal["zeros", "circular", "reflect", "replicate"] = "zeros") -> nn.Module:
    """A convolution of ``channels`` to ``rows`` feature maps; other parameters are those of torch, ``mode`` is
    ``padding_mode``: ``kernel``, ``stride``, ``padding``, ``dilation``, ``groups``, ``bias``.
    """
    return nn.Conv2d(channels, rows, kernel, stride, padding, dilation, groups, bias, mode)


def image_net(run: Callable[[Any, Tensor], Tensor], values: int, **modules: nn.Module) -> nn.Module:
    """`Net` with these ``modules``, whose function ``run`` gives ``values`` values to a linear layer."""
    return Net(lambda net, x: net.last(run(net, x).flatten(1)), **modules, last=nn.Linear(values, OUTPUTS))


def _residual_block() -> nn.Module:
    return image_net(lambda net, x: (net.b(net.a(x).relu()) + x).relu(), 128, a=conv(4, padding=1),
                      b=conv(2, channels=4, padding=1))


def _squeeze_and_excite() -> nn.Module:
    def run(net: Any, x: Tensor) -> Tensor:
        maps = net.a(x).relu()
        return maps * net.c(net.b(maps.mean((2, 3))).relu()).sigmoid()[:, :, None, None]
    return image_net(run, 144, a=conv(), b=nn.Linear(4, 4), c=nn.Linear(4, 4))


def _shuffled() -> nn.Module:
    return image_net(lambda net, x: net.b(net.a(x).relu().unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)).relu(),
                      64, a=conv(), b=conv(4, channels=4, groups=2))


def _lenet(activation: Callable[[], nn.Module], pooling: Callable[[int], nn.Module], kernel: int = 5,
           padding: int = 0) -> nn.Module:
    """The zoo's names and kernels, fewer channels."""
    size = ((28 + 2 * padding - kernel + 1) // 2 + 2 * padding - kernel + 1) // 2

    def run(net: Any, x: Tensor) -> Tensor:
        for convolution in (net.conv1, net.conv2):
            x = net.pool(net.act(convolution(x)))
        return net.fc2(net.act(net.fc1(x.flatten(1))))
    return Net(run, conv1=nn.Conv2d(1, 4, kernel, padding=padding), conv2=nn.Conv2d(4, 6, kernel, padding=padding),
               fc1=nn.Linear(6 * size * size, 20), fc2=nn.Linear(20, 10), act=activation(), pool=pooling(2))


CHAINS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: ended(conv(), nn.ReLU()),
    "convolution, no bias": lambda: ended(conv(bias=False), nn.ReLU()),
    "convolution, no relu": lambda: ended(conv()),
    "convolution alone": lambda: nn.Sequential(conv(), nn.Flatten()),
    "convolutions alone": lambda: nn.Sequential(conv(), nn.ReLU(), conv(3, 6, 4), nn.Flatten()),
    "convolution, maps as outputs": lambda: nn.Sequential(conv(), nn.ReLU(), conv(3, 3, 4)),
    "two convolutions": lambda: ended(conv(), nn.ReLU(), conv(6, 3, 4), nn.ReLU()),
    "convolution of 1 x 1": lambda: ended(conv(4, 1), nn.ReLU(), conv(3, 3, 4), nn.ReLU()),
    "convolution of the whole image": lambda: ended(conv(6, 8), nn.ReLU()),
    "stride": lambda: ended(conv(stride=2), nn.ReLU()),
    "two strides": lambda: ended(conv(stride=(2, 1)), nn.ReLU()),
    "stride above the kernel": lambda: ended(conv(4, 2, stride=3), nn.ReLU()),
    "padding": lambda: ended(conv(padding=1), nn.ReLU()),
    "two paddings": lambda: ended(conv(padding=(2, 1)), nn.ReLU()),
    "padding as wide as the kernel": lambda: ended(conv(padding=3), nn.ReLU()),
    "padding same": lambda: ended(conv(padding="same"), nn.ReLU()),
    "padding same, even kernel": lambda: ended(conv(4, 4, padding="same"), nn.ReLU()),
    "padding same, even kernel, batch norm": lambda: ended(conv(4, 4, padding="same"), nn.BatchNorm2d(4), nn.ReLU()),
    "padding valid": lambda: ended(conv(padding="valid"), nn.ReLU()),
    "padding same, dilation": lambda: ended(conv(padding="same", dilation=2), nn.ReLU()),
    "circular padding": lambda: ended(conv(padding=1, mode="circular"), nn.ReLU()),
    "reflected padding": lambda: ended(conv(padding=1, mode="reflect"), nn.ReLU()),
    "replicated padding": lambda: ended(conv(padding=1, mode="replicate"), nn.ReLU()),
    "zero padding first": lambda: ended(nn.ZeroPad2d(1), nn.ReLU(), conv(), nn.ReLU()),
    "uneven padding": lambda: ended(nn.ZeroPad2d((0, 1, 0, 1)), conv(stride=2), nn.ReLU()),
    "dilation": lambda: ended(conv(dilation=2), nn.ReLU()),
    "oblong kernel": lambda: ended(conv(4, (1, 3)), nn.ReLU(), conv(4, (3, 2), 4), nn.ReLU()),
    "groups": lambda: ended(conv(), nn.ReLU(), conv(4, 3, 4, groups=2), nn.ReLU()),
    "depthwise and pointwise": lambda: ended(conv(2, groups=2), nn.ReLU(), conv(4, 1), nn.ReLU()),
    "depthwise, multiplied": lambda: ended(conv(4, groups=2), nn.ReLU()),
    "transposed convolution": lambda: ended(nn.ConvTranspose2d(CHANNELS, 3, 3), nn.ReLU()),
    "max pooling": lambda: ended(conv(), nn.ReLU(), nn.MaxPool2d(2)),
    "max pooling before the relu": lambda: ended(conv(), nn.MaxPool2d(2), nn.ReLU()),
    "max pooling, no relu": lambda: ended(conv(), nn.MaxPool2d(2)),
    "max pooling, overlapping": lambda: ended(conv(), nn.ReLU(), nn.MaxPool2d(3, 1)),
    "max pooling, windows left out": lambda: ended(conv(4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
    "max pooling, rest left out": lambda: ended(conv(4, 2), nn.ReLU(), nn.MaxPool2d(2)),
    "max pooling, ceil": lambda: ended(conv(4, 2), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
    "max pooling, padding": lambda: ended(conv(), nn.ReLU(), nn.MaxPool2d(2, padding=1)),
    "max pooling, dilation": lambda: ended(conv(), nn.ReLU(), nn.MaxPool2d(2, dilation=2)),
    "max pooling, oblong": lambda: ended(conv(), nn.ReLU(), nn.MaxPool2d((2, 1))),
    "max pooling, stride above the window": lambda: ended(conv(), nn.ReLU(), nn.MaxPool2d(2, 3)),
    "max pooling of 1": lambda: ended(conv(), nn.ReLU(), nn.MaxPool2d(1)),
    "max pooling of 1, stride 2": lambda: ended(conv(), nn.ReLU(), nn.MaxPool2d(1, 2)),
    "max pooling twice": lambda: ended(conv(), nn.ReLU(), nn.MaxPool2d(2), nn.MaxPool2d(2, 1)),
    "max pooling first": lambda: ended(nn.MaxPool2d(2), conv(), nn.ReLU()),
    "max pooling first, relu": lambda: ended(nn.MaxPool2d(2), nn.ReLU(), conv(), nn.ReLU()),
    "max pooling of 1 first, relu": lambda: ended(nn.MaxPool2d(1), nn.ReLU(), conv(), nn.ReLU()),
    "max pooling of 1 first, batch norm": lambda: ended(nn.MaxPool2d(1), nn.BatchNorm2d(2), conv(), nn.ReLU()),
    "average pooling": lambda: ended(conv(), nn.ReLU(), nn.AvgPool2d(2)),
    "average pooling before the relu": lambda: ended(conv(), nn.AvgPool2d(2), nn.ReLU()),
    "average pooling, no relu": lambda: ended(conv(), nn.AvgPool2d(2)),
    "average pooling, padding": lambda: ended(conv(), nn.ReLU(), nn.AvgPool2d(2, padding=1)),
    "average pooling, padding left out": lambda: ended(conv(), nn.ReLU(),
                                                        nn.AvgPool2d(2, padding=1, count_include_pad=False)),
    "average pooling, ceil": lambda: ended(conv(4, 2), nn.ReLU(), nn.AvgPool2d(2, ceil_mode=True)),
    "average pooling, divisor": lambda: ended(conv(), nn.ReLU(), nn.AvgPool2d(2, divisor_override=3)),
    "average pooling, oblong": lambda: ended(conv(), nn.ReLU(), nn.AvgPool2d((3, 2))),
    "average pooling first": lambda: ended(nn.AvgPool2d(2), conv(), nn.ReLU()),
    "average pooling first, relu": lambda: ended(nn.AvgPool2d(2), nn.ReLU(), conv(), nn.ReLU()),
    "average pooling, then max": lambda: ended(conv(), nn.ReLU(), nn.AvgPool2d(2), nn.MaxPool2d(2)),
    "average pooling, batch norm": lambda: ended(conv(), nn.AvgPool2d(2), nn.BatchNorm2d(4), nn.ReLU()),
    "power pooling": lambda: ended(conv(), nn.ReLU(), nn.LPPool2d(2, 2)),
    "fractional strides": lambda: ended(conv(), nn.ReLU(), nn.Upsample(scale_factor=2)),
    "adaptive average": lambda: ended(conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
    "adaptive average of 3": lambda: ended(conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(3)),
    "adaptive average, uneven": lambda: ended(conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(4)),
    "adaptive average, enlarging": lambda: ended(conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(12)),
    "adaptive average, one axis": lambda: ended(conv(), nn.ReLU(), nn.AdaptiveAvgPool2d((None, 1))),
    "adaptive max": lambda: ended(conv(), nn.ReLU(), nn.AdaptiveMaxPool2d(2)),
    "batch norm before the relu": lambda: ended(conv(), nn.BatchNorm2d(4), nn.ReLU()),
    "batch norm behind the relu": lambda: ended(conv(), nn.ReLU(), nn.BatchNorm2d(4)),
    "batch norm behind the pooling": lambda: ended(conv(), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(4)),
    "batch norm between convolution and pooling": lambda: ended(conv(), nn.BatchNorm2d(4), nn.MaxPool2d(2),
                                                                 nn.ReLU()),
    "batch norm first": lambda: ended(nn.BatchNorm2d(2), conv(), nn.ReLU()),
    "batch norm first, padding": lambda: ended(nn.BatchNorm2d(2), conv(padding=1), nn.ReLU()),
    "batch norm behind the flatten": lambda: _ended_by(lambda values: nn.Sequential(
        nn.BatchNorm1d(values), nn.Linear(values, OUTPUTS)), conv(), nn.ReLU()),
    "instance norm": lambda: ended(conv(), nn.InstanceNorm2d(4), nn.ReLU()),
    "group norm": lambda: ended(conv(), nn.GroupNorm(2, 4), nn.ReLU()),
    "response norm": lambda: ended(conv(), nn.ReLU(), nn.LocalResponseNorm(3)),
    "tanh": lambda: ended(conv(), nn.Tanh()),
    "relu6": lambda: ended(conv(), nn.BatchNorm2d(4), nn.ReLU6()),
    "prelu of channels": lambda: ended(conv(), nn.PReLU(4)),
    "relu first": lambda: ended(nn.ReLU(), conv(), nn.ReLU()),
    "dropout of channels": lambda: ended(conv(), nn.ReLU(), nn.Dropout2d(), conv(3, 3, 4), nn.ReLU()),
    "softmax of channels": lambda: ended(conv(), nn.Softmax2d()),
    "softmax of channels, 1 x 1": lambda: nn.Sequential(conv(3, 8), nn.Softmax(1), nn.Flatten()),
    "pixel shuffle": lambda: ended(conv(), nn.ReLU(), nn.PixelShuffle(2)),
    "flat from the start": lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 5)),
    "flatten twice": lambda: ended(conv(), nn.ReLU(), nn.Flatten(), nn.Flatten()),
    "flatten of rows and columns": lambda: ended(conv(), nn.ReLU(), nn.Flatten(2)),
    "dense, then convolution": lambda: ended(nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.Unflatten(1, (2, 4, 4)),
                                              conv(), nn.ReLU()),
    "convolution, then linear on columns": lambda: ended(conv(), nn.ReLU(), nn.Linear(6, 4), nn.ReLU()),
}
"""Networks of standard modules in order; inputs are `SHAPE`."""

GRAPHS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "residual block": (_residual_block, CHAIN),
    "squeeze and excite": (_squeeze_and_excite, CHAIN),
    "channel shuffle": (_shuffled, CHAIN),
    "concatenation": (lambda: image_net(lambda net, x: torch.cat([net.a(x), net.b(x)], 1).relu(), 384,
                                         a=conv(4, 1), b=conv(2, 3, padding=1)), CHAIN),
    "half of the channels": (lambda: image_net(lambda net, x: net.a(x).relu().chunk(2, 1)[0], 72, a=conv()), CHAIN),
    "every second row": (lambda: image_net(lambda net, x: net.a(x).relu()[:, :, ::2], 72, a=conv()), CHAIN),
    "cut to the middle": (lambda: image_net(lambda net, x: net.a(x[:, :, 1:-1, 1:-1]).relu(), 64, a=conv()), CHAIN),
    "mirrored": (lambda: image_net(lambda net, x: net.a(x.flip(3)).relu(), 144, a=conv()), CHAIN),
    "channels reversed": (lambda: image_net(lambda net, x: net.a(x.flip(1)).relu(), 144, a=conv()), CHAIN),
    "channels last, flatten": (lambda: image_net(lambda net, x: net.a(x).relu().permute(0, 2, 3, 1), 144, a=conv()),
                               CHAIN),
    "rows and columns swapped": (lambda: image_net(lambda net, x: net.a(x.transpose(2, 3)).relu(), 144, a=conv()),
                                 CHAIN),
    "channels last, input": (lambda: image_net(lambda net, x: net.a(x.reshape(-1, 8, 8, 2).permute(0, 3, 1, 2)).relu(),
                                                144, a=conv()), CHAIN),
    "input of other axes": (lambda: image_net(lambda net, x: net.a(x.reshape(-1, 1, 8, 16)).relu(), 336,
                                               a=conv(channels=1)), CHAIN),
    "mean of rows and columns": (lambda: image_net(lambda net, x: net.a(x).relu().mean((2, 3)), 4, a=conv()), CHAIN),
    "mean of channels": (lambda: image_net(lambda net, x: net.a(x).relu().mean(1), 36, a=conv()), CHAIN),
    "greatest of rows and columns": (lambda: image_net(lambda net, x: net.a(x).relu().amax((2, 3)), 4, a=conv()),
                                     CHAIN),
    "functional max pooling": (lambda: image_net(lambda net, x: functional.max_pool2d(net.a(x), 2).relu(), 36,
                                                  a=conv()), CHAIN),
    "functional padding": (lambda: image_net(lambda net, x: net.a(functional.pad(x, (1, 0, 1, 0))).relu(), 196,
                                              a=conv()), CHAIN),
    "normalised inputs": (lambda: image_net(lambda net, x: net.a((x - 0.5) / 0.25).relu(), 144, a=conv()), CHAIN),
    "normalised inputs, padding": (lambda: image_net(lambda net, x: net.a((x - 0.5) / 0.25).relu(), 256,
                                                      a=conv(padding=1)), CHAIN),
    "inputs over 255": (lambda: image_net(lambda net, x: net.a(x / 255 * 256).relu(), 144, a=conv()), CHAIN),
    "one mean for each channel": (lambda: image_net(lambda net, x: net.a(x - torch.tensor([0.5, 0.25]).view(
        1, 2, 1, 1)).relu(), 144, a=conv()), CHAIN),
    "view of columns": (lambda: Net(lambda net, x: net.b(net.a(x).relu().view(-1, 36)), a=conv(),
                                    b=nn.Linear(36, OUTPUTS)), CHAIN),
    "convolution used twice": (lambda: image_net(lambda net, x: net.a(net.a(x).relu()).relu(), 128,
                                                  a=conv(2, padding=1)), CHAIN),
    "unfolded": (lambda: image_net(lambda net, x: net.a(functional.unfold(x, 2, stride=2).transpose(1, 2)).relu(), 64,
                                    a=nn.Linear(8, 4)), CHAIN),
}

LENETS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "max, relu": (partial(_lenet, nn.ReLU, nn.MaxPool2d), GEOMETRY),
    "average, relu": (partial(_lenet, nn.ReLU, nn.AvgPool2d), r"max pooling"),
    "max, tanh": (partial(_lenet, nn.Tanh, nn.MaxPool2d), ACTIVATION),
    "average, tanh": (partial(_lenet, nn.Tanh, nn.AvgPool2d), ACTIVATION),
    "max, no activation": (partial(_lenet, nn.Identity, nn.MaxPool2d), ACTIVATION),
    "padding": (partial(_lenet, nn.ReLU, nn.MaxPool2d, padding=2), GEOMETRY),
    "kernel of 3": (partial(_lenet, nn.ReLU, nn.MaxPool2d, kernel=3), GEOMETRY),
}
LENET_SHAPE = (1, 28, 28)

OTHER_AXES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution of one axis": (lambda: ended(nn.Conv1d(2, 4, 3), nn.ReLU(), shape=(2, 12)), (2, 12)),
    "convolution of one axis, batch norm": (lambda: ended(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(),
                                                           shape=(2, 12)), (2, 12)),
    "convolution of one axis of 1": (lambda: ended(nn.Conv1d(2, 4, 1), nn.ReLU(), shape=(2, 12)), (2, 12)),
    "convolution of one axis, pooling": (lambda: ended(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.MaxPool1d(2), shape=(2, 12)),
                                         (2, 12)),
    "convolution of three axes": (lambda: ended(nn.Conv3d(1, 2, 2), nn.ReLU(), shape=(1, 4, 4, 4)), (1, 4, 4, 4)),
    "image without channels": (lambda: image_net(lambda net, x: net.a(x.unsqueeze(1)).relu(), 144,
                                                  a=conv(channels=1)), (8, 8)),
    "image as a vector": (lambda: image_net(lambda net, x: net.a(x.view(-1, 1, 8, 8)).relu(), 144,
                                             a=conv(channels=1)), (64,)),
    "oblong image": (lambda: ended(conv(), nn.ReLU(), nn.MaxPool2d(2), shape=(2, 6, 10)), (2, 6, 10)),
    "oblong image, swapped": (lambda: image_net(lambda net, x: net.a(x.transpose(2, 3)).relu(), 128, a=conv()),
                              (2, 6, 10)),
    "as many channels as rows": (lambda: ended(conv(channels=6), nn.ReLU(), shape=(6, 6, 6)), (6, 6, 6)),
}

IMAGES = [
    *(Subject(f"image: {name}", build, ACTIVATION if "relu" in name or name in ("tanh", "prelu of channels") else
              NORM if "norm" in name else CHAIN, SHAPE) for name, build in CHAINS.items()),
    *(Subject(f"image: {name}, inputs 0 to 1", CHAINS[name], ACTIVATION if name == "relu first" else CHAIN, SHAPE,
              positive=True) for name in ("max pooling first", "average pooling first", "relu first")),
    *(Subject(f"image: {name}", build, wrong, SHAPE) for name, (build, wrong) in GRAPHS.items()),
    *(Subject(f"LeNet-5's names: {name}", build, wrong, LENET_SHAPE) for name, (build, wrong) in LENETS.items()),
    *(Subject(f"LeNet-5's names, --known: {name}", build, wrong, LENET_SHAPE, known="lenet-5")
      for name, (build, wrong) in LENETS.items()),
    *(Subject(f"LeNet-5's names, module.: {name}", build, wrong, LENET_SHAPE, known="lenet-5", saved=lambda module: {
        f"module.{key}": value for key, value in module.state_dict().items()})
      for name, (build, wrong) in LENETS.items() if name in ("max, relu", "average, relu")),
    *(Subject(f"image: {name}", build, CHAIN, shape) for name, (build, shape) in OTHER_AXES.items()),
]
"""Subjects with images."""
