# SPDX-License-Identifier: Apache-2.0
"""What each kind of part does to the layers so far, and to the current value."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from host.importers.conv_forms import without_gaps
from host.importers.conv_padding import in_numbers, joined
from host.importers.fold_normalization import Affine
from host.importers.graph_state import GraphState, in_rows, rows_of
from host.importers.layer_drafts import Draft
from host.importers.map_rules import flatten, permute, squeeze, transposed_convolution, upsample
from host.importers.pool_rules import adaptive_pool, needed_stride, pool
from host.importers.source_layers import (
    ActivationPart,
    AdaptivePoolPart,
    AffinePart,
    ConvPart,
    FlattenPart,
    LinearPart,
    NormPart,
    PadPart,
    Part,
    PermutePart,
    PoolPart,
    SqueezePart,
    TransposedConvPart,
    UpsamplePart,
    shown,
)
from host.importers.stored_tensor import TensorError
from host.importers.supported_layers import kernel_problems, size_text
from host.network.activations import is_monotone, joined_activations
from host.network.layers import Geometry

__all__ = ["RULES"]


def _affine(graph: GraphState, part: AffinePart) -> None:
    """A constant: on the model's input it is kept for all its readers, elsewhere it scales and shifts a layer."""
    if graph.shape is None:
        return
    if graph.draft is not None or graph.shared:
        if problem := _constant_problem(graph, part.constant.shape):
            graph.refuse(part, problem)
        else:
            _scale(graph, part)
        return
    graph.affine = graph.affine or Affine(graph.shape)
    try:
        graph.affine.then(part)
    except TensorError as error:
        graph.refuse(part, f"works with a constant that {error}")


def _constant_problem(graph: GraphState, shape: tuple[int, ...]) -> str:
    """Why a constant of this shape is not one value, or one for each channel."""
    assert graph.shape is not None
    axes = (1, *graph.shape)
    given = (1,) * (len(axes) - len(shape)) + shape
    if len(given) == len(axes) and given[0] == 1 and given[1] in (1, axes[1]) and set(given[2:]) <= {1}:
        return ""
    return (f"works with a constant of the shape {list(shape)}, where {size_text(graph.shape)} values flow; use one "
            "number, or one for each channel")


def _scale(graph: GraphState, part: NormPart | AffinePart) -> None:
    """Joins the layer before, if its sums may still be scaled; else begins a layer that only scales and shifts.

    `host.importers.fold_scales` folds such a layer into those that follow, if it can.
    """
    assert graph.shape is not None
    if not _joins(graph, isinstance(part, AffinePart) and part.constant.values == 1):
        channels, *size = graph.shape if len(graph.shape) == 3 else (math.prod(graph.shape), 1, 1)
        graph.begin(Draft(PoolPart(part.name, "average", (1, 1), (1, 1)),
                          Geometry((channels, size[0], size[1]), (1, 1), groups=channels), open=len(graph.shape) == 3))
    assert graph.draft is not None
    for draft in (*graph.draft.terms, graph.draft):
        draft.scales.append(part)


def _activation(graph: GraphState, part: ActivationPart) -> None:
    if graph.draft is None or graph.shape is None:
        return
    draft = graph.draft
    found = joined_activations(draft.activation, part.activation)
    pools = draft.geometry is not None and draft.geometry.pool > 1 and not is_monotone(part.activation)
    if graph.shared or found is None or pools:
        # The engine pools behind the activation function.
        graph.identity(part.name)
        draft, found = graph.draft, part.activation
    draft.activation, draft.implied = found, False


def _joins(graph: GraphState, one: bool) -> bool:
    """Whether the layer before can scale its sums; ``one`` factor for all, or one for each of its rows."""
    draft = graph.draft
    if draft is None or graph.shared or not draft.takes_more or draft.constant:
        return False
    if not (draft.only_scales or isinstance(draft.part, LinearPart | ConvPart)):
        return False
    rows = rows_of(draft.part) or (draft.geometry.groups if draft.geometry else None)
    channels = draft.part.out_map[:1] if isinstance(draft.part, LinearPart) and draft.part.out_map else ()
    return one or graph.shape is None or graph.shape[0] in (rows, *channels)


def _norm(graph: GraphState, part: NormPart) -> None:
    if graph.shape is None:
        return
    axes = graph.shape
    graph.shape = in_rows(axes)
    channels = graph.shape[0]
    if len(part.mean.shape) == 1 and not part.mean.problem and part.mean.shape != (channels,) and graph.draft is None:
        graph.refuse(part, f"normalises {part.mean.shape[0]:,} channels, but gets {size_text(graph.shape)} values; "
                           "check --input-shape")
        return
    graph.check_lengths(part, channels)
    _scale(graph, part)
    graph.shape = axes


def _linear(graph: GraphState, part: LinearPart) -> None:
    graph.begin(Draft(part, open=False))
    if part.weight.problem:
        graph.shape = None
    elif len(part.weight.shape) != 2:
        graph.problems.append(f"layer {shown(part.name)}: its weight has the shape {list(part.weight.shape)}, but a "
                             "linear layer's has two axes")
        graph.shape = None
    else:
        rows, cols = part.weight.shape
        if problem := _inputs_problem(graph, cols):
            graph.refuse(part, f"takes {cols:,} inputs, but {problem}")
        graph.check_lengths(part, rows)
        if math.prod(part.out_map or (rows,)) == rows:
            graph.shape = part.out_map or (rows,)
        else:
            graph.refuse(part, f"gives a map of {size_text(part.out_map or ())} values, but has {rows:,} outputs; save "
                               "the network again")


def _inputs_problem(graph: GraphState, cols: int) -> str:
    """Why a linear layer cannot take what comes in. The first layer decides what the network takes."""
    shape = graph.shape
    if shape is None or shape == (cols,):
        return ""
    source = graph.draft.source if graph.draft else None
    if source is None:
        if not graph.exact and graph.before is None:
            return ""  # whoever gives the inputs flattens them
        several = f"; put torch.nn.Flatten() before it, and train it on all {math.prod(shape):,}"
        return f"an input has {size_text(shape)} values" + several * (len(shape) > 1)
    before = shown(source.part.name)
    if math.prod(shape) == cols:
        return (f"the layer before it, {before}, gives {size_text(shape)} feature maps; put torch.nn.Flatten() "
                "between")
    if shape[-1] == cols:
        return (f"the layer before it, {before}, gives {size_text(shape)} values; put torch.nn.Flatten() between, and "
                f"train it on all {math.prod(shape):,}")
    size = "; if images have another size, check --input-shape" if source.geometry else ""
    return (f"the layer before it, {before}, gives {size_text(shape)} outputs; if this is not the order of "
            f"computation, save a torch.nn.Sequential of the layers{size}")


def _convolution(graph: GraphState, part: ConvPart) -> None:
    part = without_gaps(part)
    graph.begin(Draft(part))
    if part.weight.problem:
        graph.shape = None
        return
    if len(part.weight.shape) != 4:
        graph.refuse(part, f"has a weight of the shape {list(part.weight.shape)}, but a two-dimensional "
                           "convolution's has four axes")
        return
    rows, channels, *kernel = part.weight.shape
    part, graph.pad = in_numbers(part, (kernel[0], kernel[1]), graph.shape and in_rows(graph.shape), graph.pad), None
    problems = list(kernel_problems(part, rows, (kernel[0], kernel[1])))
    graph.check_lengths(part, rows)
    if not problems and graph.is_map(part):
        assert graph.shape is not None
        size = graph.shape[1], graph.shape[2]
        geometry = Geometry((graph.shape[0], *size), (kernel[0], kernel[1]), (1, 1), part.padding, part.groups,
                            end_padding=part.end_padding)
        geometry = replace(geometry, stride=needed_stride(part.stride, geometry))
        if graph.shape[0] != channels * part.groups:
            problems.append(f"takes {channels * part.groups} channels, but gets {size_text(graph.shape)} values; "
                            "check --input-shape and the order of the layers")
        elif min(geometry.conv_shape) < 1:
            problems.append(f"has a kernel of {size_text(tuple(kernel))}, which exceeds its input of "
                            f"{size_text(graph.shape)}; use larger images or smaller kernels")
        else:
            assert graph.draft is not None
            graph.draft.geometry = geometry
            graph.shape = (rows, *geometry.conv_shape)
            return
    for problem in problems:
        graph.refuse(part, problem)
    graph.shape = None


def _pad(graph: GraphState, part: PadPart) -> None:
    axes = graph.shape
    if graph.is_map(part):
        graph.pad = joined(graph.pad, part) if graph.pad else part
        graph.shape = axes if not any(part.rows) else graph.shape


RULES: dict[type[Part], Callable[[GraphState, Any], None]] = {
    LinearPart: _linear, ConvPart: _convolution, PadPart: _pad, PoolPart: pool, AdaptivePoolPart: adaptive_pool,
    FlattenPart: flatten, AffinePart: _affine, ActivationPart: _activation, NormPart: _norm,
    TransposedConvPart: transposed_convolution, UpsamplePart: upsample, PermutePart: permute,
    SqueezePart: squeeze,
}
"""By kind of part, if it may stand where it does; others change nothing."""
