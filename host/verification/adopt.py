# SPDX-License-Identifier: Apache-2.0
"""Adopts an image that an engine has loaded itself at start (``rtl.build --bake``)."""

from pathlib import Path

import numpy as np

from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.device.device import Device
from host.device.device_error import DeviceError
from host.image.image import Image, read_image
from host.quantization.golden_model import forward
from rtl.protocol import COUNTERS, Status

__all__ = ["adopt"]

ADOPTION_INPUTS = 4
"""Inputs by which an image is recognised."""


def adopt(device: Device, image: Image | Path | str) -> None:
    """Makes an image the device's image without loading it, if the engine has loaded it by itself.

    It is recognised by what it computes: outputs and all counters of fixed inputs must be those of its models.

    Parameters
    ----------
    device : Device
    image : Image, Path or str
        The image, or its file.

    Raises
    ------
    DeviceError
        If the engine has no image, or another one (NOT_LOADED), or does not answer.
    UserError
        If the file is damaged.
    """
    image = image if isinstance(image, Image) else read_image(Path(image), device.config)
    device.assume(image)
    if not _is_loaded(device, image):
        device.assume(None)
        raise DeviceError("the engine has loaded another image at power-up", Status.NOT_LOADED)


def _is_loaded(device: Device, image: Image) -> bool:
    decoded = decode(image, device.config)
    network = decoded.network
    rng = np.random.default_rng(0)
    acts = rng.integers(0, 1 << network.act_bits - network.input_signed, (ADOPTION_INPUTS, image.inputs))
    acts *= rng.random(acts.shape) < 0.5
    golden = forward(network, acts[:, :network.inputs])
    predicted = predict(decoded, acts, golden).counters
    inferences = list(device.inferences(acts))
    bits = golden[-1] & ((1 << network.act_bits) - 1)
    return all((one.layers[-1] == expected).all() for one, expected in zip(inferences, bits, strict=True)) and all(
        [one.counters[name] for one in inferences] == predicted[name].tolist() for name in COUNTERS)
