# SPDX-License-Identifier: Apache-2.0
"""Brings a dataset into the order in which the network of an image takes its values."""

from host.datasets import Dataset
from host.image.image import Image
from nonzero.errors import UserError

__all__ = ["fit_data"]


def fit_data(image: Image, dataset: Dataset) -> Dataset:
    """The images of ``dataset`` in the order in which the network of ``image`` takes them.

    Raises `UserError` for data of another shape.
    """
    known = image.input_shape is not None
    if dataset.input_count < image.inputs or (known and dataset.input_count > image.inputs):
        raise UserError(f"dataset '{dataset.name}' has {dataset.input_count} values for each image, the network "
                        f"needs {image.inputs}; give the data that it was compiled for")
    return dataset.fitted(image.input_shape)
