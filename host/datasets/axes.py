# SPDX-License-Identifier: Apache-2.0
"""Compares the axes of inputs with those that a network takes: an equal number of values need not be the same values.
"""

import math
from collections.abc import Sequence

import numpy as np

from nonzero.errors import UserError

__all__ = ["axes_text", "fit_axes", "flattened_note"]


def fit_axes(what: str, images: np.ndarray, axes: Sequence[int], *, way_out: str) -> tuple[np.ndarray, str]:
    """Inputs in the order in which a network takes them.

    Axes of length 1 do not count, and flat values stand for any axes. Images with the channels last, which is certain
    if only that order gives the network's axes, are transposed.

    Parameters
    ----------
    what : str
        Name of the values in errors and notes, for instance "dataset 'mnist'".
    images : array, shape ``[n, ...]``
    axes : sequence of int
        Axes of one input, as the network takes it: (channels, height, width) or (values,), or what else its file says.
    way_out : str
        For the errors: what to give instead.

    Returns
    -------
    images : array, shape ``[n, ...]``
    note : str
        Assumptions and changes, for the user; empty if there are none.

    Raises
    ------
    UserError
        For any other axes, naming both.
    """
    given, wanted = images.shape[1:], tuple(axes)
    if given == wanted:
        return images, ""
    same = _long(given) == _long(wanted)
    last = len(wanted) == 3 and given == (*wanted[1:], wanted[0]) and len(_long(wanted)) > 1
    # As many columns as channels: rows, channels, columns would look alike.
    if last and wanted[0] > 1 and not same and wanted[0] != wanted[2]:
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), (
            f"{what} has its channels last, {axes_text(given)}; they were moved to the front, "
            f"{axes_text(wanted)}, as the network takes them")
    if math.prod(given) != math.prod(wanted) or (last and wanted[0] > 1) \
            or not (same or len(_long(given)) <= 1 or len(_long(wanted)) <= 1):
        raise UserError(f"{what} has inputs of {axes_text(given)} values, but the network takes {axes_text(wanted)}; "
                        f"{way_out}")
    if same or max(len(_long(given)), len(_long(wanted))) <= 2:
        return images, ""
    return images, (f"{what} has inputs of {axes_text(given)} values, the network takes {axes_text(wanted)}: they were "
                    "taken in row-major order")


def flattened_note(what: str, images: np.ndarray) -> str:
    """A note of what is assumed of images for a network of which only the number of inputs is known; empty for images
    that everybody flattens alike, those of rows and columns alone.

    Parameters
    ----------
    what : str
        See `fit_axes`.
    images : array, shape ``[n, ...]``
    """
    if len(_long(images.shape[1:])) <= 2:
        return ""
    return (f"{what} has inputs of {axes_text(images.shape[1:])} values, and the model file does not tell axes: they "
            "are taken in row-major order")


def axes_text(axes: Sequence[int]) -> str:
    """The sizes ``axes`` as a message writes them: "3 x 16 x 16"."""
    return " x ".join(map(str, axes)) or "1"


def _long(axes: Sequence[int]) -> tuple[int, ...]:
    """The axes that are longer than 1."""
    return tuple(size for size in axes if size > 1)
