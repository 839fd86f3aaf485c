# SPDX-License-Identifier: Apache-2.0
"""The activation functions of TensorFlow Lite: those that are operators, and those that are fused into others."""

import math
from collections.abc import Callable

from host.importers.activation_readers import ReadError, prelu
from host.importers.source_layers import ActivationPart, Part, UnsupportedPart
from host.importers.tflite_node import LiteNode
from host.network.activations import clamp, elu, gelu, hard_swish, leaky_relu, sigmoid, tanh
from host.network.function import AnyActivation
from rtl.numbers import Activation

__all__ = ["FUNCTIONS", "activated"]

FUSED = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT"}
"""tflite.ActivationFunctionType, but for NONE."""

FUSED_FUNCTIONS: dict[int, AnyActivation] = {1: Activation.RELU, 2: clamp(-1, 1), 3: clamp(0, 6), 4: tanh()}
"""Those of them that run."""


def _alpha(node: LiteNode) -> AnyActivation:
    slope = float(node.options("LeakyReluOptions").Alpha())
    if not math.isfinite(slope):
        raise ReadError("is a leaky ReLU whose slope is no number")
    return leaky_relu(slope)


FUNCTIONS: dict[str, Callable[[LiteNode], AnyActivation]] = {
    "RELU": lambda node: Activation.RELU, "RELU6": lambda node: clamp(0, 6), "RELU_N1_TO_1": lambda node: clamp(-1, 1),
    "RELU_0_TO_1": lambda node: clamp(0, 1), "LOGISTIC": lambda node: sigmoid(), "TANH": lambda node: tanh(),
    "LEAKY_RELU": _alpha, "PRELU": lambda node: prelu(node.required(1)), "ELU": lambda node: elu(),
    "HARD_SWISH": lambda node: hard_swish(),
    "GELU": lambda node: gelu(approximate=bool(node.options("GeluOptions").Approximate())),
}
"""By operator."""


def activated(node: LiteNode, part: Part | None, function: int) -> list[Part]:
    """A layer with the activation function that is fused into it.

    Parameters
    ----------
    node : LiteNode
    part : Part or None
        The layer; None if its parts are there already.
    function : int
        A number of ``tflite.ActivationFunctionType``: 0 is none. One that is not known adds a part that is refused.
    """
    found = [] if part is None else [part]
    if function == 0:
        return found
    if function in FUSED_FUNCTIONS:
        end = "relu" if function == 1 else "activation"
        return [*found, ActivationPart(f"{node.label}.{end}", FUSED_FUNCTIONS[function])]
    name = FUSED.get(function, f"number {function}")
    return [*found, UnsupportedPart(node.label, f"has the activation {name}, which the engine does not run; train with "
                                                "ReLU")]
