# SPDX-License-Identifier: Apache-2.0
"""What parts do that run as fully connected layers from one feature map to another, and those that rename axes."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from host.importers.graph_state import NO_SHAPE, GraphState, form
from host.importers.layer_drafts import Draft
from host.importers.map_matrices import (
    Windows,
    by_channel,
    expanded,
    pool_outputs,
    pooling_matrix,
    repeats,
    selection,
    spread_shape,
    transposed_problems,
)
from host.importers.source_layers import (
    AdaptivePoolPart,
    FlattenPart,
    LinearPart,
    Part,
    PermutePart,
    PoolPart,
    SqueezePart,
    TransposedConvPart,
    UpsamplePart,
    shown,
)
from host.importers.stored_tensor import StoredTensor
from host.importers.supported_layers import size_text
from host.network.layers import VALUES_LIMIT
from rtl.numbers import Activation

__all__ = ["adaptive_average", "flatten", "permute", "squeeze", "transposed_convolution", "uneven_average", "upsample"]

NOT_PRUNED = ("is a transposed convolution, which runs as a fully connected layer: each of its weights is stored many "
              "times, and it is neither pruned nor trained further")
"""For `Network.assumptions`."""


def upsample(graph: GraphState, part: UpsamplePart) -> None:
    """Adds ``part`` to ``graph``: each value several times."""
    shape = _map(graph, part)
    if shape is None:
        return
    size, factors = shape[1:], part.factor
    wanted = part.size or tuple(round(one * factor) for one, factor in zip(size, factors or (0, 0), strict=True))
    if min(wanted) < 1 or any(one % given for one, given in zip(wanted, size, strict=True)):
        graph.refuse(part, f"makes {size_text(wanted)} values of {size_text(size)}; only upsampling by whole factors "
                           "runs: use scale_factor=2 or the like")
        return
    times = wanted[0] // size[0], wanted[1] // size[1]
    if times == (1, 1):
        return
    outputs = shape[0], wanted[0], wanted[1]
    if _fits(graph, part, outputs, "use smaller maps or fewer channels, or upsample earlier"):
        _begin(graph, part, by_channel(shape, outputs, lambda: repeats((size[0], size[1]), times)), outputs)


def uneven_average(graph: GraphState, part: PoolPart) -> None:
    """Adds ``part`` to ``graph``: an average pooling whose windows do not all divide by the same number."""
    shape = _map(graph, part)
    if shape is None:
        return
    size = shape[1], shape[2]
    outputs = shape[0], pool_outputs(part, 0, size[0]), pool_outputs(part, 1, size[1])
    _average(graph, part, outputs, [Windows.of(part, axis, size[axis]) for axis in range(2)],
             "use count_include_pad=True, ceil_mode=False and windows that fit, which run as a convolution")


def adaptive_average(graph: GraphState, part: AdaptivePoolPart, wanted: tuple[int, int]) -> None:
    """Adds ``part`` to ``graph``: an average pooling to ``wanted`` rows and columns, whose windows differ in size."""
    shape = _map(graph, part)
    if shape is None:
        return
    _average(graph, part, (shape[0], *wanted),
             [Windows.adaptive(size, goal) for size, goal in zip(shape[1:], wanted, strict=True)],
             "use images for which all windows are of one size, or a torch.nn.AvgPool2d")


def _average(graph: GraphState, part: PoolPart | AdaptivePoolPart, outputs: tuple[int, int, int],
             windows: Sequence[Windows], advice: str) -> None:
    shape = graph.shape
    assert shape is not None
    if _fits(graph, part, outputs, advice):
        size = shape[1], shape[2]
        _begin(graph, part, by_channel((shape[0], *size), outputs, lambda: pooling_matrix(windows, size)), outputs)


def transposed_convolution(graph: GraphState, part: TransposedConvPart) -> None:
    """Adds ``part`` to ``graph``: a matrix in which each weight of the kernel stands many times."""
    graph.begin(Draft(LinearPart(part.name, part.weight, part.bias, fixed=True), open=False))
    if part.weight.problem:
        graph.shape = None
        return
    shape = _map(graph, part)
    if shape is None:
        return
    problems = list(transposed_problems(part, shape))
    for problem in problems:
        graph.refuse(part, problem)
    if problems:
        return
    outputs = spread_shape(part, shape)
    graph.check_lengths(LinearPart(part.name, part.weight, part.bias), outputs[0])
    whole = spread_shape(replace(part, padding=(0, 0), end_padding=(0, 0)), shape)
    if _fits(graph, part, max(outputs, whole, key=math.prod), "use smaller maps or fewer channels, or a "
             "torch.nn.Upsample before a torch.nn.Conv2d", outputs):
        assert graph.draft is not None
        matrix, bias = expanded(part, shape)
        graph.draft.part = LinearPart(part.name, matrix, bias, outputs, fixed=True)
        graph.shape = outputs
        graph.notes.append(f"layer {shown(part.name)} {NOT_PRUNED}")


def flatten(graph: GraphState, part: FlattenPart) -> None:
    """Adds ``part`` to ``graph``: all axes become one, or others; the batch axis must stay as it is."""
    shape, cut = graph.shape, part.shape
    if not cut:
        graph.shape = shape and (math.prod(shape),)
        return
    if shape is None:
        if graph.draft is None and not graph.problems:
            graph.refuse(part, f"cuts its input into pieces of {size_text(cut)} values, but {NO_SHAPE}")
        return
    known = math.prod(size for size in cut if size)
    if 0 in cut and math.prod(shape) % known == 0:
        cut = tuple(size or math.prod(shape) // known for size in cut)
    if math.prod(cut) != math.prod(shape):
        graph.refuse(part, f"cuts {size_text(shape)} values of each input into pieces of {size_text(cut)}, so that "
                           "one input becomes several of the batch; use torch.nn.Flatten(), which leaves the batch "
                           "axis as it is")
        return
    _rename(graph, part, cut)


def squeeze(graph: GraphState, part: SqueezePart) -> None:
    """Adds ``part`` to ``graph``: axes of the size 1 come or go."""
    if graph.shape is None:
        return
    shape = list(graph.shape)
    rank = len(shape) + (len(part.axes) if part.adds else 0)
    places = sorted(axis % rank for axis in part.axes if -rank <= axis < rank)
    if len(set(places)) != len(part.axes) or not (part.adds or all(shape[axis] == 1 for axis in places)):
        graph.refuse(part, f"{'adds' if part.adds else 'removes'} the axes {part.axes} {'to' if part.adds else 'of'} "
                           f"{size_text(graph.shape)} values, counted without the batch axis; they must be different "
                           "axes of the size 1")
        return
    for axis in places if part.adds else reversed(places):
        shape[axis:axis + (not part.adds)] = [1] * part.adds
    if not 1 <= len(shape) <= 3:
        graph.refuse(part, f"gives {len(shape)} axes beside the batch axis; values have one axis, or channels, rows "
                           "and columns: leave out the others")
        return
    _rename(graph, part, tuple(shape))


def permute(graph: GraphState, part: PermutePart) -> None:
    """Adds ``part`` to ``graph``: axes in another order; where values change their places, a layer moves them."""
    shape = graph.shape
    if shape is None:
        return
    if len(part.order) == 2 and len(shape) == 3 and shape[1] == 1:
        shape = shape[0], shape[2]
    if sorted(part.order) != list(range(len(shape))):
        graph.refuse(part, f"puts {len(part.order)} axes into the order {part.order}, but gets {size_text(shape)} "
                           "values; export the model again")
        return
    after = tuple(shape[axis] for axis in part.order)
    kept = [axis for axis in part.order if shape[axis] > 1]
    if kept == sorted(kept):
        _rename(graph, part, after)
    elif _fits(graph, part, _as_map(after), "leave the axes as they are"):
        places = np.arange(math.prod(shape)).reshape(shape).transpose(part.order).ravel()
        _move(graph, part, places, after)


def _rename(graph: GraphState, part: Part, cut: tuple[int, ...]) -> None:
    """Gives the values of the current value the axes ``cut``, in the same order.

    A map of the same channels stays as it is in memory. Otherwise the layer before gives its outputs as the map, if it
    is fully connected, or a layer moves them.
    """
    draft, shape = graph.draft, graph.shape
    assert shape is not None
    if draft is not None and len(cut) > 1:
        wanted = _as_map(cut)
        if form(draft, shape)[0] != wanted[0]:
            if isinstance(draft.part, LinearPart) and draft.part.out_map is None and not graph.shared:
                draft.part = replace(draft.part, out_map=wanted)
            elif _fits(graph, part, wanted, "keep the number of channels"):
                _move(graph, part, np.arange(math.prod(cut)), cut)
            else:
                return
    graph.shape = cut


def _move(graph: GraphState, part: Part, places: np.ndarray, shape: tuple[int, ...]) -> None:
    """The value becomes one of ``shape``, whose values stood at ``places`` before."""
    draft = graph.draft
    if draft is not None and isinstance(draft.part, LinearPart) and not (graph.shared or draft.scales or draft.added):
        old = draft.part
        draft.part = replace(old, weight=_rows(old.weight, places), bias=old.bias and _rows(old.bias, places),
                             out_map=_as_map(shape))
        graph.shape = shape
        return
    _begin(graph, part, selection(places, len(places)), _as_map(shape))
    graph.shape = shape


def _rows(tensor: StoredTensor, places: np.ndarray) -> StoredTensor:
    if tensor.problem or tensor.shape[:1] != places.shape:
        return tensor
    return StoredTensor(tensor.shape, tensor.values, lambda: tensor.read()[places])


def _as_map(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, rows and columns of values of these axes."""
    channels, *rows, cols = shape if len(shape) > 1 else (*shape, 1)
    return channels, math.prod(rows), cols


def _map(graph: GraphState, part: Part) -> tuple[int, int, int] | None:
    """Channels, rows and columns of the current value; None if it has none, which is noted."""
    if not graph.is_map(part):
        return None
    assert graph.shape is not None
    channels, height, width = graph.shape
    return channels, height, width


def _fits(graph: GraphState, part: Part, outputs: tuple[int, int, int], advice: str,
          given: tuple[int, int, int] | None = None) -> bool:
    """Whether the matrix from the current value to ``outputs`` may be computed; else the part is refused.

    ``given`` are the outputs that the message names, if others are computed on the way.
    """
    assert graph.shape is not None
    inputs = math.prod(graph.shape)
    graph.expanded += inputs * math.prod(outputs)
    if graph.expanded <= VALUES_LIMIT:
        return True
    graph.refuse(part, f"makes {size_text(given or outputs)} values of {size_text(graph.shape)}, which runs as a fully "
                       f"connected layer; all such layers up to this one have {graph.expanded:,} weights, zeros "
                       f"included, more than {VALUES_LIMIT:,}; {advice}")
    return False


def _begin(graph: GraphState, part: Part, matrix: StoredTensor, outputs: tuple[int, int, int]) -> None:
    """Begins a layer of constant weights that are not negative."""
    positive = graph.draft is not None and not graph.draft.activation.signed
    graph.begin(Draft(LinearPart(part.name, matrix, None, outputs, fixed=True), open=False, constant=True,
                      activation=Activation.RELU if positive else Activation.IDENTITY, implied=positive))
    graph.shape = outputs
