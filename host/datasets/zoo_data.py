# SPDX-License-Identifier: Apache-2.0
"""Data for the networks of the zoo."""

from torch import nn

from host.datasets.dataset import Dataset
from host.network.zoo import learns_targets, sizes

__all__ = ["fitted"]


def fitted(model: nn.Module, dataset: Dataset) -> Dataset:
    """The dataset with its values in the order in which a network of the zoo takes them.

    Parameters
    ----------
    model : nn.Module
        A network of `build`.
    dataset : Dataset

    Raises
    ------
    UserError
        For data of another shape, with targets where classes are learnt or the reverse, or with more classes than the
        network has outputs.
    """
    if learns_targets(model):
        dataset.require_targets("this network of the zoo")
    else:
        dataset.require_classes("a network of the zoo")
    dataset.require(*sizes(model))
    return dataset.fitted(model.input_shape)  # type: ignore[arg-type]
