# SPDX-License-Identifier: Apache-2.0
"""Random changes of training images that leave their class as it is: small deformations, or shifts and flips."""

from argparse import ArgumentParser

import numpy as np
import torch
from torch.nn import functional

from host.datasets import Dataset
from nonzero.errors import UserError

__all__ = ["ALL", "AUGMENTATIONS", "Augmenter", "Shifter", "add_augmentation_option", "augmentation_problem",
           "augmenter", "image_plane"]

ALL = slice(None)

AUGMENTATIONS = ("deform", "shift", "shift-flip")
"""Values of `host.datasets.Dataset.augmentation`: `Augmenter`, `Shifter` without flips and with them."""


def image_plane(images: np.ndarray) -> tuple[int, int] | None:
    """Height and width of ``images`` ``[n, height, width]``, with or without a channel axis of 1; else None."""
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
        """Makes only the pixels ``places`` of an image from now on, in this order; None for all. They count row by row.
        """
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


REACH = 1 / 8
"""Greatest shift, as a fraction of the image: 4 pixels of CIFAR-10's 32."""


class Shifter:
    """Shifts images by whole pixels, with zeros where nothing is left, and flips half of them left to right.

    K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2: 4 pixels
    are padded on each side, and a crop of 32 x 32 is taken at random from the image or its horizontal flip.

    Parameters
    ----------
    channels, height, width : int
        Axes of an image.
    strength : float
        Factor on the greatest shift; 1 is `REACH` of the height, and of the width.
    flip : bool
        Whether images are flipped.
    """

    def __init__(self, channels: int, height: int, width: int, strength: float = 1.0, *, flip: bool) -> None:
        self.shape, self.flip = (channels, height, width), flip
        self.reach = round(strength * REACH * height), round(strength * REACH * width)
        self.places: torch.Tensor | None = None

    def want(self, places: torch.Tensor | None) -> None:
        """Makes only the values ``places`` of an image from now on, in this order; None for all."""
        self.places = places

    def __call__(self, images: torch.Tensor, generator: torch.Generator, part: slice = ALL) -> torch.Tensor:
        """The images of ``part``, shifted; takes as much from ``generator`` whatever part that is.

        Parameters
        ----------
        images : float32, shape ``[n, channels * height * width]``
        """
        (_, height, width), (down, across) = self.shape, self.reach
        rows = torch.randint(2 * down + 1, (len(images), 1), generator=generator)[part] + torch.arange(height)
        columns = torch.arange(width).expand(len(images), width)
        if self.flip:
            flipped = torch.rand(len(images), 1, generator=generator) < 0.5
            columns = torch.where(flipped, columns.flip(1), columns)
        columns = (columns + torch.randint(2 * across + 1, (len(images), 1), generator=generator))[part]
        padded = functional.pad(images[part].reshape(-1, *self.shape), (across, across, down, down))
        sources = (rows[:, :, None] * (width + 2 * across) + columns[:, None]).flatten(1)
        moved = padded.flatten(2).gather(2, sources[:, None].expand(-1, padded.shape[1], -1)).flatten(1)
        return moved if self.places is None else moved[:, self.places]


def _channels_first(images: np.ndarray) -> tuple[int, int, int] | None:
    """Channels, height and width of images; None if their axes do not tell them: more channels than rows or columns
    may well be rows, with the channels last."""
    shape = images.shape[1:]
    channels, height, width = (1, *shape)[-3:] if len(shape) in (2, 3) else (1, 1, 1)
    return (channels, height, width) if min(height, width) >= max(2, channels) else None


def augmenter(images: np.ndarray, augmentation: str, strength: float) -> Augmenter | Shifter | None:
    """The augmenter of these images; None for a strength of 0, and for images whose axes do not allow it.

    Parameters
    ----------
    images : array, shape ``[n, ...]``
    augmentation : str
        One of `AUGMENTATIONS`.
    strength : float
        0 or more.

    Raises
    ------
    UserError
        For another word.
    """
    if augmentation not in AUGMENTATIONS:
        raise UserError(f"augmentation must be one of {', '.join(AUGMENTATIONS)}, not '{augmentation}'")
    if not strength:
        return None
    if augmentation == "deform":
        plane = image_plane(images)
        return Augmenter(*plane, strength) if plane else None
    axes = _channels_first(images)
    return Shifter(*axes, strength, flip=augmentation == "shift-flip") if axes else None


def augmentation_problem(dataset: Dataset) -> str:
    """Reason why the training images of ``dataset`` cannot be augmented in its way; empty if they can."""
    if augmenter(dataset.train_images, dataset.augmentation, 1.0):
        return ""
    what = "deforms images of height x width" if dataset.augmentation == "deform" else \
        "shifts images of height x width, or channels x height x width"
    return (f"augmentation {what}, but those of '{dataset.name}' have the shape "
            f"{list(dataset.train_images.shape[1:])}")


def add_augmentation_option(parser: ArgumentParser) -> None:
    """Adds the option ``--augmentation`` to ``parser``."""
    parser.add_argument("--augmentation", choices=AUGMENTATIONS, metavar="NAME", help="how training images are changed "
                        "at random: deform (grey ones; the default), shift or shift-flip (the default of cifar10)")
