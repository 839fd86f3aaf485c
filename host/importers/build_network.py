# SPDX-License-Identifier: Apache-2.0
"""Assembles a `Network` from the parts of a model: checks them, reads their tensors, folds norms and constants."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from host.importers.fold_normalization import fold_inputs
from host.importers.layer_chain import Chain
from host.importers.layer_drafts import read_layer
from host.importers.source_layers import (
    AdaptivePoolPart,
    ConvPart,
    LinearPart,
    Part,
    PoolPart,
    tensors_of,
)
from host.network.layers import VALUES_LIMIT, Network
from nonzero.errors import UserError

__all__ = ["assemble"]

LAYERS_LIMIT = 256
"""Greatest number of linear layers and convolutions of a network."""


def assemble(name: str, parts: Sequence[Part], input_shape: tuple[int, ...] | None = None, *,
             exact: bool = False, assumptions: Sequence[str] = ()) -> Network:
    """Reads the tensors of ``parts``, which are in the order of computation, and folds the norms.

    A max pooling is merged into the convolution before it. A max pooling without one, and every average pooling,
    becomes a convolution of each channel, whose weights are `fixed`. A layer that is used again gets a name of its own.

    Parameters
    ----------
    name : str
        Name of the network.
    parts : sequence of Part
    input_shape : tuple of int, optional
        Channels, height and width of an input; convolutions need it.
    exact : bool
        ``input_shape`` comes from the file itself, and may have any axes; then the first layer must take these.
    assumptions : sequence of str
        Value of `Network.assumptions`.

    Raises
    ------
    UserError
        With the problems of all parts.
    """
    problems = _size_problems(parts)
    if problems:
        raise UserError(problems)
    chain = Chain(input_shape, exact=exact)
    for part in _named_apart(parts):
        chain.add(part)
    chain.end()
    problems = chain.problems
    layers = [read_layer(draft, problems) for draft in chain.drafts]
    if not problems and not any(isinstance(draft.part, LinearPart | ConvPart) for draft in chain.drafts):
        problems.append("it has no linear layer; Nonzero runs chains of linear layers and convolutions")
    if problems:
        raise UserError(problems)
    found = tuple(layer for layer in layers if layer)
    if chain.affine:
        found = (fold_inputs(found[0], chain.affine.divisor, chain.affine.shift, "what is done with the input first"),
                 *found[1:])
    shape = input_shape if exact or found[0].geometry else None
    return Network(name, found, shape, tuple(assumptions))


def _size_problems(parts: Sequence[Part]) -> list[str]:
    """Problems of size, with which no tensor is read."""
    weighted = [part for part in parts if isinstance(part, LinearPart | ConvPart | PoolPart)]
    if len(weighted) > LAYERS_LIMIT:
        return [f"it has {len(weighted):,} layers, more than {LAYERS_LIMIT}"]
    values = sum(tensor.values for part in parts for tensor in tensors_of(part).values())
    if values > VALUES_LIMIT:
        return [f"its tensors have {values:,} values, more than {VALUES_LIMIT:,}; the engine holds far fewer"]
    return []


def _named_apart(parts: Sequence[Part]) -> Iterator[Part]:
    """The parts with unique names: a layer whose name was there before gets a number (fc, fc_2, fc_3)."""
    taken = {part.name for part in parts}
    seen: set[str] = set()
    for part in parts:
        if not isinstance(part, LinearPart | ConvPart | PoolPart | AdaptivePoolPart):
            yield part
            continue
        name, number = part.name, 1
        while name in seen or (number > 1 and name in taken):
            number += 1
            name = f"{part.name}_{number}"
        seen.add(name)
        yield replace(part, name=name)


def assemble_fitting(name: str, parts: list[Part], own_shape: tuple[int, ...] | None,
               input_shape: tuple[int, ...] | None, assumptions: Sequence[str] = ()) -> Network:
    """Assembles a network whose file may give the axes of an input.

    Parameters
    ----------
    name, parts, assumptions
        See `assemble`.
    own_shape : tuple of int or None
        Axes of an input according to the file.
    input_shape : tuple of int or None
        Channels, height and width according to the user or the data.

    Raises
    ------
    UserError
        If the two contradict each other, and as `assemble`.
    """
    if own_shape and input_shape and own_shape != input_shape \
            and (len(own_shape) == 3 or math.prod(own_shape) != math.prod(input_shape)):
        own, given = (" x ".join(map(str, shape)) for shape in (own_shape, input_shape))
        raise UserError(f"it takes images of {own} values, not of {given}; leave out --input-shape, or give other data")
    return assemble(name, parts, own_shape or input_shape, exact=own_shape is not None, assumptions=assumptions)
