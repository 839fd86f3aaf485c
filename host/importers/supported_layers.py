# SPDX-License-Identifier: Apache-2.0
"""Checks whether the engine can run a convolution or pooling; each problem names a remedy."""

from collections.abc import Iterator

from host.importers.source_layers import ConvPart, PoolPart
from host.importers.stored_tensor import SIZE_LIMIT
from host.network.layers import LARGEST_POOL

__all__ = ["JOINS_CHANNELS", "JOINS_CONSTANTS", "KEEP_BATCH", "LARGEST_KERNEL", "NOT_ZEROS", "in_one_row",
           "kernel_problems", "pool_problems", "size_text"]

LARGEST_KERNEL = 11
"""Rows and columns."""

KEEP_BATCH = "moves values into the batch axis, or out of it; use torch.nn.Flatten(), which leaves it as it is"
JOINS_CHANNELS = "only channels, or the values of flat vectors, are joined: use torch.cat(values, dim=1)"
JOINS_CONSTANTS = ("joins values with some that do not depend on the input; give the layer that takes them a bias "
                   "instead")

NOT_ZEROS = "pads with something other than zeros; use zeros, in torch.nn.Conv2d padding_mode='zeros'"


def size_text(shape: tuple[int, ...]) -> str:
    """The sizes ``shape`` for a message, like 1 x 28 x 28."""
    return " x ".join(f"{size:,}" for size in shape)


def kernel_problems(part: ConvPart, rows: int, kernel: tuple[int, int]) -> Iterator[str]:
    """Problems of a convolution, whatever its inputs.

    Parameters
    ----------
    part : ConvPart
    rows : int
        Output channels.
    kernel : (int, int)
        Rows and columns.

    Yields
    ------
    str
        A problem and its way out; it continues the sentence that begins with the layer's name.
    """
    if max(kernel) > LARGEST_KERNEL:
        yield (f"has a kernel of {size_text(kernel)}, but {LARGEST_KERNEL} x {LARGEST_KERNEL} is the largest; use "
               "several smaller ones")
    if part.dilation != (1, 1):
        yield (f"has a dilation of {size_text(part.dilation)}, with which its kernel of {size_text(kernel)} covers "
               f"more than {LARGEST_KERNEL} rows or columns, or none; retrain with a smaller one")
    if not all(1 <= step <= SIZE_LIMIT for step in part.stride):
        yield f"has a stride of {part.stride}, which must be positive"
    if not all(0 <= size <= LARGEST_KERNEL for size in (*part.padding, *(part.end_padding or ()))):
        ends = f" and {part.end_padding} at the end" if part.end_padding not in (None, part.padding) else ""
        yield f"has a padding of {part.padding}{ends}, which must be 0 to {LARGEST_KERNEL}; retrain with less"
    if part.groups < 1 or rows % part.groups:
        yield f"has {part.groups} groups, which must divide its {rows} outputs"


def pool_problems(part: PoolPart, shape: tuple[int, ...]) -> Iterator[str]:
    """Problems of a pooling of feature maps of this shape.

    Parameters
    ----------
    part : PoolPart
    shape : tuple of int
        Channels, rows and columns of its input.

    Yields
    ------
    str
        A problem and its way out; it continues the sentence that begins with the layer's name.
    """
    window, stride, padding = part.window, part.stride, part.padding
    most = [max(pads) for pads in part.pads]
    if min(*window, *stride) < 1 or min(map(min, part.pads)) < 0:
        yield (f"has a window of {window}, a stride of {stride} and a padding of {padding}; a window and a stride are "
               "at least 1, a padding at least 0")
        return
    rests = [size + sum(pads) - edge for size, pads, edge in zip(shape[1:], part.pads, window, strict=True)]
    if min(rests) < 0:
        yield f"has a window of {size_text(window)}, which exceeds its input of {size_text(shape)}; use larger images"
    if any(2 * pad > edge for pad, edge in zip(most, window, strict=True)):
        yield f"has a padding of {size_text(tuple(most))}, more than half its window of {size_text(window)}"
    elif part.kind == "average":
        return
    elif (window[0] != window[1] or stride[0] != stride[1]) and not in_one_row(part, shape):
        yield (f"has a window of {size_text(window)} and a stride of {size_text(stride)}, but those of max pooling are "
               "square here; use one number for each, or a torch.nn.AvgPool2d, whose windows may have any shape")
    elif window[1] > LARGEST_POOL:
        yield (f"has windows {window[1]} wide, but those of max pooling are at most {LARGEST_POOL} wide here; use "
               "such, or several poolings")
    elif stride[1] > window[1]:
        yield (f"has windows {window[1]} wide and {stride[1]} apart, but those of max pooling are at most as far apart "
               f"here as they are wide; use a stride of at most {window[1]}, or one in the convolution before it")


def in_one_row(part: PoolPart, shape: tuple[int, ...]) -> bool:
    """Whether the pooling ``part`` of maps of this ``shape``, channels, rows and columns, works along the only row."""
    return shape[1] == part.window[0] == 1 and not any(part.pads[0])
