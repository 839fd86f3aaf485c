# SPDX-License-Identifier: Apache-2.0
"""Networks to start from, by name."""

import math

from torch import nn

from host.errors import UserError

__all__ = ["NETWORKS", "build", "sizes"]


class LeNet300100(nn.Module):
    """784-300-100-10 perceptron with ReLU between its layers (LeCun et al., 1998, section III.C.4).

    Takes images of 784 values in any shape ``[n, ...]``; returns logits ``[n, 10]``.
    """

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
        hidden = self.relu1(self.fc1(self.flatten(images)))
        return self.fc3(self.relu2(self.fc2(hidden)))


class LeNet5(nn.Module):
    """Two convolutions with max pooling and two fully connected layers, in Caffe's sizes, with a ReLU after each but
    the last; Caffe's has none after the convolutions.

    Takes images of 784 values in any shape ``[n, ...]``; returns logits ``[n, 10]``.
    """

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
        planes = self.pool1(self.relu1(self.conv1(images.reshape(-1, *self.input_shape))))
        features = self.flatten(self.pool2(self.relu2(self.conv2(planes))))
        return self.fc2(self.relu3(self.fc1(features)))


NETWORKS: dict[str, type[nn.Module]] = {"lenet-300-100": LeNet300100, "lenet-5": LeNet5}


def build(name: str) -> nn.Module:
    """A new network with random weights from torch's global generator; `UserError` for an unknown name."""
    if name not in NETWORKS:
        raise UserError(f"network must be one of {', '.join(NETWORKS)}, not '{name}'")
    return NETWORKS[name]()


def sizes(model: nn.Module) -> tuple[int, int]:
    """Values that a network of the zoo takes, and outputs of its last linear layer."""
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return math.prod(model.input_shape), linears[-1].out_features  # type: ignore[arg-type]
