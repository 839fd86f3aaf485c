# SPDX-License-Identifier: Apache-2.0
"""Runs inputs on a device and, if it is to be verified, on its models."""

import time
from dataclasses import dataclass

import numpy as np

from host.cycle_model.predict import Prediction, predict
from host.decoding.decode import Decoded
from host.device.batch import Batch, run_batch
from host.device.device import Device
from host.device.target import Target
from host.quantization.golden_model import forward
from host.verification.adopt import adopt
from host.verification.compare import Comparison, compare

__all__ = ["Measured", "Models", "measure", "models"]


@dataclass(frozen=True)
class Models:
    """Results of the golden model and the cycle model for some inputs.

    Attributes
    ----------
    layers : list of int64 array, shape ``[n, rows]``
        Output activations of every layer, by the golden model.
    prediction : Prediction
        All counters, by the cycle model.
    """

    layers: list[np.ndarray]
    prediction: Prediction


@dataclass(frozen=True)
class Measured:
    """Results of a device, with those of the models if it was verified.

    Attributes
    ----------
    target : Target
        The device.
    batch : Batch
        Outputs, counters and times.
    seconds : float
        Wall-clock time of loading and of all inferences.
    models : Models, optional
        Results of golden model and cycle model.
    comparison : Comparison, optional
        Differences from the models.
    """

    target: Target
    batch: Batch
    seconds: float
    models: Models | None = None
    comparison: Comparison | None = None


def models(decoded: Decoded, acts: np.ndarray) -> Models:
    """Results of the golden model and of the cycle model for an image.

    Parameters
    ----------
    decoded : Decoded
        Content of the image.
    acts : int64 array, shape ``[n, inputs]``
        Input activations.
    """
    layers = forward(decoded.network, acts[:, :decoded.network.inputs])
    return Models(layers, predict(decoded, acts, layers))


def measure(decoded: Decoded, target: Target, acts: np.ndarray, expected: Models | None, *, seed: int = 1,
            baked: bool = False) -> Measured:
    """Runs an inference for each row of ``acts``.

    Parameters
    ----------
    decoded : Decoded
        The image, and the network that it holds.
    target : Target
        With its configuration.
    acts : int64 array, shape ``[n, inputs]``
    expected : Models or None
        Read every layer that can be read, and compare it and all counters with these; None: read the last layer alone.
    seed : int
        Decides what the memories of a simulation hold at the start.
    baked : bool
        The engine has loaded the image by itself.

    Raises
    ------
    UserError
        If the device cannot be built, does not answer, or refuses the image.
    """
    image, begin = decoded.image, time.perf_counter()
    batch = run_batch(target, image, acts, every_layer=expected is not None, seed=seed,
                      load=adopt if baked else Device.load)
    seconds = time.perf_counter() - begin
    if expected is None:
        return Measured(target, batch, seconds)
    found = compare([expected.layers[number] for number in image.readable], batch.outputs,
                    expected.prediction.counters, batch.counters, decoded.config.act_bits)
    return Measured(target, batch, seconds, expected, found)
