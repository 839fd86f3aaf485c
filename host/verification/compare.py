# SPDX-License-Identifier: Apache-2.0
"""Compares what an engine gave with the golden model and the cycle model."""

from dataclasses import dataclass

import numpy as np

from rtl.protocol import COUNTERS

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """The engine's results compared with the expected ones.

    Attributes
    ----------
    images, layers : int
        Numbers of images and of layers that were compared.
    mismatches : int
        Images of which any output of any layer that can be read differs.
    counter_mismatches : dict
        For each counter, the images of which it differs from the prediction.
    mean_counters : dict
        Mean of each counter over the images.
    """

    images: int
    layers: int
    mismatches: int
    counter_mismatches: dict[str, int]
    mean_counters: dict[str, float]

    @property
    def differs(self) -> bool:
        """Whether any output or counter is not as expected."""
        return self.mismatches > 0 or any(self.counter_mismatches.values())


def compare(golden: list[np.ndarray], outputs: list[np.ndarray], predicted: dict[str, np.ndarray],
            counters: dict[str, np.ndarray], act_bits: int) -> Comparison:
    """Compares every output of every layer, and every counter, of every image.

    Parameters
    ----------
    golden : list of int64 array, shape ``[images, outputs]``
        Activations of each layer, from the golden model.
    outputs : list of int64 array, shape ``[images, outputs]``
        Activations of each layer, from the engine: the low ``act_bits`` bits of each, unsigned.
    predicted, counters : dict of array, shape ``[images]``
        Every counter of `rtl.protocol.COUNTERS`, from the cycle model and from the engine.
    act_bits : int
        Width of an activation.

    Raises
    ------
    ValueError
        If there is not one row for every image.
    """
    images = len(golden[0])
    if any(len(one) != images for one in (*golden, *outputs, *predicted.values(), *counters.values())):
        raise ValueError("every image must have been run, predicted and counted")
    wrong = np.zeros(images, bool)
    for expected, got in zip(golden, outputs, strict=True):
        wrong |= ((expected & ((1 << act_bits) - 1)) != got).any(axis=1)
    return Comparison(images, len(golden), int(wrong.sum()),
                      {name: int((counters[name] != predicted[name]).sum()) for name in COUNTERS},
                      {name: float(counters[name].mean()) for name in COUNTERS})
