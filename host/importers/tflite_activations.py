# SPDX-License-Identifier: Apache-2.0
"""The activation functions of TensorFlow Lite: those that are operators, and those that are fused into others."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from host.importers.activation_readers import ReadError, prelu
from host.network.activations import AnyActivation, clamp, elu, gelu, hard_swish, leaky_relu, sigmoid, tanh
from rtl.numbers import Activation

if TYPE_CHECKING:
    from host.importers.tflite_operators import LiteNode

__all__ = ["FUNCTIONS", "FUSED", "FUSED_FUNCTIONS"]

FUSED = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT"}
"""tflite.ActivationFunctionType, but for NONE."""

FUSED_FUNCTIONS: dict[int, AnyActivation] = {1: Activation.RELU, 2: clamp(-1, 1), 3: clamp(0, 6), 4: tanh()}
"""Those of them that run."""


def _alpha(node: "LiteNode") -> AnyActivation:
    slope = float(node.options("LeakyReluOptions").Alpha())
    if not math.isfinite(slope):
        raise ReadError("is a leaky ReLU whose slope is no number")
    return leaky_relu(slope)


FUNCTIONS: dict[str, Callable[["LiteNode"], AnyActivation]] = {
    "RELU": lambda node: Activation.RELU, "RELU6": lambda node: clamp(0, 6), "RELU_N1_TO_1": lambda node: clamp(-1, 1),
    "RELU_0_TO_1": lambda node: clamp(0, 1), "LOGISTIC": lambda node: sigmoid(), "TANH": lambda node: tanh(),
    "LEAKY_RELU": _alpha, "PRELU": lambda node: prelu(node.required(1)), "ELU": lambda node: elu(),
    "HARD_SWISH": lambda node: hard_swish(),
    "GELU": lambda node: gelu(approximate=bool(node.options("GeluOptions").Approximate())),
}
"""By operator."""
