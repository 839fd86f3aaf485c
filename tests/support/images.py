# SPDX-License-Identifier: Apache-2.0
"""Images whose contents are changed and whose checksums are right, and an engine that makes no mistakes."""

import json
import zlib

import numpy as np
import pytest

from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.device.batch import Batch
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from nonzero.errors import UserError
from tests.support.networks import CONVOLUTIONS, LENET, random_convolutions


def with_crc(part):
    """The bytes with their CRC-32 behind them."""
    return part + zlib.crc32(part).to_bytes(4, "little")


def rebuilt(content, change=None, engine_change=None):
    """An image's file with other contents and right checksums.

    Parameters
    ----------
    content : bytes
    change : callable, optional
        Changes the fields of the host part in place.
    engine_change : dict, optional
        Other bytes of the engine part, by their places.
    """
    length = len(parse_image(content).engine)
    engine, fields = bytearray(content[:length - 4]), json.loads(content[length + 8:-4])
    if change is not None:
        change(fields)
    for place, value in (engine_change or {}).items():
        engine[place] = value
    host = json.dumps(fields).encode()
    return with_crc(bytes(engine)) + with_crc(b"NZHO" + len(host).to_bytes(4, "little") + host)


def assert_layer_refused(change, number=0):
    """An image of convolutions is decoded as it is, and refused once what its host part says of a layer is changed."""
    network = random_convolutions(np.random.default_rng(7), CONVOLUTIONS, LENET, [4], 0.5)
    content = image_file(pack(network, CONVOLUTIONS))
    decode(parse_image(rebuilt(content), CONVOLUTIONS), CONVOLUTIONS)
    with pytest.raises(UserError, match=r"contradict each other|lacks or misstates"):
        decode(parse_image(rebuilt(content, lambda fields: change(fields["layers"][number]))), CONVOLUTIONS)


def perfect_batch(target, image, acts, **_):
    """Results of an engine without faults, in the place of `host.device.batch.run_batch`."""
    decoded = decode(image, target.config)
    golden = forward(decoded.network, acts[:, :decoded.network.inputs])
    return Batch([golden[number] & 0xFF for number in image.readable], predict(decoded, acts, golden).counters,
                 np.full(len(acts), np.nan))
