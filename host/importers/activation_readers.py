# SPDX-License-Identifier: Apache-2.0
"""Activation functions from the arguments, attributes and options that model files give them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from host.importers.stored_tensor import StoredTensor, TensorError
from host.network.activations import (
    clamp,
    elu,
    gelu,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from host.network.function import AnyActivation
from rtl.numbers import Activation

__all__ = ["MODULES", "ReadError", "exported", "from_onnx", "prelu"]

CLOSE = 1e-6
"""ONNX stores parameters as float32."""


class ReadError(ValueError):
    """A function that is not known here; the message continues a sentence that begins with the layer's name."""


def _number(found: Mapping[str, Any], name: str, default: float | None) -> float:
    """The number called ``name``, ``default`` if it is not there or None."""
    value: Any = found.get(name)
    value = default if value is None else value
    if type(value) not in (int, float) or math.isnan(value):
        raise ReadError(f"has a {name} that is no number; export it with a fixed one")
    return float(value)


def _hardtanh(found: Mapping[str, Any]) -> AnyActivation:
    return _ordered(_number(found, "min_val", -1), _number(found, "max_val", 1))


def _clamped(found: Mapping[str, Any]) -> AnyActivation:
    return _ordered(_number(found, "min", -math.inf), _number(found, "max", math.inf))


def _ordered(low: float, high: float) -> AnyActivation:
    if not low < high:
        raise ReadError(f"is a clamp from {low:g} to {high:g}, which gives one value only")
    return clamp(low, high)


def _gelu(found: Mapping[str, Any]) -> AnyActivation:
    form = found.get("approximate") or "none"
    if form not in ("none", "tanh"):
        raise ReadError("is a GELU of a form that is not known here; use approximate='none' or 'tanh'")
    return gelu(approximate=form == "tanh")


def _elu(found: Mapping[str, Any]) -> AnyActivation:
    if _number(found, "scale", 1) != 1 or _number(found, "input_scale", 1) != 1:
        raise ReadError("is a SELU or a scaled ELU; use torch.nn.ELU")
    return elu(_finite(found, "alpha", 1))


def _celu(found: Mapping[str, Any]) -> AnyActivation:
    if _number(found, "alpha", 1) != 1:
        raise ReadError("is a CELU of another alpha than 1; use torch.nn.ELU")
    return elu()


def _rrelu(found: Mapping[str, Any]) -> AnyActivation:
    """In inference, the slope is the mean of its ends."""
    if found.get("training"):
        raise ReadError("is an RReLU in training mode; call model.eval() before the export")
    return leaky_relu((_finite(found, "lower", 1 / 8) + _finite(found, "upper", 1 / 3)) / 2)


def _finite(found: Mapping[str, Any], name: str, default: float) -> float:
    value = _number(found, name, default)
    if not math.isfinite(value):
        raise ReadError(f"has an infinite {name}")
    return value


def _softplus(found: Mapping[str, Any]) -> AnyActivation:
    beta = _finite(found, "beta", 1)
    if beta <= 0:
        raise ReadError(f"is a softplus with a beta of {beta:g}; use one above 0")
    return softplus(beta, _finite(found, "threshold", 20))


def prelu(slopes: StoredTensor) -> AnyActivation:
    """A PReLU of one slope for all channels.

    Raises
    ------
    ReadError
        If ``slopes`` are several, or cannot be read.
    """
    try:
        values = slopes.read().ravel()
    except TensorError as error:
        raise ReadError(f"has slopes that cannot be read: each {error}") from None
    if not values.size or (values != values[0]).any():
        raise ReadError(f"is a PReLU of {values.size} slopes; only one for all channels runs: use torch.nn.PReLU()")
    return leaky_relu(float(values[0]))


_EXPORTED: dict[str, Callable[[Mapping[str, Any]], AnyActivation]] = {
    "relu": lambda found: Activation.RELU, "sigmoid": lambda found: sigmoid(), "tanh": lambda found: tanh(),
    "hardtanh": _hardtanh, "relu6": lambda found: clamp(0, 6), "clamp": _clamped, "clamp_min": _clamped,
    "clamp_max": _clamped, "leaky_relu": lambda found: leaky_relu(_finite(found, "negative_slope", 0.01)),
    "gelu": _gelu, "silu": lambda found: silu(), "hardswish": lambda found: hard_swish(),
    "hardsigmoid": lambda found: hard_sigmoid(), "elu": _elu, "softplus": _softplus,
    "celu": _celu, "rrelu": _rrelu,
}
"""By the operation of torch.ops.aten; those in place end in an underscore."""


def exported(operation: str, arguments: Mapping[str, Any]) -> AnyActivation | None:
    """The function that an operation of torch.ops.aten is; None if it is none.

    Parameters
    ----------
    operation : str
        Its name, for instance ``leaky_relu`` or ``leaky_relu_``.
    arguments : mapping
        Its arguments by name.

    Raises
    ------
    ReadError
        For a function of a form that is not known here.
    """
    read = _EXPORTED.get(operation.removesuffix("_"))
    return read and read(arguments)


MODULES: dict[str, Callable[[Mapping[str, Any]], AnyActivation]] = {
    "ReLU": _EXPORTED["relu"], "Sigmoid": _EXPORTED["sigmoid"], "Tanh": _EXPORTED["tanh"], "Hardtanh": _hardtanh,
    "ReLU6": _EXPORTED["relu6"], "LeakyReLU": _EXPORTED["leaky_relu"], "GELU": _gelu, "SiLU": _EXPORTED["silu"],
    "Hardswish": _EXPORTED["hardswish"], "Hardsigmoid": _EXPORTED["hardsigmoid"], "ELU": _elu, "Softplus": _softplus,
    "CELU": _celu, "RReLU": lambda found: _rrelu({name: found.get(name) for name in ("lower", "upper")}),
}
"""Classes of torch.nn, from the attributes of a module."""


def from_onnx(kind: str, attribute: Callable[[str, Any], Any]) -> AnyActivation | None:
    """The function that an operator of ONNX is, but for Clip and PRelu, which take tensors; None if it is none.

    Parameters
    ----------
    kind : str
        The operator.
    attribute : callable
        Called with the name of an attribute and its default.

    Raises
    ------
    ReadError
        For a function of a form that is not known here.
    """
    if kind == "HardSigmoid":
        slope, shift = (_finite({name: attribute(name, value)}, name, value) for name, value in (("alpha", 0.2),
                                                                                              ("beta", 0.5)))
        return hard_sigmoid() if abs(slope - 1 / 6) < CLOSE and shift == 0.5 else hard_sigmoid(slope, shift)
    if kind == "Gelu":
        return _gelu({"approximate": attribute("approximate", b"none").decode()})
    if kind == "Celu":
        return _celu({"alpha": attribute("alpha", 1.0)})
    if kind in ("LeakyRelu", "Elu"):
        value = _finite({"alpha": attribute("alpha", 0.01 if kind == "LeakyRelu" else 1.0)}, "alpha", 1)
        return leaky_relu(value) if kind == "LeakyRelu" else elu(value)
    plain: dict[str, AnyActivation] = {
        "Relu": Activation.RELU, "Sigmoid": sigmoid(), "Tanh": tanh(), "HardSwish": hard_swish(),
        "Softplus": softplus(), "Swish": silu()}
    return plain.get(kind)
