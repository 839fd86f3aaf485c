# SPDX-License-Identifier: Apache-2.0
"""Finds activation functions that exporters write as several nodes of ONNX, such as GELU by an Erf."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from host.network.activate import activate
from host.network.activations import gelu, hard_sigmoid, hard_swish, silu
from host.network.function import Function

__all__ = ["Found", "written_out"]

NODES_LIMIT = 12
"""Most nodes of one function."""

TRIES_LIMIT = 4096
"""Most evaluations for one file, which limits the work that a hostile graph can cause."""

CLOSE = 1e-5
"""Constants of files are float32."""

GRID = np.concatenate([np.linspace(-8, 8, 161), [-20.0, 20.0]])
FUNCTIONS = (gelu(), gelu(approximate=True), hard_swish(), silu())

Found = dict[int, tuple[str, Function] | None]
"""By the number of a node: the value that a function takes, at the node that gives its result; None at its others."""


def _erf(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = torch.erf(torch.from_numpy(np.asarray(values, np.float64))).numpy()
    return found


def _clip(values: np.ndarray, low: Any = -np.inf, high: Any = np.inf) -> np.ndarray:
    return np.minimum(np.maximum(values, low), high)


OPERATIONS: dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power, "Erf": _erf,
    "Tanh": np.tanh, "Sigmoid": lambda values: 1 / (1 + np.exp(-values)), "Clip": _clip, "Neg": np.negative,
    "Relu": lambda values: np.maximum(values, 0), "HardSigmoid": lambda values: activate(values, hard_sigmoid()),
}
CURVES = {"Erf", "Tanh", "Sigmoid", "Clip", "HardSigmoid"}
"""One of these is in each of the functions."""


def written_out(nodes: Sequence[Any], scalars: Mapping[str, float], outputs: Sequence[str]) -> Found:
    """The functions that are computed by several nodes each, of one value.

    Parameters
    ----------
    nodes : sequence of onnx.NodeProto
    scalars : mapping
        Constants of one value, by name.
    outputs : sequence of str
        Names of the graph's outputs.
    """
    makers = {node.output[0]: number for number, node in enumerate(nodes)
              if len(node.output) == 1 and node.op_type in OPERATIONS and node.domain in ("", "ai.onnx")
              and _is_plain(node)}
    readers = Counter(name for node in nodes for name in node.input) + Counter(outputs)
    found: Found = {}
    tries = 0
    for number, node in enumerate(nodes):
        if node.op_type not in ("Mul", "Div") or len(node.output) != 1 or node.output[0] not in makers:
            continue
        for value in _values(nodes, makers, node.output[0]):
            inner = _between(nodes, makers, scalars, value, node.output[0])
            if inner is None or not CURVES & {nodes[one].op_type for one in inner} or tries >= TRIES_LIMIT:
                continue
            inside = Counter(name for one in inner for name in nodes[one].input)
            if any(readers[nodes[one].output[0]] != inside[nodes[one].output[0]] for one in inner - {number}):
                continue
            tries += 1
            function = _function(nodes, scalars, sorted(inner), value)
            if function is not None:
                found |= dict.fromkeys(inner) | {number: (value, function)}
                break
    return found


def _is_plain(node: Any) -> bool:
    if node.op_type == "HardSigmoid":
        given = {one.name: one.f for one in node.attribute}
        return abs(given.get("alpha", 0.2) - 1 / 6) < CLOSE and abs(given.get("beta", 0.5) - 0.5) < CLOSE
    return not node.attribute


def _values(nodes: Sequence[Any], makers: Mapping[str, int], output: str) -> list[str]:
    """Values from which ``output`` may be computed, the nearest first."""
    near, at = [output], 0
    while at < len(near) and len(near) <= 2 * NODES_LIMIT:
        maker = makers.get(near[at])
        near += [name for name in (nodes[maker].input if maker is not None else ()) if name and name not in near]
        at += 1
    return near[1:]


def _between(nodes: Sequence[Any], makers: Mapping[str, int], scalars: Mapping[str, float], value: str,
             output: str) -> set[int] | None:
    """Numbers of the nodes that compute ``output`` from ``value`` and constants of one value; None without such."""
    inner, waiting, met = set[int](), [output], False
    while waiting:
        name = waiting.pop()
        met |= name == value
        if name == value or name in scalars or not name:
            continue
        if name not in makers or len(inner) > NODES_LIMIT:
            return None
        if makers[name] not in inner:
            inner.add(makers[name])
            waiting += nodes[makers[name]].input
    return inner if met and 1 < len(inner) <= NODES_LIMIT else None


def _function(nodes: Sequence[Any], scalars: Mapping[str, float], inner: Sequence[int],
              value: str) -> Function | None:
    """The function that the nodes ``inner``, in order, compute of ``value``; None if it is none of `FUNCTIONS`."""
    known: dict[str, Any] = {value: GRID}
    with np.errstate(all="ignore"):
        for number in inner:
            node = nodes[number]
            names = [(place, name) for place, name in enumerate(node.input) if name]
            given = [known[name] if name in known else scalars.get(name) for _, name in names]
            if any(one is None for one in given) or len(names) != len(node.input):
                return None
            try:
                known[node.output[0]] = OPERATIONS[node.op_type](*given)
            except TypeError:
                return None
        result = known[nodes[inner[-1]].output[0]]
    for function in FUNCTIONS:
        if np.shape(result) == GRID.shape and np.abs(result - activate(GRID, function)).max() < CLOSE * 10:
            return function
    return None
