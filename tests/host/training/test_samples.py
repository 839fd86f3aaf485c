# SPDX-License-Identifier: Apache-2.0
"""Training images in random batches, and those that are held out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from host.datasets import Dataset
from host.training.samples import HELD_OUT, Samples, split
from nonzero.errors import UserError
from tests.support.stripes import dataset

IMAGES = np.arange(10 * 4, dtype=np.uint8).reshape(10, 2, 2)
LABELS = np.arange(10)
"""Image n holds 4n to 4n + 3 and has the label n."""


def epoch(samples, batch, seed=0):
    """Inputs and labels of an epoch's batches, as arrays."""
    return [(inputs.numpy(), labels.numpy())
            for inputs, labels in samples.batches(batch, torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize("batch, sizes", [(3, [3, 3, 3]), (5, [5, 5]), (20, [10])])
def test_every_image_comes_at_most_once_with_its_label(batch, sizes):
    samples = Samples(IMAGES, LABELS, augment=0.0)
    found = epoch(samples, batch)
    assert [len(labels) for _, labels in found] == sizes and samples.batch_count(batch) == len(sizes)
    labels = np.concatenate([labels for _, labels in found])
    assert len(set(labels)) == len(labels) and not np.array_equal(labels, np.sort(labels))
    for inputs, labels in found:
        assert np.array_equal(inputs, IMAGES[labels].reshape(-1, 4) / np.float32(255)) and inputs.dtype == np.float32


def test_the_generator_decides_the_order():
    samples = Samples(IMAGES, LABELS, augment=0.0)
    orders = [[labels.tolist() for _, labels in epoch(samples, 3, seed)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_floats_are_taken_as_they_are_and_some_inputs_alone():
    images = IMAGES.astype(np.float32) - 20
    samples = Samples(images, LABELS, augment=0.0)
    samples.want(np.array([3, 1]))
    for inputs, labels in epoch(samples, 5):
        assert np.array_equal(inputs, images[labels].reshape(-1, 4)[:, [3, 1]])
    samples.want(None)
    assert epoch(samples, 5)[0][0].shape == (5, 4)


def test_split_is_the_same_for_every_run_and_complete():
    data = dataset()
    (images, labels), (held_images, held_labels) = split(data)
    assert (len(labels), len(held_labels), len(images), len(held_images)) == (458, 42, 458, 42)
    both = np.concatenate([images, held_images]).reshape(500, -1)
    assert np.array_equal(np.unique(both, axis=0), np.unique(data.train_images.reshape(500, -1), axis=0))
    assert round(60_000 * HELD_OUT) == 5000
    other = replace(data, train_images=data.train_images[::-1])
    assert np.array_equal(split(other)[1][1], held_labels) and not np.array_equal(split(other)[1][0], held_images)


def test_what_is_held_out_is_never_trained_on():
    data = Dataset("ten", IMAGES, LABELS, IMAGES, LABELS)
    (images, labels), (_, held) = split(data)
    assert sorted([*labels, *held]) == LABELS.tolist() and len(held) == 1
    trained = [label for _, labels in epoch(Samples(images, labels, augment=0.0), 3) for label in labels]
    assert sorted(trained) == sorted(labels)


def test_one_training_image_cannot_be_split():
    data = Dataset("one", IMAGES[:1], LABELS[:1], IMAGES, LABELS)
    with pytest.raises(UserError, match="dataset 'one' must have at least 2 training images"):
        split(data)
