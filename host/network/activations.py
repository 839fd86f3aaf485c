# SPDX-License-Identifier: Apache-2.0
"""The activation functions that a layer may have: those of every engine (`rtl.numbers.Activation`), and `Function`.

They are defined once, for torch; `host.network.activate` and the tables of the engine compute by the same.
"""

import math
from collections.abc import Callable

import torch
from torch.nn import functional

from host.network.function import KINDS, AnyActivation, Function
from rtl.numbers import Activation

__all__ = ["AnyActivation", "Function", "apply", "at_zero", "clamp", "elu", "engine_activation", "function_of", "gelu",
           "hard_sigmoid", "hard_swish", "is_monotone", "joined_activations", "leaky_relu", "needs_table",
           "sigmoid", "silu", "softplus", "square", "tanh", "upper_bound"]


MOST = 1e6
"""Greatest magnitude of a function's parameter in a description."""


_COMPUTE: dict[str, Callable[..., torch.Tensor]] = {
    "clamp": torch.clamp, "leaky ReLU": functional.leaky_relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
    "hard sigmoid": lambda values, slope, shift: torch.clamp(slope * values + shift, 0, 1),
    "hard swish": functional.hardswish, "SiLU": functional.silu, "GELU": functional.gelu,
    "GELU (tanh)": lambda values: functional.gelu(values, approximate="tanh"), "ELU": functional.elu,
    "softplus": functional.softplus, "square": lambda values, factor: factor * values * values,
}
"""By kind of function, called with a tensor and the function's parameters."""


def clamp(low: float, high: float) -> AnyActivation:
    """``min(max(x, low), high)``; of ReLU6 ``low`` and ``high`` are 0 and 6. Either may be infinite."""
    if high == math.inf:
        if low == -math.inf:
            return Activation.IDENTITY
        if low == 0:
            return Activation.RELU
    return Function("clamp", (float(low), float(high)))


def leaky_relu(slope: float) -> AnyActivation:
    """``x``, times ``slope`` if it is negative."""
    if slope in (0, 1):
        return Activation.IDENTITY if slope else Activation.RELU
    return Function("leaky ReLU", (float(slope),))


def function_of(kind: str, parameters: tuple[float, ...]) -> Function:
    """The `Function` of this ``kind`` with these ``parameters``.

    Raises
    ------
    ValueError
        If there is none.
    """
    wanted = {"clamp": 2, "leaky ReLU": 1, "hard sigmoid": 2, "ELU": 1, "softplus": 2, "square": 1}.get(kind, 0)
    limit = math.inf if kind == "clamp" else MOST
    if kind not in KINDS or len(parameters) != wanted or not all(abs(one) <= limit for one in parameters):
        raise ValueError(f"no activation function is called {kind[:40]!r} and has {len(parameters)} such parameters")
    return Function(kind, parameters)


def sigmoid() -> Function:
    """``1 / (1 + exp(-x))``."""
    return Function("sigmoid")


def tanh() -> Function:
    """The hyperbolic tangent."""
    return Function("tanh")


def hard_sigmoid(slope: float = 1 / 6, shift: float = 0.5) -> Function:
    """``min(max(slope * x + shift, 0), 1)``; by default that of torch."""
    return Function("hard sigmoid", (float(slope), float(shift)))


def hard_swish() -> Function:
    """``x * min(max(x / 6 + 0.5, 0), 1)``."""
    return Function("hard swish")


def silu() -> Function:
    """``x / (1 + exp(-x))``, also called swish."""
    return Function("SiLU")


def gelu(*, approximate: bool = False) -> Function:
    """``x`` times the normal distribution's function of ``x``; if ``approximate``, by the formula with a tanh."""
    return Function("GELU (tanh)" if approximate else "GELU")


def elu(alpha: float = 1.0) -> Function:
    """``x``, or ``alpha * (exp(x) - 1)`` if it is negative."""
    return Function("ELU", (float(alpha),))


def softplus(beta: float = 1.0, threshold: float = 20.0) -> Function:
    """``log(1 + exp(beta * x)) / beta``, or ``x`` where ``beta * x`` exceeds ``threshold``."""
    return Function("softplus", (float(beta), float(threshold)))


def square(factor: float = 1.0) -> Function:
    """``factor * x * x``."""
    return Function("square", (float(factor),))


def apply(values: torch.Tensor, activation: AnyActivation) -> torch.Tensor:
    """The function ``activation`` of each of the ``values``; torch can differentiate through it."""
    if isinstance(activation, Function):
        return _COMPUTE[activation.kind](values, *activation.parameters)
    return functional.relu(values) if activation is Activation.RELU else values


def engine_activation(activation: AnyActivation) -> Activation:
    """What the engine is told of the function ``activation``, beside its table: the sign of its values."""
    if isinstance(activation, Function):
        return Activation.IDENTITY if activation.signed else Activation.RELU
    return activation


def upper_bound(activation: AnyActivation) -> float:
    """Where the clamp of the unsigned ``activation`` can cut the values off: infinite but for clamps from 0 on."""
    if isinstance(activation, Function) and activation.kind == "clamp" and activation.parameters[0] == 0:
        return activation.parameters[1]
    return math.inf


def joined_activations(first: AnyActivation, then: AnyActivation) -> AnyActivation | None:
    """The function that is ``then`` of ``first``; None if it is none of those that there are."""
    if first is Activation.IDENTITY or first == then is Activation.RELU:
        return then
    if then is Activation.IDENTITY or (then is Activation.RELU and not first.signed):
        return first
    if first is Activation.RELU and isinstance(then, Function) and then.kind == "clamp" and then.parameters[1] > 0:
        return clamp(max(then.parameters[0], 0), then.parameters[1])
    return None


def needs_table(activation: AnyActivation) -> bool:
    """Whether the engine needs a table for ``activation``: a clamp from 0 on is what the engine does anyway."""
    return isinstance(activation, Function) and upper_bound(activation) == math.inf


def is_monotone(activation: AnyActivation) -> bool:
    """Whether no value of ``activation`` falls: then max pooling may come before it as well as behind it."""
    return not isinstance(activation, Function) or activation.monotone


def at_zero(activation: AnyActivation) -> float:
    """The value of ``activation`` at 0; if it is not 0, zeros are not skipped."""
    return float(apply(torch.zeros(1, dtype=torch.float64), activation)[0])
