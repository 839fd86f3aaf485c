# SPDX-License-Identifier: Apache-2.0
"""Folds layers that only scale and shift their channels into the layers that follow, and the input's likewise.

A batch normalisation or a constant behind an activation or a pooling cannot join the layer before. ``W (s x + t) + b``
is ``(W s) x + (W t + b)``, so a linear layer takes it up, and a convolution that pads nothing or is not shifted. On the
way there it passes an average pooling, and a max pooling if no scale is negative. What is left runs as a depthwise
convolution of one tap.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from host.importers.fold_normalization import Affine, fold_inputs
from host.importers.source_layers import shown
from host.network.graph import INPUT
from host.network.layers import Conv2d, Geometry, Linear
from nonzero.errors import UserError
from rtl.numbers import Activation

__all__ = ["fold_input", "fold_scales"]

SAID = "what is done with the input first"


def fold_scales(layers: Sequence[Linear], scales: set[str]) -> list[Linear]:
    """The layers, of which as few as possible only scale and shift.

    Parameters
    ----------
    layers : sequence of Linear
        In the order of computation.
    scales : set of str
        Names of those that only scale and shift, channel by channel.

    Raises
    ------
    UserError
        For one that stays and takes the values of a feature map as a vector, or if a folded weight is not finite.
    """
    found = _named(layers)
    for name in [layer.name for layer in layers if layer.name in scales]:
        while _fold(found, name):
            pass
    shapes = {layer.name: layer.shape for layer in found}
    problems = [f"layer {shown(layer.name)} scales or shifts each value of a flattened map by itself, and no linear "
                "layer follows to take that up; do it for each channel before the map is flattened"
                for layer in found if layer.name in scales and layer.source and layer.shape.pixels == 1
                and math.prod(shapes[layer.source].out_shape) > 1]
    if problems:
        raise UserError(problems)
    return _renamed(found)


def fold_input(layers: Sequence[Linear], affine: Affine) -> list[Linear]:
    """The layers that compute from the input what ``layers`` compute from the input scaled and shifted.

    Parameters
    ----------
    layers : sequence of Linear
        In the order of computation.
    affine : Affine
        Scale and shift of the input. Layers that cannot take them up get a layer before them that does both.

    Raises
    ------
    UserError
        If the values differ within a channel where a layer cannot take that up.
    """
    found = _named(layers)
    readers = [number for number, layer in enumerate(found) if layer.source == INPUT]
    alone = len(readers) == 1 and all(layer.added != INPUT for layer in found)
    plain = all(layer.added != INPUT for layer in found) and all(
        _takes(found[number], bool(np.any(affine.shift))) for number in readers)
    if alone or plain:
        try:
            for number in readers:
                found[number] = fold_inputs(found[number], affine.divisor, affine.shift, SAID)
            return _renamed(found)
        except UserError:
            if plain or (found[readers[0]].geometry is None and not found[readers[0]].fixed):
                raise
    channels, *size = affine.shape if len(affine.shape) == 3 else (math.prod(affine.shape), 1, 1)
    divisor, shift = (values.reshape(channels, -1) for values in (affine.divisor, affine.shift))
    if any((values != values[:, :1]).any() for values in (divisor, shift)):
        raise UserError(f"{SAID} differs within a channel, so that it can neither be folded in nor run as a layer; use "
                        "one value for each channel")
    name = next(name for name in ("input", *(f"input_{number}" for number in range(len(found) + 1)))
                if all(layer.name != name for layer in found))
    scale = Conv2d(name, (1 / divisor[:, :1]).astype(np.float32), shift[:, 0].astype(np.float32), Activation.IDENTITY,
                   Geometry((channels, size[0], size[1]), (1, 1), groups=channels), source=INPUT)
    found = [replace(layer, source=name if layer.source == INPUT else layer.source,
                     added=name if layer.added == INPUT else layer.added) for layer in found]
    return _renamed([scale, *found])


def _named(layers: Sequence[Linear]) -> list[Linear]:
    """The layers, each with the name of its source."""
    return [replace(layer, source=(before.name if before else INPUT) if layer.source is None else layer.source)
            for layer, before in zip(layers, (None, *layers), strict=False)]


def _renamed(layers: Sequence[Linear]) -> list[Linear]:
    """The layers, without the names of sources that are the layer before."""
    return [replace(layer, source=None if layer.source == (before.name if before else INPUT) else layer.source)
            for layer, before in zip(layers, (None, *layers), strict=False)]


def _takes(layer: Linear, shifts: bool) -> bool:
    """Whether a layer takes up a scale, and a shift if there is one, in its weights."""
    return not layer.fixed and not (shifts and layer.geometry and layer.geometry.padded)


def _fold(found: list[Linear], name: str) -> bool:
    """Moves the layer ``name``, which only scales and shifts, one step on; whether it is still there and has moved."""
    number = next(number for number, layer in enumerate(found) if layer.name == name)
    scale = found[number]
    readers = [place for place, layer in enumerate(found) if layer.source == name]
    if scale.activation is not Activation.IDENTITY or scale.added is not None or not readers \
            or number == len(found) - 1 or any(layer.added == name for layer in found):
        return False
    assert scale.geometry is not None
    if scale.geometry.pool > 1:
        return _pool_before(found, number)
    if all(_takes(found[place], bool(scale.bias.any())) for place in readers):
        with np.errstate(divide="ignore"):
            divisor = 1 / scale.weight[:, 0].astype(np.float64)
        pixels = scale.geometry.pixels
        for place in readers:
            folded = fold_inputs(found[place], np.repeat(divisor, pixels), np.repeat(
                scale.bias.astype(np.float64), pixels), f"layer {shown(name)}")
            found[place] = replace(folded, source=scale.source)
        del found[number]
        return False
    return len(readers) == 1 and _behind_mean(found, number, readers[0])


def _pool_before(found: list[Linear], number: int) -> bool:
    """Moves a max pooling from a layer that only scales to the convolution before it; whether it could."""
    scale = found[number]
    source = next((place for place, layer in enumerate(found) if layer.name == scale.source), None)
    if source is None or (scale.weight < 0).any():
        return False
    before, own = found[source], scale.geometry
    readers = sum(name == before.name for layer in found for name in (layer.source, layer.added))
    if own is None or before.geometry is None or before.geometry.pool > 1 or before.fixed or readers > 1:
        return False
    pooled = replace(before.geometry, pool=own.pool, pool_stride=own.pool_stride)
    found[source] = replace(before, geometry=pooled)
    channels = own.in_shape[0]
    found[number] = replace(scale, geometry=Geometry((channels, *pooled.out_shape), (1, 1), groups=channels))
    return True


def _behind_mean(found: list[Linear], number: int, reader: int) -> bool:
    """Moves a layer that only scales behind the average pooling that takes its outputs; whether it could."""
    scale, mean = found[number], found[reader]
    shape = mean.geometry
    if not mean.fixed or shape is None or shape.groups != mean.rows or shape.pool > 1 \
            or (shape.padded and scale.bias.any()) or mean.added is not None \
            or mean.activation is not Activation.IDENTITY \
            or any(layer.added == mean.name for layer in found) or reader == len(found) - 1:
        return False
    source = next((layer for layer in found if layer.name == scale.source), None)
    positive = source is not None and not source.activation.signed
    found[reader] = replace(mean, source=scale.source,
                            activation=Activation.RELU if positive else Activation.IDENTITY)
    channels = shape.in_shape[0]
    moved = replace(scale, source=mean.name, geometry=Geometry((channels, *shape.out_shape), (1, 1), groups=channels))
    for place, layer in enumerate(found):
        if layer.source == mean.name:
            found[place] = replace(layer, source=scale.name)
    found.insert(reader + 1, moved)
    del found[number]
    return True
