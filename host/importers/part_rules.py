# SPDX-License-Identifier: Apache-2.0
"""What each kind of part does to the layers so far, and to the current value."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from host.importers.conv_forms import without_gaps
from host.importers.conv_padding import in_numbers, joined, zeros_around
from host.importers.fold_normalization import Affine
from host.importers.graph_state import NO_SHAPE, GraphState, in_rows, rows_of
from host.importers.layer_drafts import Draft
from host.importers.source_layers import (
    ActivationPart,
    AdaptivePoolPart,
    AffinePart,
    ConvPart,
    FlattenPart,
    LinearPart,
    NormPart,
    PadPart,
    Pair,
    Part,
    PoolPart,
    shown,
)
from host.importers.stored_tensor import TensorError
from host.importers.supported_layers import kernel_problems, pool_problems, size_text
from host.network.activations import is_monotone, joined_activations
from host.network.layers import Geometry
from rtl.numbers import Activation

__all__ = ["RULES"]

OVER_THE_EDGE = ("is a max pooling whose windows reach over the edge, of values that may be negative, so that zeros "
                 "there would count; put the ReLU before it, or use windows that fit")
OVER_ONE_AXIS = ("is a max pooling over one axis, of values that may be negative; the engine's windows are square, so "
                 "that zeros beside the row would count: put the ReLU before it")


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


def _flatten(graph: GraphState, part: FlattenPart) -> None:
    """All axes into one, or an input's into others; the batch axis must stay as it is."""
    shape, cut = graph.shape, part.shape
    if not cut:
        graph.shape = shape and (math.prod(shape),)
    elif shape is None:
        if graph.draft is None and not graph.problems:
            graph.refuse(part, f"cuts its input into pieces of {size_text(cut)} values, but {NO_SHAPE}")
    elif math.prod(cut) != math.prod(shape):
        graph.refuse(part, f"cuts {size_text(shape)} values of each input into pieces of {size_text(cut)}, so that "
                           "one input becomes several of the batch; use torch.nn.Flatten(), which leaves the batch "
                           "axis as it is")
    elif len(cut) > 1 and in_rows(cut) != in_rows(shape) and graph.before is not None:
        graph.refuse(part, f"cuts {size_text(shape)} values into {size_text(cut)}; only the input may be cut into "
                           "channels, rows and columns, and only a flatten may follow: use torch.nn.Flatten()")
    else:
        graph.shape = cut


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
    draft.activation = found


def _joins(graph: GraphState, one: bool) -> bool:
    """Whether the layer before can scale its sums; ``one`` factor for all, or one for each of its rows."""
    draft = graph.draft
    if draft is None or graph.shared or not draft.takes_more:
        return False
    if not (draft.only_scales or isinstance(draft.part, LinearPart | ConvPart)):
        return False
    rows = rows_of(draft.part) or (draft.geometry.groups if draft.geometry else None)
    return one or graph.shape is None or rows == graph.shape[0]


def _norm(graph: GraphState, part: NormPart) -> None:
    if graph.shape is None:
        return
    graph.shape = in_rows(graph.shape)
    channels = graph.shape[0]
    if len(part.mean.shape) == 1 and not part.mean.problem and part.mean.shape != (channels,) and graph.draft is None:
        graph.refuse(part, f"normalises {part.mean.shape[0]:,} channels, but gets {size_text(graph.shape)} values; "
                           "check --input-shape")
        return
    graph.check_lengths(part, channels)
    _scale(graph, part)


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
        graph.shape = (rows,)


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
        geometry = replace(geometry, stride=_needed(part.stride, geometry))
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
    if graph.is_map(part):
        graph.pad = joined(graph.pad, part) if graph.pad else part


def _pool(graph: GraphState, part: PoolPart) -> None:
    if not graph.is_map(part):
        return
    assert graph.shape is not None
    problems = list(pool_problems(part, graph.shape))
    for problem in problems:
        graph.refuse(part, problem)
    if problems or part.window == part.stride == (1, 1):
        return
    channels, height, width = graph.shape
    zeros = zeros_around(part, graph.shape) if part.kind == "max" else ((0, 0), (0, 0))
    if any(map(any, zeros)):
        if graph.draft is None or graph.draft.activation.signed:
            graph.refuse(part, OVER_THE_EDGE if part.padding != (0, 0) or part.ceil else OVER_ONE_AXIS)
            return
        (above, left), (below, right) = zeros
        graph.begin(Draft(PoolPart(part.name, "average", (1, 1), (1, 1)),
                          Geometry((channels, height, width), (1, 1), padding=(above, left), groups=channels,
                                   end_padding=(below, right)), activation=Activation.RELU))
    joins = part.kind == "max" and graph.draft is not None and graph.draft.open \
        and graph.draft.geometry is not None and not graph.shared
    if not joins:
        # The mean and the maximum of activations that are not negative are not negative either.
        positive = graph.draft is not None and not graph.draft.activation.signed
        geometry = Geometry((channels, height, width), (1, 1), groups=channels)
        if part.kind == "average":
            geometry = replace(geometry, kernel=part.window, padding=part.padding)
            geometry = replace(geometry, stride=_needed(part.stride, geometry))
        graph.begin(Draft(part, geometry, activation=Activation.RELU if positive else Activation.IDENTITY))
    draft = graph.draft
    assert draft is not None and draft.geometry is not None
    if part.kind == "max":
        draft.geometry = replace(draft.geometry, pool=part.window[1], pool_stride=part.stride[1])
        draft.open = False
    graph.shape = (channels, *draft.geometry.out_shape)


def _adaptive_pool(graph: GraphState, part: AdaptivePoolPart) -> None:
    if not graph.is_map(part):
        return
    assert graph.shape is not None
    sizes = graph.shape[1:]
    wanted = [size if goal is None else goal for size, goal in zip(sizes, part.size, strict=True)]
    if any(goal < 1 or size % goal for size, goal in zip(sizes, wanted, strict=True)):
        graph.refuse(part, f"gives {size_text(tuple(wanted))} values of {size_text(sizes)}, for which its windows "
                           "differ in size; use images for which they do not, or a torch.nn.AvgPool2d or MaxPool2d")
        return
    window = sizes[0] // wanted[0], sizes[1] // wanted[1]
    _pool(graph, PoolPart(part.name, part.kind, window, window))


def _needed(stride: Pair, geometry: Geometry) -> Pair:
    """The stride that is needed: 1 if the kernel covers the whole input, because each phase of a stride costs a pass.

    ``geometry`` has a stride of 1.
    """
    rows, cols = (1 if outputs == 1 else step for step, outputs in zip(stride, geometry.conv_shape, strict=True))
    return rows, cols


RULES: dict[type[Part], Callable[[GraphState, Any], None]] = {
    LinearPart: _linear, ConvPart: _convolution, PadPart: _pad, PoolPart: _pool, AdaptivePoolPart: _adaptive_pool,
    FlattenPart: _flatten, AffinePart: _affine, ActivationPart: _activation, NormPart: _norm,
}
"""By kind of part, if it may stand where it does; others change nothing."""
