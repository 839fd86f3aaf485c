# SPDX-License-Identifier: Apache-2.0
"""Numbers of zeros around a convolution's input: its own padding, that of a rule, or that of a padding layer before it.
"""

from dataclasses import replace

from host.importers.source_layers import ConvPart, PadPart, Pair

__all__ = ["in_numbers", "joined", "same_padding"]


def joined(first: PadPart, second: PadPart) -> PadPart:
    """The sum of the paddings ``first`` and ``second``, with the name of ``second``."""
    rows, cols = ((one[0] + two[0], one[1] + two[1]) for one, two in (
        (first.rows, second.rows), (first.cols, second.cols)))
    return PadPart(second.name, rows, cols)


def in_numbers(part: ConvPart, kernel: Pair, shape: tuple[int, ...] | None, before: PadPart | None) -> ConvPart:
    """The convolution with all padding as numbers in ``padding`` and ``end_padding``.

    Parameters
    ----------
    part : ConvPart
    kernel : (int, int)
        Rows and columns.
    shape : tuple of int or None
        Channels, height and width of the input, without the zeros of ``before``; None if it is not known.
    before : PadPart or None
        Padding layer whose zeros the convolution takes over.
    """
    own = list(zip(part.padding, part.end_padding or part.padding, strict=True))
    around = (before.rows, before.cols) if before else ((0, 0), (0, 0))
    if part.same and shape is not None and len(shape) == 3 and min(part.stride) > 0:
        own = [same_padding(size + sum(zeros), edge, step, part.same)
               for size, zeros, edge, step in zip(shape[1:], around, kernel, part.stride, strict=True)]
    (above, below), (left, right) = ((mine[0] + zeros[0], mine[1] + zeros[1])
                                     for mine, zeros in zip(own, around, strict=True))
    return replace(part, padding=(above, left), end_padding=(below, right), same="")


def same_padding(size: int, kernel: int, stride: int, more: str) -> Pair:
    """Zeros before and behind an axis so that each stride gives one output.

    ONNX, operator Conv, ``auto_pad``; TensorFlow's padding "SAME" is "upper".

    Parameters
    ----------
    size, kernel, stride : int
        Lengths along the axis, in values.
    more : str
        "upper" or "lower": of an odd number of zeros, one more is at the end or at the beginning.
    """
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    less = total // 2
    return (less, total - less) if more == "upper" else (total - less, less)
