# SPDX-License-Identifier: Apache-2.0
"""A layer while it is assembled from the parts of a model, and its weights with the batch norm folded in."""

import math
from dataclasses import dataclass, field

import numpy as np

from host.importers.fold_normalization import after
from host.importers.source_layers import AffinePart, ConvPart, LinearPart, NormPart, PoolPart, shown, tensors_of
from host.importers.stored_tensor import StoredTensor, TensorError, finite
from host.network.function import AnyActivation
from host.network.layers import Conv2d, Geometry, Linear
from rtl.numbers import Activation

__all__ = ["Draft", "read_layer"]


@dataclass(eq=False)
class Draft:
    """A layer with weights, or a pooling that becomes one, and what follows it.

    Attributes
    ----------
    part : LinearPart, ConvPart or PoolPart
    geometry : Geometry, optional
        Geometry of a convolution or pooling.
    scales : list of NormPart or AffinePart
        Batch normalisations and constants, in order, that are folded into the weights.
    activation : AnyActivation
        The function that follows.
    """

    part: LinearPart | ConvPart | PoolPart
    geometry: Geometry | None = None
    scales: list[NormPart | AffinePart] = field(default_factory=list)
    activation: AnyActivation = Activation.IDENTITY
    open: bool = True
    """A max pooling may still join it."""
    implied: bool = False
    """Its ReLU only says that its sums are not negative, because of what it takes."""
    constant: bool = False
    """Its weights are the same whatever the model's tensors, so that nothing is folded into them."""
    source: "Draft | None" = None
    """The layer whose outputs it takes; None for the network's input."""
    added: "Draft | str | None" = None
    """The layer whose outputs are added to its sums, or `host.network.graph.INPUT`."""
    terms: tuple["Draft", ...] = ()
    """The layers before it in a sum of layers for one joined value; the last of them is ``added``. What scales the sum
    scales each of them."""
    fixed: bool = False
    """Its weights are constants, if nothing scales them."""
    kept: bool = False
    """They are, even if something does."""

    @property
    def takes_more(self) -> bool:
        """Whether its sums may still be scaled, or another layer's outputs added to them."""
        return (self.added is None or bool(self.terms)) and (self.activation is Activation.IDENTITY or self.implied) \
            and (self.geometry is None or self.geometry.pool == 1)

    @property
    def only_scales(self) -> bool:
        """Whether it does nothing but scale and shift each channel."""
        return bool(self.scales) and isinstance(self.part, PoolPart)


def read_layer(draft: Draft, problems: list[str], *, term: bool = False) -> Linear | None:
    """The layer of ``draft`` with its norm folded in; None if anything is unusable, which adds to ``problems``.

    Of what scales and shifts a sum, each ``term`` takes the scale only: the last layer shifts.
    """
    part = draft.part
    if isinstance(part, PoolPart):
        # The mean of each window, channel by channel.
        assert draft.geometry is not None
        taps = math.prod(draft.geometry.kernel)
        weight, bias = np.full((draft.geometry.groups, taps), 1 / taps, np.float32), None
    else:
        arrays = _arrays(part, problems)
        if problems:
            return None
        weight, bias = arrays["weight"].reshape(len(arrays["weight"]), -1), arrays.get("bias")
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    for scale in draft.scales:
        arrays = _arrays(scale, problems)
        if problems:
            return None
        try:
            weight, bias = _scaled(weight, bias, scale, arrays)
        except TensorError as error:
            what = "batch normalisation" if isinstance(scale, NormPart) else "layer"
            problems.append(f"{what} {shown(scale.name)}: {error}")
            return None
    bias = np.zeros_like(bias) if term and draft.scales else bias
    if draft.geometry is None:
        given = part if isinstance(part, LinearPart) else LinearPart(part.name, StoredTensor(()), None)
        return Linear(part.name, weight, bias, draft.activation,
                      fixed=given.fixed or draft.kept or (draft.fixed and not draft.scales), out_map=given.out_map)
    return Conv2d(part.name, weight, bias, draft.activation, draft.geometry,
                  fixed=draft.kept or ((isinstance(part, PoolPart) or draft.fixed) and not draft.scales))


def _arrays(part: LinearPart | ConvPart | NormPart | AffinePart, problems: list[str]) -> dict[str, np.ndarray]:
    arrays = {}
    for what, tensor in tensors_of(part).items():
        try:
            arrays[what] = tensor.read()
        except TensorError as error:
            problems.append(f"layer {shown(part.name)}: its {what} {error}")
    return arrays


def _scaled(weight: np.ndarray, bias: np.ndarray, part: NormPart | AffinePart,
            arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a layer behind which ``part`` stands; computed in float64, returned as float32.

    Of a batch normalisation: Ioffe and Szegedy, "Batch Normalization", ICML 2015, Algorithm 2 (inference).
    """
    with np.errstate(all="ignore"):  # what is not finite shows in the weights
        if isinstance(part, NormPart):
            variance = arrays["running_var"].astype(np.float64) + part.eps
            if variance.min() <= 0:
                raise TensorError("its running_var has values that are not positive; the file is damaged")
            # Of a fully connected layer that gives a map, all rows of a channel are scaled alike.
            each = len(weight) // len(variance)
            scale = np.repeat(arrays.get("weight", np.float64(1)) / np.sqrt(variance), each)
            mean, shift = (np.repeat(one.astype(np.float64), each) for one in (
                arrays["running_mean"], arrays.get("bias", np.zeros(len(variance)))))
            shifted = (bias - mean) * scale + shift
        else:
            constant = arrays["constant"].astype(np.float64).reshape(-1)
            constant = np.repeat(constant, len(weight) // len(constant))
            scale, shifted = after(part.operation, constant, np.ones(len(weight)), bias.astype(np.float64))
        try:
            return finite(weight * scale[:, np.newaxis]), finite(shifted)
        except TensorError as error:
            raise TensorError(f"folded into the layer before, it {error}") from None
