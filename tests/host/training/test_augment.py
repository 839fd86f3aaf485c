# SPDX-License-Identifier: Apache-2.0
"""Random deformations of training images."""

import numpy as np
import torch

from host.training.augment import Augmenter, image_plane


def test_augmentation_moves_images_a_little():
    square = torch.zeros(64, 28, 28)
    square[:, 9:19, 9:19] = 1
    generator = torch.Generator().manual_seed(0)
    moved = Augmenter(28, 28)(square.reshape(64, -1), generator).reshape(64, 28, 28)
    rows = torch.arange(28.0)
    centers = (moved.sum(2) * rows).sum(1) / moved.sum((1, 2))
    assert 0.5 < (centers - 13.5).std() < 2
    assert torch.all((moved.sum((1, 2)) > 50) & (moved.sum((1, 2)) < 200))
    assert moved.min() >= 0 and moved.max() <= 1 + 1e-6


def test_shapes_that_are_one_plane():
    shapes = {(4, 28, 30): (28, 30), (4, 1, 28, 30): (28, 30), (4, 28, 30, 1): (28, 30),
              (4, 3, 28, 30): None, (4, 784): None, (4, 1, 784): None}
    assert {shape: image_plane(np.zeros(shape)) for shape in shapes} == shapes
