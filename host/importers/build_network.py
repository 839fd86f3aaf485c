# SPDX-License-Identifier: Apache-2.0
"""Assembles a `Network` from the parts of a model: checks them, reads their tensors, folds norms and constants."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from host.importers.fold_scales import fold_input, fold_scales
from host.importers.layer_drafts import Draft, read_layer
from host.importers.source_layers import (
    ActivationPart,
    ConvPart,
    FlattenPart,
    JoinPart,
    LinearPart,
    PadPart,
    Part,
    PermutePart,
    PoolPart,
    SoftmaxPart,
    SqueezePart,
    Step,
    TransposedConvPart,
    UnsupportedPart,
    UpsamplePart,
    tensors_of,
)
from host.importers.whole_graph import WholeGraph
from host.network.graph import INPUT
from host.network.layers import VALUES_LIMIT, Linear, Network
from nonzero.errors import UserError

__all__ = ["assemble"]

_RENAMES = (FlattenPart, PadPart, PermutePart, SqueezePart)
"""Parts that begin a layer only in some places; then it has a name of its own beside all others."""

LAYERS_LIMIT = 256
"""Greatest number of linear layers and convolutions of a network."""


def assemble(name: str, steps: Sequence[Step], input_shape: tuple[int, ...] | None = None, *,
             exact: bool = False, assumptions: Sequence[str] = (), output: str | None = None) -> Network:
    """Reads the tensors of ``steps``, which are in the order of computation, and folds the norms.

    A max pooling is merged into the convolution before it. A max pooling without one, and every average pooling,
    becomes a convolution of each channel, whose weights are `fixed`. A layer that is used again gets a name of its own.

    Parameters
    ----------
    name : str
        Name of the network.
    steps : sequence of Step
    input_shape : tuple of int, optional
        Channels, height and width of an input; convolutions need it.
    exact : bool
        ``input_shape`` comes from the file itself, and may have any axes; then the first layer must take these.
    assumptions : sequence of str
        For the network, `Network.assumptions`.
    output : str, optional
        Name of the value that is the network's output; that of the last step by default.

    Raises
    ------
    UserError
        With the problems of all parts.
    """
    problems = _size_problems([step.part for step in steps])
    if problems:
        raise UserError(problems)
    steps = _needed(steps, steps[-1].gives if output is None and steps else output)
    graph = WholeGraph(input_shape, exact=exact)
    graph.follow(list(_named_apart(steps)), steps[-1].gives if output is None and steps else output or "")
    problems = graph.problems
    terms = {id(term) for draft in graph.drafts for term in draft.terms}
    layers = _wired(graph.drafts, [read_layer(draft, problems, term=id(draft) in terms) for draft in graph.drafts])
    if not problems and not any(isinstance(step.part, LinearPart | ConvPart | TransposedConvPart) for step in steps):
        problems.append("it has no linear layer; Nonzero runs chains of linear layers and convolutions")
    if problems:
        raise UserError(problems)
    found = fold_scales([layer for layer in layers if layer],
                        {draft.part.name for draft in graph.drafts if draft.only_scales})
    if graph.affine:
        found = fold_input(found, graph.affine)
    shape = input_shape if exact or found[0].geometry or found[0].fixed else None
    return Network(name, tuple(found), shape, (*assumptions, *graph.notes))


def _size_problems(parts: Sequence[Part]) -> list[str]:
    """Problems of size, with which no tensor is read."""
    weighted = [part for part in parts if isinstance(part, LinearPart | ConvPart | PoolPart | TransposedConvPart
                                                     | UpsamplePart | PermutePart)]
    if len(weighted) > LAYERS_LIMIT:
        return [f"it has {len(weighted):,} layers, more than {LAYERS_LIMIT}"]
    values = sum(tensor.values for part in parts for tensor in tensors_of(part).values())
    if values > VALUES_LIMIT:
        return [f"its tensors have {values:,} values, more than {VALUES_LIMIT:,}; the engine holds far fewer"]
    return []


def _needed(steps: Sequence[Step], output: str | None) -> list[Step]:
    """The steps without activation functions whose values nothing takes: those that went into a SiLU or the like."""
    taken = {name for step in steps for name in step.takes} | {output}
    return [step for step in steps if step.gives in taken or not isinstance(step.part, ActivationPart)]


def _wired(drafts: Sequence[Draft], layers: Sequence[Linear | None]) -> list[Linear | None]:
    """The layers with the names of their sources; a layer that takes the outputs of the one before names none."""
    names = {id(draft): draft.part.name for draft in drafts}

    def name(of: Draft | str | None) -> str:
        return names[id(of)] if isinstance(of, Draft) else INPUT
    return [layer and replace(layer, source=None if draft.source is before else name(draft.source),
                              added=None if draft.added is None else name(draft.added))
            for draft, layer, before in zip(drafts, layers, (None, *drafts), strict=False)]


def _named_apart(steps: Sequence[Step]) -> Iterator[Step]:
    """The parts with unique names: a layer whose name was there before gets a number (fc, fc_2, fc_3)."""
    taken = {step.part.name for step in steps}
    layers = {step.part.name for step in steps if not isinstance(step.part, _RENAMES)}
    seen: set[str] = set()
    for step in steps:
        part = step.part
        if isinstance(part, JoinPart | SoftmaxPart | UnsupportedPart):
            yield step
            continue
        name, number = part.name, 1
        while name in seen or (number > 1 and name in taken) or (isinstance(part, _RENAMES) and name in layers):
            number += 1
            name = f"{part.name}_{number}"
        seen.add(name)
        yield step._replace(part=replace(part, name=name))


def assemble_fitting(name: str, steps: Sequence[Step], own_shape: tuple[int, ...] | None,
                     input_shape: tuple[int, ...] | None, assumptions: Sequence[str] = (),
                     output: str | None = None) -> Network:
    """Assembles a network whose file may itself tell the axes of an input.

    Parameters
    ----------
    name, steps, assumptions, output
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
    return assemble(name, steps, own_shape or input_shape, exact=own_shape is not None, assumptions=assumptions,
                    output=output)
