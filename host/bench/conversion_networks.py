# SPDX-License-Identifier: Apache-2.0
"""Small fully connected networks, of every kind that is converted, for `host.bench.conversions`."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from host.bench.conversion_subjects import (
    ACTIVATION,
    ACTIVATIONS,
    CHAIN,
    EPS,
    HIDDEN,
    INPUTS,
    NORM,
    ORDER,
    OUTPUTS,
    Net,
    Subject,
)

__all__ = ["FULLY_CONNECTED"]



def _linears(*sizes: int, bias: bool = True) -> list[nn.Module]:
    return [nn.Linear(cols, rows, bias=bias) for cols, rows in pairwise(sizes)]


def _chain(*modules: nn.Module) -> nn.Module:
    return nn.Sequential(*modules)


def _mlp(*between: Callable[[], nn.Module]) -> nn.Module:
    """Three linear layers with these modules after the first two."""
    first, second, third = _linears(INPUTS, HIDDEN, HIDDEN, OUTPUTS)
    return nn.Sequential(first, *(make() for make in between), second, *(make() for make in between), third)


def _named(**modules: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(modules))


def _net(run: Callable[[Any, Tensor], Any], *sizes: int, **modules: nn.Module) -> nn.Module:
    """`Net` with linear layers a, b, c and so on."""
    sizes = sizes or (INPUTS, HIDDEN, HIDDEN, OUTPUTS)
    linears = dict(zip("abcdef", _linears(*sizes), strict=False))
    return Net(run, **linears, **modules)


def _between(function: Callable[[Tensor], Tensor]) -> nn.Module:
    """Three linear layers with this function after the first two."""
    return _net(lambda net, x: net.c(function(net.b(function(net.a(x))))))


def _reversed() -> nn.Module:
    """Two square layers that run in another order than they are stored."""
    first, second, third, last = _linears(INPUTS, HIDDEN, HIDDEN, HIDDEN)[0], nn.Linear(HIDDEN, HIDDEN), \
        nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, OUTPUTS)
    return Net(lambda net, x: net.d(net.b(net.c(net.a(x).relu()).relu()).relu()), a=first, b=second, c=third, d=last)


def _masked() -> nn.Module:
    module = _mlp(nn.ReLU)
    for layer in module.children():
        if isinstance(layer, nn.Linear):
            prune.l1_unstructured(layer, "weight", 0.5)
    return module


def _weight_normed(normed: Callable[[nn.Module], nn.Module]) -> nn.Module:
    module = _mlp(nn.ReLU)
    normed(next(module.children()))
    return module


def _tied() -> nn.Module:
    return _net(lambda net, x: functional.linear(net.a(x).relu(), net.a.weight.T), INPUTS, HIDDEN)


def _state(**entries: Callable[[nn.Module], Any]) -> Callable[[nn.Module], Any]:
    """A checkpoint with these entries."""
    return lambda module: {name: entry(module) for name, entry in entries.items()}


def _prefixed(*prefixes: str, **more: Tensor) -> Callable[[nn.Module], Any]:
    """The state dictionary once under each prefix, the second and later ones with other values."""
    return lambda module: {**{f"{prefix}{key}": value * (1 + number / 2) if number else value
                              for number, prefix in enumerate(prefixes)
                              for key, value in module.state_dict().items()}, **more}


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "clamp": lambda x: x.clamp(min=0), "clamp to 1": lambda x: x.clamp(0, 1), "square": lambda x: x * x,
    "abs": torch.abs, "maximum of 0": lambda x: torch.maximum(x, torch.zeros_like(x)), "sine": torch.sin,
    "times itself positive": lambda x: x * (x > 0), "functional relu": functional.relu, "relu of negative":
    lambda x: torch.relu(-x), "negative relu": lambda x: -torch.relu(x), "normalised": functional.normalize,
    "softmax in the middle": lambda x: x.softmax(1), "times 16": lambda x: x.relu() * 16,
    "plus 1": lambda x: x.relu() + 1, "less its mean": lambda x: (x - x.mean(1, keepdim=True)).relu(),
    "flipped": lambda x: x.relu().flip(1), "rolled": lambda x: x.relu().roll(1, 1), "sorted":
    lambda x: x.relu().sort(1).values, "cumulative": lambda x: x.relu().cumsum(1), "exponential": lambda x: x.exp(),
}

NORMS: dict[str, Callable[[], nn.Module]] = {
    "layer norm": lambda: nn.LayerNorm(HIDDEN), "layer norm, no affine":
    lambda: nn.LayerNorm(HIDDEN, elementwise_affine=False), "rms norm": lambda: nn.RMSNorm(HIDDEN),
    "group norm": lambda: nn.GroupNorm(4, HIDDEN), "batch norm of the batch":
    lambda: nn.BatchNorm1d(HIDDEN, track_running_stats=False), "batch norm, no affine":
    lambda: nn.BatchNorm1d(HIDDEN, affine=False), "batch norm": lambda: nn.BatchNorm1d(HIDDEN),
}

STRUCTURES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "residual": (lambda: _net(lambda net, x: net.c((lambda h: h + net.b(h).relu())(net.a(x).relu()))), CHAIN),
    "gate": (lambda: _net(lambda net, x: net.c(net.a(x).relu() * net.d(x).sigmoid()), INPUTS, HIDDEN, HIDDEN, OUTPUTS,
                          d=nn.Linear(INPUTS, HIDDEN)), CHAIN),
    "gate of the layer before": (lambda: _net(lambda net, x: net.c(
        (lambda h: h * net.b(h).sigmoid())(net.a(x).relu()))), CHAIN),
    "glu": (lambda: Net(lambda net, x: net.b(functional.glu(net.a(x))), a=nn.Linear(INPUTS, 2 * HIDDEN),
                        b=nn.Linear(HIDDEN, OUTPUTS)), CHAIN),
    "chunk": (lambda: Net(lambda net, x: net.b(net.a(x).relu().chunk(2, 1)[1]), a=nn.Linear(INPUTS, 2 * HIDDEN),
                          b=nn.Linear(HIDDEN, OUTPUTS)), CHAIN),
    "concatenation of the input": (lambda: Net(lambda net, x: net.b(torch.cat([net.a(x).relu(), x], 1)),
                                               a=nn.Linear(INPUTS, HIDDEN), b=nn.Linear(INPUTS + HIDDEN, OUTPUTS)),
                                   CHAIN),
    "concatenation of two": (lambda: Net(lambda net, x: net.c(torch.cat([net.a(x).relu(), net.b(x).relu()], 1)),
                                         a=nn.Linear(INPUTS, HIDDEN), b=nn.Linear(INPUTS, HIDDEN),
                                         c=nn.Linear(2 * HIDDEN, OUTPUTS)), CHAIN),
    "sum of two": (lambda: Net(lambda net, x: net.c((net.a(x) + net.b(x)).relu()), a=nn.Linear(INPUTS, INPUTS),
                               b=nn.Linear(INPUTS, INPUTS), c=nn.Linear(INPUTS, OUTPUTS)), CHAIN),
    "maxout": (lambda: Net(lambda net, x: net.b(net.a(x).reshape(-1, HIDDEN, 2).amax(2)),
                           a=nn.Linear(INPUTS, 2 * HIDDEN), b=nn.Linear(HIDDEN, OUTPUTS)), CHAIN),
    "another order": (_reversed, ORDER),
    "used twice": (lambda: _net(lambda net, x: net.c(net.b(net.b(net.a(x).relu()).relu()).relu())), r"used twice"),
    "never used": (lambda: _net(lambda net, x: net.c(net.a(x).relu())), r"'b'"),
    "tied weights": (_tied, CHAIN),
    "two heads": (lambda: _net(lambda net, x: (net.b(net.a(x).relu()), net.d(net.a(x).relu())), INPUTS, HIDDEN, HIDDEN,
                               d=nn.Linear(HIDDEN, HIDDEN)), ORDER),
    "one of two heads": (lambda: _net(lambda net, x: net.b(net.a(x).relu()), INPUTS, HIDDEN, HIDDEN,
                                      d=nn.Linear(HIDDEN, HIDDEN)), ORDER),
    "bottleneck": (lambda: _named(a=nn.Linear(INPUTS, HIDDEN), relu=nn.ReLU(), code=nn.Linear(HIDDEN, 3),
                                  b=nn.Linear(3, HIDDEN), relu2=nn.ReLU(), c=nn.Linear(HIDDEN, INPUTS)), ACTIVATION),
    "no activation": (_mlp, ACTIVATION),
    "one layer": (lambda: _chain(nn.Linear(INPUTS, OUTPUTS)), ACTIVATION),
    "relu": (lambda: _mlp(nn.ReLU), ACTIVATION),
    "no biases": (lambda: _chain(*_linears(INPUTS, HIDDEN, bias=False), nn.ReLU(), nn.Linear(HIDDEN, OUTPUTS, False)),
                  ACTIVATION),
    "relu last": (lambda: _chain(_mlp(nn.ReLU), nn.ReLU()), ACTIVATION),
    "relu first": (lambda: _chain(nn.ReLU(), _mlp(nn.ReLU)), ACTIVATION),
    "relu twice": (lambda: _mlp(nn.ReLU, nn.ReLU), ACTIVATION),
    "relu in place": (lambda: _mlp(partial(nn.ReLU, inplace=True)), ACTIVATION),
    "sigmoid first": (lambda: _chain(nn.Sigmoid(), nn.ReLU(), _mlp(nn.ReLU)), ACTIVATION),
    "sigmoid last": (lambda: _chain(_mlp(nn.ReLU), nn.Sigmoid()), ACTIVATION),
    "tanh last": (lambda: _chain(_mlp(nn.ReLU), nn.Tanh()), ACTIVATION),
    "prelu of channels": (lambda: _mlp(lambda: nn.PReLU(HIDDEN)), ACTIVATION),
    "dropout": (lambda: _mlp(nn.ReLU, nn.Dropout), ACTIVATION),
    "alpha dropout, identity": (lambda: _mlp(nn.ReLU, nn.AlphaDropout, nn.Identity), ACTIVATION),
    "functional dropout": (lambda: _net(lambda net, x: net.b(functional.dropout(net.a(x).relu(), 0.5, net.training)),
                                        INPUTS, HIDDEN, OUTPUTS), ACTIVATION),
    "identity, flatten": (lambda: _chain(nn.Identity(), nn.Flatten(), _mlp(nn.ReLU)), ACTIVATION),
    "normalised inputs": (lambda: _net(lambda net, x: net.b(net.a((x - 0.5) / 0.25).relu()), INPUTS, HIDDEN, OUTPUTS),
                          CHAIN),
    "divided inputs": (lambda: _net(lambda net, x: net.b(net.a(x / 4).relu()), INPUTS, HIDDEN, OUTPUTS), CHAIN),
    "scaled outputs": (lambda: _net(lambda net, x: net.b(net.a(x).relu()) * 16, INPUTS, HIDDEN, OUTPUTS), CHAIN),
    "shifted outputs": (lambda: _net(lambda net, x: net.b(net.a(x).relu()) - 3, INPUTS, HIDDEN, OUTPUTS), CHAIN),
    "part of the inputs": (lambda: _net(lambda net, x: net.b(net.a(x[:, 2:]).relu()), INPUTS - 2, HIDDEN, OUTPUTS),
                           CHAIN),
    "part of the outputs": (lambda: _net(lambda net, x: net.b(net.a(x).relu())[:, 1:], INPUTS, HIDDEN, OUTPUTS), CHAIN),
    "permuted outputs": (lambda: _net(lambda net, x: net.b(net.a(x).relu())[:, [2, 0, 1]], INPUTS, HIDDEN, 3), CHAIN),
    "mean of the outputs": (lambda: _net(lambda net, x: net.b(net.a(x).relu()).mean(1, keepdim=True), INPUTS, HIDDEN,
                                         OUTPUTS), CHAIN),
    "greatest output's index": (lambda: _net(lambda net, x: net.b(net.a(x).relu()).argmax(1, keepdim=True), INPUTS,
                                             HIDDEN, OUTPUTS), CHAIN),
    "regressor of unequal ranges": (lambda: _net(lambda net, x: net.b(net.a(x).relu()) * torch.tensor(
        [100., 1, 1, 1]), INPUTS, HIDDEN, 4), CHAIN),
    "batch norm behind the relu": (lambda: _mlp(nn.ReLU, lambda: nn.BatchNorm1d(HIDDEN)), NORM),
    "batch norm before the relu": (lambda: _mlp(lambda: nn.BatchNorm1d(HIDDEN), nn.ReLU), NORM),
    "batch norm, no relu": (lambda: _mlp(lambda: nn.BatchNorm1d(HIDDEN)), ACTIVATION),
    "batch norm of another eps": (lambda: _mlp(lambda: nn.BatchNorm1d(HIDDEN, eps=0.1), nn.ReLU), EPS),
    "batch norm first": (lambda: _chain(nn.BatchNorm1d(INPUTS), _mlp(nn.ReLU)), NORM),
    "batch norm last": (lambda: _chain(_mlp(nn.ReLU), nn.BatchNorm1d(OUTPUTS)), NORM),
    "batch norm twice": (lambda: _mlp(lambda: nn.BatchNorm1d(HIDDEN), lambda: nn.BatchNorm1d(HIDDEN), nn.ReLU), NORM),
    "batch norm and tanh": (lambda: _mlp(lambda: nn.BatchNorm1d(HIDDEN), nn.Tanh), ACTIVATION),
    "masks": (_masked, ACTIVATION),
    "weight norm": (partial(_weight_normed, parametrizations.weight_norm), ACTIVATION),
    "spectral norm": (partial(_weight_normed, parametrizations.spectral_norm), ACTIVATION),
    "bilinear": (lambda: Net(lambda net, x: net.b(net.a(x, x).relu()), a=nn.Bilinear(INPUTS, INPUTS, HIDDEN),
                             b=nn.Linear(HIDDEN, OUTPUTS)), CHAIN),
}

SEQUENCES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "view as more rows": (lambda: _net(lambda net, x: net.b(net.a(x.view(-1, 16)).relu()), 16, HIDDEN, OUTPUTS), (64,)),
    "view of an image as more rows": (lambda: _net(lambda net, x: net.b(net.a(x.view(-1, 16)).relu()), 16, HIDDEN,
                                                   OUTPUTS), (1, 8, 8)),
    "linear on the last of two axes": (lambda: _chain(nn.Linear(9, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUTPUTS)),
                                       (4, 9)),
    "linear on the last of three axes": (lambda: _chain(nn.Linear(6, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUTPUTS)),
                                         (2, 4, 6)),
    "linear on the last axis, mean": (lambda: _net(lambda net, x: net.b(net.a(x).relu().mean(1)), 9, HIDDEN, OUTPUTS),
                                      (4, 9)),
    "linear on the last axis, flatten": (lambda: _chain(nn.Linear(6, 4), nn.ReLU(), nn.Flatten(),
                                                        nn.Linear(16, OUTPUTS)), (4, 6)),
    "flatten": (lambda: _chain(nn.Flatten(), nn.Linear(36, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUTPUTS)), (4, 9)),
    "flatten of the last axes": (lambda: _chain(nn.Flatten(2), nn.Linear(6, HIDDEN), nn.ReLU(),
                                                nn.Linear(HIDDEN, OUTPUTS)), (4, 2, 3)),
    "transposed, flatten": (lambda: _net(lambda net, x: net.b(net.a(x.transpose(1, 2).flatten(1)).relu()), 36, HIDDEN,
                                         OUTPUTS), (4, 9)),
    "embedding": (lambda: Net(lambda net, x: net.b(net.a((x > 0).long()).flatten(1)), a=nn.Embedding(2, 4),
                              b=nn.Linear(48, OUTPUTS)), (12,)),
    "lstm": (lambda: Net(lambda net, x: net.b(net.a(x)[0][:, -1]), a=nn.LSTM(6, 8, batch_first=True),
                         b=nn.Linear(8, OUTPUTS)), (4, 6)),
    "gru": (lambda: Net(lambda net, x: net.b(net.a(x)[0][:, -1]), a=nn.GRU(6, 8, batch_first=True),
                        b=nn.Linear(8, OUTPUTS)), (4, 6)),
    "attention": (lambda: Net(lambda net, x: net.b(net.a(x, x, x)[0].flatten(1)),
                              a=nn.MultiheadAttention(8, 2, batch_first=True), b=nn.Linear(32, OUTPUTS)), (4, 8)),
    "matmul": (lambda: _net(lambda net, x: net.b((x @ net.a.weight.T + net.a.bias).relu()), INPUTS, HIDDEN, OUTPUTS),
               (INPUTS,)),
    "einsum": (lambda: _net(lambda net, x: net.b(torch.einsum("ni,oi->no", x, net.a.weight).relu()), INPUTS, HIDDEN,
                            OUTPUTS), (INPUTS,)),
}

CHECKPOINTS: dict[str, Callable[[nn.Module], Any]] = {
    "module. (DataParallel)": _prefixed("module."), "_orig_mod. (compile)": _prefixed("_orig_mod."),
    "model. (Lightning)": _state(epoch=lambda module: 3, state_dict=_prefixed("model.")),
    "module._orig_mod.": _prefixed("module._orig_mod."),
    "with an ema copy": _prefixed("", "ema."), "with an ema copy first": _prefixed("ema.", "model."),
    "two models": _prefixed("generator.", "discriminator."), "teacher and student": _prefixed("student.", "teacher."),
    "class weights": _prefixed("model.", **{"criterion.weight": torch.arange(1., 6)}),
    "pos weights": _prefixed("", **{"loss.pos_weight": torch.arange(1., 6)}),
    "n_averaged": _prefixed("module.", n_averaged=torch.tensor(7)),
    "ema under its own key": _state(model=lambda module: module.state_dict(), ema=_prefixed("module.")),
    "model_ema beside state_dict": _state(state_dict=lambda module: module.state_dict(), state_dict_ema=lambda module:
                                          {key: value * 2 for key, value in module.state_dict().items()}),
    "with an optimizer": _state(model=lambda module: module.state_dict(), optimizer=lambda module: torch.optim.Adam(
        module.parameters()).state_dict(), epoch=lambda module: 3),
    "in half precision": lambda module: {key: value.half() for key, value in module.state_dict().items()},
    "in bfloat16": lambda module: {key: value.bfloat16() for key, value in module.state_dict().items()},
    "in double precision": lambda module: {key: value.double() for key, value in module.state_dict().items()},
    "with int8 weights": lambda module: {key: (value * 64).to(torch.int8) for key, value in
                                         module.state_dict().items()},
    "transposed views": lambda module: {key: value.t().contiguous().t() if value.dim() == 2 else value
                                        for key, value in module.state_dict().items()},
    "weights alone": lambda module: {key: value for key, value in module.state_dict().items() if "weight" in key},
    "a list of tensors": lambda module: list(module.state_dict().values()),
    "sorted by name": lambda module: dict(sorted(module.state_dict().items())),
    "reversed": lambda module: dict(reversed(module.state_dict().items())),
}

FULLY_CONNECTED = [
    *(Subject(name, partial(_mlp, make), ACTIVATION) for name, make in ACTIVATIONS.items()),
    *(Subject(name, partial(_between, run),
              ACTIVATION if name in ("clamp to 1", "square", "abs", "sine", "exponential", "relu of negative",
                                     "negative relu") else f"{CHAIN}|{ACTIVATION}")
      for name, run in FUNCTIONS.items()),
    *(Subject(name, partial(_mlp, make, nn.ReLU), NORM if "batch" in name else CHAIN) for name, make in NORMS.items()),
    *(Subject(name, build, wrong) for name, (build, wrong) in STRUCTURES.items()),
    *(Subject(f"inputs 0 to 1: {name}", build, wrong, positive=True) for name, (build, wrong) in STRUCTURES.items()
      if name in ("relu", "normalised inputs", "batch norm first", "relu first")),
    *(Subject(name, partial(lambda last: _chain(_mlp(nn.ReLU), last), last), ACTIVATION, finish=last)
      for name, last in (("softmax last", nn.Softmax(1)), ("log softmax last", nn.LogSoftmax(1)))),
    *(Subject(name, build, f"{CHAIN}|axis|axes", shape) for name, (build, shape) in SEQUENCES.items()),
    *(Subject(f"checkpoint: {name}", partial(_mlp, nn.ReLU), r"weights alone|bias" if name == "weights alone"
              else ORDER, saved=saved) for name, saved in CHECKPOINTS.items()),
]
"""Subjects without images."""
