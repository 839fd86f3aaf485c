# SPDX-License-Identifier: Apache-2.0
"""Networks to start from, by name."""

from torch import nn

from host.errors import UserError

__all__ = ["NETWORKS", "build", "sizes"]


class LeNet300100(nn.Module):
    """784-300-100-10 perceptron with ReLU between its layers (LeCun et al., 1998, section III.C.4).

    Takes images of 784 values in any shape ``[n, ...]``; returns logits ``[n, 10]``.
    """

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


NETWORKS: dict[str, type[nn.Module]] = {"lenet-300-100": LeNet300100}


def build(name: str) -> nn.Module:
    """A new network with random weights from torch's global generator; `UserError` for an unknown name."""
    if name not in NETWORKS:
        raise UserError(f"network must be one of {', '.join(NETWORKS)}, not '{name}'")
    return NETWORKS[name]()


def sizes(model: nn.Module) -> tuple[int, int]:
    """Inputs of the first and outputs of the last linear layer."""
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return linears[0].in_features, linears[-1].out_features
