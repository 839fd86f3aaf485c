# SPDX-License-Identifier: Apache-2.0
"""A layer while it is put together from the parts of a model, and its weights with the batch norm folded in."""

import math
from dataclasses import dataclass

import numpy as np

from host.importers.source_layers import ConvPart, LinearPart, NormPart, PoolPart, shown, tensors_of
from host.importers.stored_tensor import TensorError, finite
from host.network.activations import AnyActivation
from host.network.layers import Conv2d, Geometry, Linear
from rtl.numbers import Activation

__all__ = ["Draft", "read_layer"]


@dataclass
class Draft:
    """A layer with weights, or a pooling that becomes one, and what follows it.

    Attributes
    ----------
    part : LinearPart, ConvPart or PoolPart
    geometry : Geometry, optional
        Geometry of a convolution or pooling.
    norm : NormPart, optional
        The batch normalisation that is folded into the weights.
    activation : AnyActivation
        The function that follows.
    """

    part: LinearPart | ConvPart | PoolPart
    geometry: Geometry | None = None
    norm: NormPart | None = None
    activation: AnyActivation = Activation.IDENTITY
    open: bool = True
    """A max pooling may still join it."""
    source: "Draft | None" = None
    """The layer whose outputs it takes; None for the network's input."""
    added: "Draft | str | None" = None
    """The layer whose outputs are added to its sums, or `host.network.graph.INPUT`."""


    @property
    def takes_more(self) -> bool:
        """Whether another layer's outputs may be added to its sums."""
        return self.added is None and self.activation is Activation.IDENTITY \
            and (self.geometry is None or self.geometry.pool == 1)


def read_layer(draft: Draft, problems: list[str]) -> Linear | None:
    """The layer of ``draft`` with its norm folded in; None if anything is unusable, which adds to ``problems``."""
    part = draft.part
    if isinstance(part, PoolPart):
        assert draft.geometry is not None
        return _fixed(part.name, draft.geometry, draft.activation)
    arrays = _arrays(part, problems)
    norm = _arrays(draft.norm, problems) if draft.norm else {}
    if problems:
        return None
    weight = arrays["weight"].reshape(len(arrays["weight"]), -1)
    bias = arrays.get("bias", np.zeros(len(weight), np.float32))
    if draft.norm:
        try:
            weight, bias = _fold(weight, bias, norm, draft.norm.eps)
        except TensorError as error:
            problems.append(f"batch normalisation {shown(draft.norm.name)}: {error}")
    if draft.geometry is None:
        return Linear(part.name, weight, bias, draft.activation)
    return Conv2d(part.name, weight, bias, draft.activation, draft.geometry)


def _fixed(name: str, geometry: Geometry, activation: AnyActivation) -> Conv2d:
    """The mean of each window, channel by channel."""
    taps = math.prod(geometry.kernel)
    weight = np.full((geometry.groups, taps), 1 / taps, np.float32)
    return Conv2d(name, weight, np.zeros(geometry.groups, np.float32), activation, geometry, fixed=True)


def _arrays(part: LinearPart | ConvPart | NormPart, problems: list[str]) -> dict[str, np.ndarray]:
    arrays = {}
    for what, tensor in tensors_of(part).items():
        try:
            arrays[what] = tensor.read()
        except TensorError as error:
            problems.append(f"layer {shown(part.name)}: its {what} {error}")
    return arrays


def _fold(weight: np.ndarray, bias: np.ndarray, norm: dict[str, np.ndarray],
          eps: float) -> tuple[np.ndarray, np.ndarray]:
    """``norm(weight @ x + bias)`` as a weight and a bias; computed in float64, returned as float32.

    Ioffe and Szegedy, "Batch Normalization", ICML 2015, Algorithm 2 (inference).
    """
    variance = norm["running_var"].astype(np.float64) + eps
    if variance.min() <= 0:
        raise TensorError("its running_var has values that are not positive; the file is damaged")
    try:
        with np.errstate(all="ignore"):
            scale = norm.get("weight", np.float64(1)) / np.sqrt(variance)
            shifted = (bias - norm["running_mean"].astype(np.float64)) * scale + norm.get("bias", 0)
            return finite(weight * scale[:, np.newaxis]), finite(shifted)
    except TensorError as error:
        raise TensorError(f"folded into the layer before, it {error}") from None
