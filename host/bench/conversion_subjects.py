# SPDX-License-Identifier: Apache-2.0
"""A subject of `host.bench.conversions`: a network, how its weights are drawn, and what a reader may take its files
for.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ACTIVATION", "ACTIVATIONS", "CHAIN", "EPS", "HIDDEN", "INPUTS", "NORM", "ORDER", "OUTPUTS", "Net",
           "Subject", "draw"]

INPUTS, HIDDEN, OUTPUTS = 12, 16, 5

ACTIVATION = r"ReLU"


NORM = r"[Bb]atch ?[Nn]orm"


EPS = r"eps"


CHAIN = r"nothing else|one after (the |an)?other|no other operation|in (this|the file's|the) order|order of"


ORDER = r"order|one after"
"""Matches the note that names what differs if a file is read as another network."""

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "gelu of tanh": partial(nn.GELU, "tanh"),
    "leaky relu": nn.LeakyReLU, "relu6": nn.ReLU6, "hardswish": nn.Hardswish, "silu": nn.SiLU, "elu": nn.ELU,
    "celu": nn.CELU, "selu": nn.SELU, "softplus": nn.Softplus, "hardtanh": nn.Hardtanh, "mish": nn.Mish,
    "hardsigmoid": nn.Hardsigmoid, "logsigmoid": nn.LogSigmoid, "softsign": nn.Softsign, "tanhshrink": nn.Tanhshrink,
    "threshold": partial(nn.Threshold, 0.25, 0.0), "rrelu": nn.RReLU, "prelu": nn.PReLU,
}


class Net(nn.Module):
    """Modules by name, and a function that runs them.

    Parameters
    ----------
    run : callable
        Maps the module and its inputs to the outputs.
    **modules : nn.Module
        Submodules, under the names that ``run`` finds them by.
    """

    def __init__(self, run: Callable[[Any, Tensor], Any], **modules: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, inputs: Tensor) -> Any:
        return self.run(self, inputs)


@dataclass(frozen=True)
class Subject:
    """A network to convert.

    Attributes
    ----------
    build : callable
        Makes the module; `draw` gives it its weights.
    wrong : str
        A regular expression. If a file does not describe its network fully and is read as another one, a note must
        match it, which names what differs.
    shape : tuple of int
        Shape of an input, without the batch.
    finish : callable, optional
        Operation of the network after the outputs that count, such as a softmax.
    saved : callable, optional
        Makes what a checkpoint holds of the module; then only files of tensors are tried.
    known : str, optional
        The network of the zoo that the user says this is (``--known``).
    positive : bool
        Inputs are 0 to 1, not normally distributed.
    """

    name: str
    build: Callable[[], nn.Module]
    wrong: str = CHAIN
    shape: tuple[int, ...] = (INPUTS,)
    finish: Callable[[Tensor], Tensor] | None = None
    saved: Callable[[nn.Module], Any] | None = None
    known: str | None = None
    positive: bool = False


def draw(subject: Subject, seed: int) -> nn.Module:
    """The module with weights of 15 values, so that sharing them changes nothing, and random statistics.

    All parameters are whole numbers of at most 8 bits times powers of 2: exact in 16-bit formats, too.

    Parameters
    ----------
    subject : Subject
        Its ``build`` makes the module, which is put into evaluation mode.
    seed : int
        Seed of torch's global generator.
    """
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel")
        module = subject.build().eval()
    with torch.no_grad():
        for name, one in [*module.named_parameters(), *module.named_buffers()]:
            if not one.is_floating_point() or name.endswith("mask"):
                continue
            if one.dim() > 1:
                step = 2.0 ** round(float(torch.log2(torch.tensor(8 / max(1, one[0].numel())).sqrt() / 4)))
                one.copy_(torch.randint(-7, 8, one.shape) * step)
            elif name.endswith("running_var") or (name.endswith("weight") and one.numel() > 1):
                one.copy_(torch.randint(4, 17, one.shape) / 8)
            elif one.numel() > 1:
                one.copy_(torch.randint(-16, 17, one.shape) / 32)
    return module
