# SPDX-License-Identifier: Apache-2.0
"""What poolings do to the layers so far, and to the current value."""

from dataclasses import replace

from host.importers.conv_padding import same_padding
from host.importers.graph_state import GraphState
from host.importers.layer_drafts import Draft
from host.importers.map_matrices import pool_outputs
from host.importers.map_rules import adaptive_average, uneven_average
from host.importers.source_layers import AdaptivePoolPart, Pair, PoolPart
from host.importers.supported_layers import in_one_row, pool_problems, size_text
from host.network.layers import Geometry
from rtl.numbers import Activation

__all__ = ["adaptive_pool", "needed_stride", "pool"]

OVER_THE_EDGE = ("is a max pooling whose windows reach over the edge, of values that may be negative, so that zeros "
                 "there would count; put the ReLU before it, or use windows that fit")
OVER_ONE_AXIS = ("is a max pooling over one axis, of values that may be negative; the engine's windows are square, so "
                 "that zeros beside the row would count: put the ReLU before it")


def pool(graph: GraphState, part: PoolPart) -> None:
    """Adds ``part`` to ``graph``: a max pooling joins the convolution before it, if it may; others become a layer."""
    if not graph.is_map(part):
        return
    assert graph.shape is not None
    if part.same and min(*part.window, *part.stride) > 0:
        rows, cols = (same_padding(size, edge, step, part.same) for size, edge, step in zip(
            graph.shape[1:], part.window, part.stride, strict=True))
        part = replace(part, padding=(rows[0], cols[0]), end_padding=(rows[1], cols[1]), same="")
    problems = list(pool_problems(part, graph.shape))
    for problem in problems:
        graph.refuse(part, problem)
    if problems or part.window == part.stride == (1, 1):
        return
    if part.kind == "average" and _is_uneven(part, graph.shape):
        uneven_average(graph, part)
        return
    channels, height, width = graph.shape
    zeros = _zeros_around(part, graph.shape) if part.kind == "max" else ((0, 0), (0, 0))
    if any(map(any, zeros)):
        if graph.draft is None or graph.draft.activation.signed:
            graph.refuse(part, OVER_THE_EDGE if any(map(any, part.pads)) or part.ceil else OVER_ONE_AXIS)
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
            geometry = replace(geometry, kernel=part.window, padding=part.padding, end_padding=part.end_padding)
            geometry = replace(geometry, stride=needed_stride(part.stride, geometry))
        graph.begin(Draft(part, geometry, activation=Activation.RELU if positive else Activation.IDENTITY,
                          implied=positive))
    draft = graph.draft
    assert draft is not None and draft.geometry is not None
    if part.kind == "max":
        draft.geometry = replace(draft.geometry, pool=part.window[1], pool_stride=part.stride[1])
        draft.open = False
    graph.shape = (channels, *draft.geometry.out_shape)


def _is_uneven(part: PoolPart, shape: tuple[int, ...]) -> bool:
    """Whether the windows of an average pooling divide by different numbers of values."""
    rests = [(size + sum(pads) - edge) % step for size, pads, edge, step in zip(
        shape[1:], part.pads, part.window, part.stride, strict=True)]
    return (part.ceil and any(rests)) or (any(map(any, part.pads)) and not part.counts_padding)


def _zeros_around(part: PoolPart, shape: tuple[int, ...]) -> tuple[Pair, Pair]:
    """Zeros above and to the left, and below and to the right, with which square windows of a max pooling fit.

    A window along the only row is as many rows high as it is wide.
    """
    if in_one_row(part, shape):
        part = replace(part, window=(part.window[1], part.window[1]), stride=(part.stride[1], part.stride[1]))
        shape = (shape[0], part.window[0], shape[2])
        below = part.window[0] - 1
    else:
        below = 0
    ends = []
    for axis, (size, edge, step, pads) in enumerate(zip(shape[1:], part.window, part.stride, part.pads, strict=True)):
        last = (pool_outputs(part, axis, size) - 1) * step
        ends.append(max(0, last + edge - size - pads[0]) if part.ceil or any(pads) else 0)
    return part.padding, (ends[0] + below, ends[1])


def adaptive_pool(graph: GraphState, part: AdaptivePoolPart) -> None:
    """Adds ``part`` to ``graph``: a pooling with windows of one size, or the average of windows that differ."""
    if not graph.is_map(part):
        return
    assert graph.shape is not None
    sizes = graph.shape[1:]
    wanted = [size if goal is None else goal for size, goal in zip(sizes, part.size, strict=True)]
    differ = min(wanted) < 1 or any(size % goal for size, goal in zip(sizes, wanted, strict=True))
    if differ and part.kind == "average" and min(wanted) > 0:
        adaptive_average(graph, part, (wanted[0], wanted[1]))
        return
    if differ:
        graph.refuse(part, f"gives {size_text(tuple(wanted))} values of {size_text(sizes)}, for which its windows "
                           "differ in size; use images for which they do not, a torch.nn.MaxPool2d, or "
                           "torch.nn.AdaptiveAvgPool2d, which runs for any sizes")
        return
    window = sizes[0] // wanted[0], sizes[1] // wanted[1]
    pool(graph, PoolPart(part.name, part.kind, window, window))


def needed_stride(stride: Pair, geometry: Geometry) -> Pair:
    """What is needed of ``stride``: 1 if the kernel covers the whole input, because each phase of one costs a pass.

    ``geometry`` has a stride of 1.
    """
    rows, cols = (1 if outputs == 1 else step for step, outputs in zip(stride, geometry.conv_shape, strict=True))
    return rows, cols
