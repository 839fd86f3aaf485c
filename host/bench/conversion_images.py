# SPDX-License-Identifier: Apache-2.0
"""Small networks of images, of every kind that is converted, for `host.bench.conversions`."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from host.bench.conversion_subjects import ACTIVATION, CHAIN, Net, Subject

__all__ = ["IMAGES"]

CHANNELS, SIZE, OUTPUTS = 2, 8, 5
SHAPE = (CHANNELS, SIZE, SIZE)
NORM = r"[Bb]atch ?[Nn]orm"
GEOMETRY = r"LeNet|strides?|padding|pooling"


def _ended(*modules: nn.Module, shape: tuple[int, ...] = SHAPE) -> nn.Module:
    """The modules, then a flatten and a linear layer."""
    return _ended_by(lambda values: nn.Linear(values, OUTPUTS), *modules, shape=shape)


def _ended_by(last: Callable[[int], nn.Module], *modules: nn.Module, shape: tuple[int, ...] = SHAPE) -> nn.Module:
    body = nn.Sequential(*modules, nn.Flatten()).eval()
    with torch.no_grad():
        values = body(torch.zeros(2, *shape)).shape[1]
    return nn.Sequential(*modules, nn.Flatten(), last(values))


def _conv(rows: int = 4, kernel: int | tuple[int, int] = 3, channels: int = CHANNELS, *, stride: int | tuple[int, int]
          = 1, padding: str | int | tuple[int, int] = 0, dilation: int = 1, groups: int = 1, bias: bool = True,
          mode: Literal["zeros", "circular", "reflect", "replicate"] = "zeros") -> nn.Module:
    return nn.Conv2d(channels, rows, kernel, stride, padding, dilation, groups, bias, mode)


def _image_net(run: Callable[[Any, Tensor], Tensor], values: int, **modules: nn.Module) -> nn.Module:
    """`Net` whose function gives ``values`` values to a linear layer."""
    return Net(lambda net, x: net.last(run(net, x).flatten(1)), **modules, last=nn.Linear(values, OUTPUTS))


def _residual_block() -> nn.Module:
    return _image_net(lambda net, x: (net.b(net.a(x).relu()) + x).relu(), 128, a=_conv(4, padding=1),
                      b=_conv(2, channels=4, padding=1))


def _squeeze_and_excite() -> nn.Module:
    def run(net: Any, x: Tensor) -> Tensor:
        maps = net.a(x).relu()
        return maps * net.c(net.b(maps.mean((2, 3))).relu()).sigmoid()[:, :, None, None]
    return _image_net(run, 144, a=_conv(), b=nn.Linear(4, 4), c=nn.Linear(4, 4))


def _shuffled() -> nn.Module:
    return _image_net(lambda net, x: net.b(net.a(x).relu().unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)).relu(),
                      64, a=_conv(), b=_conv(4, channels=4, groups=2))


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
    "convolution": lambda: _ended(_conv(), nn.ReLU()),
    "convolution, no bias": lambda: _ended(_conv(bias=False), nn.ReLU()),
    "convolution, no relu": lambda: _ended(_conv()),
    "convolution alone": lambda: nn.Sequential(_conv(), nn.Flatten()),
    "convolutions alone": lambda: nn.Sequential(_conv(), nn.ReLU(), _conv(3, 6, 4), nn.Flatten()),
    "convolution, maps as outputs": lambda: nn.Sequential(_conv(), nn.ReLU(), _conv(3, 3, 4)),
    "two convolutions": lambda: _ended(_conv(), nn.ReLU(), _conv(6, 3, 4), nn.ReLU()),
    "convolution of 1 x 1": lambda: _ended(_conv(4, 1), nn.ReLU(), _conv(3, 3, 4), nn.ReLU()),
    "convolution of the whole image": lambda: _ended(_conv(6, 8), nn.ReLU()),
    "stride": lambda: _ended(_conv(stride=2), nn.ReLU()),
    "two strides": lambda: _ended(_conv(stride=(2, 1)), nn.ReLU()),
    "stride above the kernel": lambda: _ended(_conv(4, 2, stride=3), nn.ReLU()),
    "padding": lambda: _ended(_conv(padding=1), nn.ReLU()),
    "two paddings": lambda: _ended(_conv(padding=(2, 1)), nn.ReLU()),
    "padding as wide as the kernel": lambda: _ended(_conv(padding=3), nn.ReLU()),
    "padding same": lambda: _ended(_conv(padding="same"), nn.ReLU()),
    "padding same, even kernel": lambda: _ended(_conv(4, 4, padding="same"), nn.ReLU()),
    "padding same, even kernel, batch norm": lambda: _ended(_conv(4, 4, padding="same"), nn.BatchNorm2d(4), nn.ReLU()),
    "padding valid": lambda: _ended(_conv(padding="valid"), nn.ReLU()),
    "padding same, dilation": lambda: _ended(_conv(padding="same", dilation=2), nn.ReLU()),
    "circular padding": lambda: _ended(_conv(padding=1, mode="circular"), nn.ReLU()),
    "reflected padding": lambda: _ended(_conv(padding=1, mode="reflect"), nn.ReLU()),
    "replicated padding": lambda: _ended(_conv(padding=1, mode="replicate"), nn.ReLU()),
    "zero padding first": lambda: _ended(nn.ZeroPad2d(1), nn.ReLU(), _conv(), nn.ReLU()),
    "uneven padding": lambda: _ended(nn.ZeroPad2d((0, 1, 0, 1)), _conv(stride=2), nn.ReLU()),
    "dilation": lambda: _ended(_conv(dilation=2), nn.ReLU()),
    "oblong kernel": lambda: _ended(_conv(4, (1, 3)), nn.ReLU(), _conv(4, (3, 2), 4), nn.ReLU()),
    "groups": lambda: _ended(_conv(), nn.ReLU(), _conv(4, 3, 4, groups=2), nn.ReLU()),
    "depthwise and pointwise": lambda: _ended(_conv(2, groups=2), nn.ReLU(), _conv(4, 1), nn.ReLU()),
    "depthwise, multiplied": lambda: _ended(_conv(4, groups=2), nn.ReLU()),
    "transposed convolution": lambda: _ended(nn.ConvTranspose2d(CHANNELS, 3, 3), nn.ReLU()),
    "max pooling": lambda: _ended(_conv(), nn.ReLU(), nn.MaxPool2d(2)),
    "max pooling before the relu": lambda: _ended(_conv(), nn.MaxPool2d(2), nn.ReLU()),
    "max pooling, no relu": lambda: _ended(_conv(), nn.MaxPool2d(2)),
    "max pooling, overlapping": lambda: _ended(_conv(), nn.ReLU(), nn.MaxPool2d(3, 1)),
    "max pooling, windows left out": lambda: _ended(_conv(4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
    "max pooling, rest left out": lambda: _ended(_conv(4, 2), nn.ReLU(), nn.MaxPool2d(2)),
    "max pooling, ceil": lambda: _ended(_conv(4, 2), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
    "max pooling, padding": lambda: _ended(_conv(), nn.ReLU(), nn.MaxPool2d(2, padding=1)),
    "max pooling, dilation": lambda: _ended(_conv(), nn.ReLU(), nn.MaxPool2d(2, dilation=2)),
    "max pooling, oblong": lambda: _ended(_conv(), nn.ReLU(), nn.MaxPool2d((2, 1))),
    "max pooling, stride above the window": lambda: _ended(_conv(), nn.ReLU(), nn.MaxPool2d(2, 3)),
    "max pooling of 1": lambda: _ended(_conv(), nn.ReLU(), nn.MaxPool2d(1)),
    "max pooling of 1, stride 2": lambda: _ended(_conv(), nn.ReLU(), nn.MaxPool2d(1, 2)),
    "max pooling twice": lambda: _ended(_conv(), nn.ReLU(), nn.MaxPool2d(2), nn.MaxPool2d(2, 1)),
    "max pooling first": lambda: _ended(nn.MaxPool2d(2), _conv(), nn.ReLU()),
    "max pooling first, relu": lambda: _ended(nn.MaxPool2d(2), nn.ReLU(), _conv(), nn.ReLU()),
    "max pooling of 1 first, relu": lambda: _ended(nn.MaxPool2d(1), nn.ReLU(), _conv(), nn.ReLU()),
    "max pooling of 1 first, batch norm": lambda: _ended(nn.MaxPool2d(1), nn.BatchNorm2d(2), _conv(), nn.ReLU()),
    "average pooling": lambda: _ended(_conv(), nn.ReLU(), nn.AvgPool2d(2)),
    "average pooling before the relu": lambda: _ended(_conv(), nn.AvgPool2d(2), nn.ReLU()),
    "average pooling, no relu": lambda: _ended(_conv(), nn.AvgPool2d(2)),
    "average pooling, padding": lambda: _ended(_conv(), nn.ReLU(), nn.AvgPool2d(2, padding=1)),
    "average pooling, padding left out": lambda: _ended(_conv(), nn.ReLU(),
                                                        nn.AvgPool2d(2, padding=1, count_include_pad=False)),
    "average pooling, ceil": lambda: _ended(_conv(4, 2), nn.ReLU(), nn.AvgPool2d(2, ceil_mode=True)),
    "average pooling, divisor": lambda: _ended(_conv(), nn.ReLU(), nn.AvgPool2d(2, divisor_override=3)),
    "average pooling, oblong": lambda: _ended(_conv(), nn.ReLU(), nn.AvgPool2d((3, 2))),
    "average pooling first": lambda: _ended(nn.AvgPool2d(2), _conv(), nn.ReLU()),
    "average pooling first, relu": lambda: _ended(nn.AvgPool2d(2), nn.ReLU(), _conv(), nn.ReLU()),
    "average pooling, then max": lambda: _ended(_conv(), nn.ReLU(), nn.AvgPool2d(2), nn.MaxPool2d(2)),
    "average pooling, batch norm": lambda: _ended(_conv(), nn.AvgPool2d(2), nn.BatchNorm2d(4), nn.ReLU()),
    "power pooling": lambda: _ended(_conv(), nn.ReLU(), nn.LPPool2d(2, 2)),
    "fractional strides": lambda: _ended(_conv(), nn.ReLU(), nn.Upsample(scale_factor=2)),
    "adaptive average": lambda: _ended(_conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
    "adaptive average of 3": lambda: _ended(_conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(3)),
    "adaptive average, uneven": lambda: _ended(_conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(4)),
    "adaptive average, enlarging": lambda: _ended(_conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(12)),
    "adaptive average, one axis": lambda: _ended(_conv(), nn.ReLU(), nn.AdaptiveAvgPool2d((None, 1))),
    "adaptive max": lambda: _ended(_conv(), nn.ReLU(), nn.AdaptiveMaxPool2d(2)),
    "batch norm before the relu": lambda: _ended(_conv(), nn.BatchNorm2d(4), nn.ReLU()),
    "batch norm behind the relu": lambda: _ended(_conv(), nn.ReLU(), nn.BatchNorm2d(4)),
    "batch norm behind the pooling": lambda: _ended(_conv(), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(4)),
    "batch norm between convolution and pooling": lambda: _ended(_conv(), nn.BatchNorm2d(4), nn.MaxPool2d(2),
                                                                 nn.ReLU()),
    "batch norm first": lambda: _ended(nn.BatchNorm2d(2), _conv(), nn.ReLU()),
    "batch norm first, padding": lambda: _ended(nn.BatchNorm2d(2), _conv(padding=1), nn.ReLU()),
    "batch norm behind the flatten": lambda: _ended_by(lambda values: nn.Sequential(
        nn.BatchNorm1d(values), nn.Linear(values, OUTPUTS)), _conv(), nn.ReLU()),
    "instance norm": lambda: _ended(_conv(), nn.InstanceNorm2d(4), nn.ReLU()),
    "group norm": lambda: _ended(_conv(), nn.GroupNorm(2, 4), nn.ReLU()),
    "response norm": lambda: _ended(_conv(), nn.ReLU(), nn.LocalResponseNorm(3)),
    "tanh": lambda: _ended(_conv(), nn.Tanh()),
    "relu6": lambda: _ended(_conv(), nn.BatchNorm2d(4), nn.ReLU6()),
    "prelu of channels": lambda: _ended(_conv(), nn.PReLU(4)),
    "relu first": lambda: _ended(nn.ReLU(), _conv(), nn.ReLU()),
    "dropout of channels": lambda: _ended(_conv(), nn.ReLU(), nn.Dropout2d(), _conv(3, 3, 4), nn.ReLU()),
    "softmax of channels": lambda: _ended(_conv(), nn.Softmax2d()),
    "softmax of channels, 1 x 1": lambda: nn.Sequential(_conv(3, 8), nn.Softmax(1), nn.Flatten()),
    "pixel shuffle": lambda: _ended(_conv(), nn.ReLU(), nn.PixelShuffle(2)),
    "flat from the start": lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 5)),
    "flatten twice": lambda: _ended(_conv(), nn.ReLU(), nn.Flatten(), nn.Flatten()),
    "flatten of rows and columns": lambda: _ended(_conv(), nn.ReLU(), nn.Flatten(2)),
    "dense, then convolution": lambda: _ended(nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.Unflatten(1, (2, 4, 4)),
                                              _conv(), nn.ReLU()),
    "convolution, then linear on columns": lambda: _ended(_conv(), nn.ReLU(), nn.Linear(6, 4), nn.ReLU()),
}
"""Networks of standard modules in order; inputs are `SHAPE`."""

GRAPHS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "residual block": (_residual_block, CHAIN),
    "squeeze and excite": (_squeeze_and_excite, CHAIN),
    "channel shuffle": (_shuffled, CHAIN),
    "concatenation": (lambda: _image_net(lambda net, x: torch.cat([net.a(x), net.b(x)], 1).relu(), 384,
                                         a=_conv(4, 1), b=_conv(2, 3, padding=1)), CHAIN),
    "half of the channels": (lambda: _image_net(lambda net, x: net.a(x).relu().chunk(2, 1)[0], 72, a=_conv()), CHAIN),
    "every second row": (lambda: _image_net(lambda net, x: net.a(x).relu()[:, :, ::2], 72, a=_conv()), CHAIN),
    "cut to the middle": (lambda: _image_net(lambda net, x: net.a(x[:, :, 1:-1, 1:-1]).relu(), 64, a=_conv()), CHAIN),
    "mirrored": (lambda: _image_net(lambda net, x: net.a(x.flip(3)).relu(), 144, a=_conv()), CHAIN),
    "channels reversed": (lambda: _image_net(lambda net, x: net.a(x.flip(1)).relu(), 144, a=_conv()), CHAIN),
    "channels last, flatten": (lambda: _image_net(lambda net, x: net.a(x).relu().permute(0, 2, 3, 1), 144, a=_conv()),
                               CHAIN),
    "rows and columns swapped": (lambda: _image_net(lambda net, x: net.a(x.transpose(2, 3)).relu(), 144, a=_conv()),
                                 CHAIN),
    "channels last, input": (lambda: _image_net(lambda net, x: net.a(x.reshape(-1, 8, 8, 2).permute(0, 3, 1, 2)).relu(),
                                                144, a=_conv()), CHAIN),
    "input of other axes": (lambda: _image_net(lambda net, x: net.a(x.reshape(-1, 1, 8, 16)).relu(), 336,
                                               a=_conv(channels=1)), CHAIN),
    "mean of rows and columns": (lambda: _image_net(lambda net, x: net.a(x).relu().mean((2, 3)), 4, a=_conv()), CHAIN),
    "mean of channels": (lambda: _image_net(lambda net, x: net.a(x).relu().mean(1), 36, a=_conv()), CHAIN),
    "greatest of rows and columns": (lambda: _image_net(lambda net, x: net.a(x).relu().amax((2, 3)), 4, a=_conv()),
                                     CHAIN),
    "functional max pooling": (lambda: _image_net(lambda net, x: functional.max_pool2d(net.a(x), 2).relu(), 36,
                                                  a=_conv()), CHAIN),
    "functional padding": (lambda: _image_net(lambda net, x: net.a(functional.pad(x, (1, 0, 1, 0))).relu(), 196,
                                              a=_conv()), CHAIN),
    "normalised inputs": (lambda: _image_net(lambda net, x: net.a((x - 0.5) / 0.25).relu(), 144, a=_conv()), CHAIN),
    "normalised inputs, padding": (lambda: _image_net(lambda net, x: net.a((x - 0.5) / 0.25).relu(), 256,
                                                      a=_conv(padding=1)), CHAIN),
    "inputs over 255": (lambda: _image_net(lambda net, x: net.a(x / 255 * 256).relu(), 144, a=_conv()), CHAIN),
    "one mean for each channel": (lambda: _image_net(lambda net, x: net.a(x - torch.tensor([0.5, 0.25]).view(
        1, 2, 1, 1)).relu(), 144, a=_conv()), CHAIN),
    "view of columns": (lambda: Net(lambda net, x: net.b(net.a(x).relu().view(-1, 36)), a=_conv(),
                                    b=nn.Linear(36, OUTPUTS)), CHAIN),
    "convolution used twice": (lambda: _image_net(lambda net, x: net.a(net.a(x).relu()).relu(), 128,
                                                  a=_conv(2, padding=1)), CHAIN),
    "unfolded": (lambda: _image_net(lambda net, x: net.a(functional.unfold(x, 2, stride=2).transpose(1, 2)).relu(), 64,
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
    "convolution of one axis": (lambda: _ended(nn.Conv1d(2, 4, 3), nn.ReLU(), shape=(2, 12)), (2, 12)),
    "convolution of one axis, batch norm": (lambda: _ended(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(),
                                                           shape=(2, 12)), (2, 12)),
    "convolution of one axis of 1": (lambda: _ended(nn.Conv1d(2, 4, 1), nn.ReLU(), shape=(2, 12)), (2, 12)),
    "convolution of one axis, pooling": (lambda: _ended(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.MaxPool1d(2), shape=(2, 12)),
                                         (2, 12)),
    "convolution of three axes": (lambda: _ended(nn.Conv3d(1, 2, 2), nn.ReLU(), shape=(1, 4, 4, 4)), (1, 4, 4, 4)),
    "image without channels": (lambda: _image_net(lambda net, x: net.a(x.unsqueeze(1)).relu(), 144,
                                                  a=_conv(channels=1)), (8, 8)),
    "image as a vector": (lambda: _image_net(lambda net, x: net.a(x.view(-1, 1, 8, 8)).relu(), 144,
                                             a=_conv(channels=1)), (64,)),
    "oblong image": (lambda: _ended(_conv(), nn.ReLU(), nn.MaxPool2d(2), shape=(2, 6, 10)), (2, 6, 10)),
    "oblong image, swapped": (lambda: _image_net(lambda net, x: net.a(x.transpose(2, 3)).relu(), 128, a=_conv()),
                              (2, 6, 10)),
    "as many channels as rows": (lambda: _ended(_conv(channels=6), nn.ReLU(), shape=(6, 6, 6)), (6, 6, 6)),
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
