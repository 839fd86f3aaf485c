# SPDX-License-Identifier: Apache-2.0
"""The zeros around the input of a convolution, for torch, whose convolutions pad as much at the end as before."""

import torch
from torch.nn import functional

from host.network.layers import Geometry

__all__ = ["pad_images"]


def pad_images(images: torch.Tensor, geometry: Geometry) -> tuple[torch.Tensor, tuple[int, int]]:
    """The images as torch's convolution takes them, and the padding that is left for it to add.

    Parameters
    ----------
    images : tensor, shape ``[n, channels, height, width]``
    geometry : Geometry
        Geometry of the convolution.

    Returns
    -------
    tensor, shape ``[n, channels, height, width]`` or larger
    (int, int)
        Rows and columns of zeros on each side.
    """
    if geometry.end_padding is None:
        return images, geometry.padding
    rows, cols = geometry.pads
    return functional.pad(images, (*cols, *rows)), (0, 0)
