# SPDX-License-Identifier: Apache-2.0
"""The zoo: networks by name, to be trained."""

import math

import torch
from torch import nn

from host.network.zoo_tiny import TINY
from nonzero.errors import UserError

__all__ = ["KNOWN", "NETWORKS", "build", "empty", "learns_targets", "sizes"]


class LeNet300100(nn.Module):
    """784-300-100-10 perceptron with ReLU between its layers (LeCun et al., 1998, section III.C.4).

    Takes images of 784 values in any shape ``[n, ...]``; returns logits ``[n, 10]``.
    """

    title = "LeNet-300-100"
    input_shape: tuple[int, ...] = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(784, 300)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(300, 100)
        self.relu2 = nn.ReLU()
        self.fc3 = nn.Linear(100, 10)

    def forward(self, images):  # type: ignore[no-untyped-def]
        return _in_order(self, images)


class LeNet5(nn.Module):
    """Two convolutions with max pooling and two fully connected layers, in Caffe's sizes, with a ReLU after each but
    the last; Caffe's has none after the convolutions.

    Takes images of 784 values in any shape ``[n, ...]``; returns logits ``[n, 10]``.
    """

    title = "LeNet-5"
    input_shape: tuple[int, ...] = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(800, 500)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(500, 10)

    def forward(self, images):  # type: ignore[no-untyped-def]
        return _in_order(self, images)


class AlexNetGrouped(nn.Module):
    """A. Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012, with its
    groups and Caffe's names, without the response normalisation.

    Takes images ``[n, 3, 227, 227]``; returns logits ``[n, 1000]``.
    """

    title = "AlexNet with groups"
    input_shape: tuple[int, ...] = (3, 227, 227)

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1, self.pool1 = nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2)
        self.conv2, self.relu2 = nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU()
        self.pool2 = nn.MaxPool2d(3, 2)
        self.conv3, self.relu3 = nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()
        self.conv4, self.relu4 = nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()
        self.conv5, self.relu5 = nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU()
        self.pool5, self.flatten = nn.MaxPool2d(3, 2), nn.Flatten()
        self.fc6, self.relu6, self.drop6 = nn.Linear(256 * 6 * 6, 4096), nn.ReLU(), nn.Dropout()
        self.fc7, self.relu7, self.drop7 = nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()
        self.fc8 = nn.Linear(4096, 1000)

    def forward(self, images):  # type: ignore[no-untyped-def]
        return _in_order(self, images)


class AlexNet(nn.Module):
    """A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv 1404.5997; sizes and
    names of tensors are torchvision's.

    Takes images ``[n, 3, 224, 224]``; returns logits ``[n, 1000]``.
    """

    title = "AlexNet"
    input_shape: tuple[int, ...] = (3, 224, 224)

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2))
        self.avgpool, self.flatten = nn.AdaptiveAvgPool2d((6, 6)), nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(),
            nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000))

    def forward(self, images):  # type: ignore[no-untyped-def]
        return _in_order(self, images)


class VGG16(nn.Module):
    """K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
    configuration D; names of tensors are torchvision's.

    Takes images ``[n, 3, 224, 224]``; returns logits ``[n, 1000]``.
    """

    title = "VGG-16"
    input_shape: tuple[int, ...] = (3, 224, 224)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool, self.flatten = nn.AdaptiveAvgPool2d((7, 7)), nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000))

    def forward(self, images):  # type: ignore[no-untyped-def]
        return _in_order(self, images)


def _in_order(model: nn.Module, images):  # type: ignore[no-untyped-def]
    """Applies a network's modules one after the other to images of any shape ``[n, ...]``."""
    shape: tuple[int, ...] = model.input_shape  # type: ignore[assignment]
    outputs = images.reshape(-1, *shape)
    for module in model.children():
        outputs = module(outputs)
    return outputs


KNOWN: dict[str, type[nn.Module]] = {"lenet-300-100": LeNet300100, "lenet-5": LeNet5,
                                     "alexnet-grouped": AlexNetGrouped, "alexnet": AlexNet, "vgg-16": VGG16}
"""Chains of layers, which are known by the names of their tensors (`host.importers.known_networks`)."""

NETWORKS: dict[str, type[nn.Module]] = {**KNOWN, **TINY}
"""All networks, by name."""


def build(name: str) -> nn.Module:
    """A new network with random weights from torch's global generator. Raises `UserError` for an unknown ``name``."""
    if name not in NETWORKS:
        raise UserError(f"network must be one of {', '.join(NETWORKS)}, not '{name}'")
    return NETWORKS[name]()


def empty(name: str) -> nn.Module:
    """A network without values, for its layers and the shapes of its tensors; `UserError` for an unknown name."""
    with torch.device("meta"):
        return build(name)


def sizes(model: nn.Module) -> tuple[int, int]:
    """Values that ``model``, a network of the zoo, takes, and outputs of its last linear layer."""
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return math.prod(model.input_shape), linears[-1].out_features  # type: ignore[arg-type]


def learns_targets(model: nn.Module) -> bool:
    """Whether ``model``, a network of the zoo, learns float targets, not classes."""
    return bool(getattr(model, "learns_targets", False))
