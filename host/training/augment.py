# SPDX-License-Identifier: Apache-2.0
"""Small random deformations of training images: shifts, rotations, scales, shears and elastic bends."""

import numpy as np
import torch
from torch.nn import functional

__all__ = ["ALL", "Augmenter", "image_plane"]

ALL = slice(None)


def image_plane(images: np.ndarray) -> tuple[int, int] | None:
    """Height and width of images ``[n, height, width]``, with or without a channel axis of 1; else None."""
    shape = images.shape[1:]
    if len(shape) == 3 and 1 in (shape[0], shape[-1]):
        shape = shape[1:] if shape[0] == 1 else shape[:-1]
    return (shape[0], shape[1]) if len(shape) == 2 and min(shape) > 1 else None


SHIFT, LINEAR, BEND = 0.07, 0.08, 0.05
"""Standard deviations of the deformations; lengths are fractions of half the image.

Of four sets tried these gave the dense LeNet-300-100 its least error (docs/pruning.md)."""


class Augmenter:
    """Deforms batches of images. One matrix product makes the sampling grids of a whole batch.

    A grid is a sum of fixed displacement fields with random weights: two constants (shift), the two
    coordinates (rotation, scale and shear in one), and bumps of width one knot on a ``knots x knots``
    lattice (a smooth elastic bend; Simard et al., ICDAR 2003, section 3).

    Parameters
    ----------
    height, width : int
        Size of the images.
    strength : float
        Factor on the standard deviations of all deformations.
    """

    def __init__(self, height: int, width: int, strength: float = 1.0, knots: int = 5) -> None:
        self.height, self.width = height, width
        ys, xs = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.identity = torch.stack([xs, ys])
        centers = torch.linspace(-1, 1, knots)
        step = 2 / (knots - 1)
        bumps = torch.exp(-((xs[None, None] - centers[None, :, None, None]) ** 2
                            + (ys[None, None] - centers[:, None, None, None]) ** 2) / (2 * (0.6 * step) ** 2))
        fields = [torch.full((1, height, width), SHIFT), LINEAR * xs[None], LINEAR * ys[None],
                  BEND * bumps.reshape(-1, height, width)]
        self.whole = strength * torch.cat(fields).reshape(-1, height * width)
        self.want(None)

    def want(self, places: torch.Tensor | None) -> None:
        """Makes only these pixels of an image from now on, in this order; None for all."""
        places = torch.arange(self.height * self.width) if places is None else places
        self.fields, self.places = self.whole[:, places], self.identity.reshape(2, -1)[:, places]

    def __call__(self, images: torch.Tensor, generator: torch.Generator, part: slice = ALL) -> torch.Tensor:
        """The images of ``part``, deformed; draws the same random numbers from ``generator`` whatever ``part`` is.

        Parameters
        ----------
        images : float32, shape ``[n, height * width]``
        """
        weights = torch.randn(len(images), 2, len(self.fields), generator=generator)[part]
        images = images[part]
        n = len(images)
        grids = (weights.reshape(n * 2, -1) @ self.fields).reshape(n, 2, 1, -1).add_(self.places[:, None])
        planes = images.reshape(n, 1, self.height, self.width)
        moved = functional.grid_sample(planes, grids.permute(0, 2, 3, 1), align_corners=True)
        return moved.reshape(n, -1)
