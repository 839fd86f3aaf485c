# SPDX-License-Identifier: Apache-2.0
"""Requests of an inference: an input as bytes, and the packets that write it, run the engine and read its layers.

`host.device.device.Device` sends them. A program that has a link of its own can send them itself, in this order, and
take the answers with `host.device.answers.unpack`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from host.image.image import Image
from nonzero.errors import UserError
from rtl.config import EngineConfig
from rtl.protocol import Opcode, pack

__all__ = ["inference_packets", "input_content", "read_packets", "write_packets"]


def input_content(image: Image, acts: np.ndarray, config: EngineConfig) -> np.ndarray:
    """Input activations as bytes, in the order of the activation memory: uint8 ``[n, bytes]``.

    Parameters
    ----------
    image : Image
        The image that is loaded.
    acts : int64 array, shape ``[n, inputs]``
        Input activations (`host.quantization.integer_network.quantize_inputs`). An image without an input shape may
        be given more inputs than it reads.
    config : EngineConfig

    Raises
    ------
    UserError
        For activations of another shape.
    """
    if acts.ndim != 2 or acts.shape[1] < image.inputs or (image.input_shape and acts.shape[1] > image.inputs):
        raise UserError(f"input activations must be [n, {image.inputs}], as the network takes them, not "
                        f"{list(acts.shape)}")
    arranged = np.where(image.input_order >= 0, acts[:, image.input_order], 0)
    unsigned = (arranged & ((1 << config.act_bits) - 1)).astype(f"<u{config.act_bytes}")
    return np.ascontiguousarray(unsigned).view(np.uint8)


def write_packets(content: np.ndarray, config: EngineConfig) -> list[bytes]:
    """The WRITE packets of an input, each with as many whole words as a packet holds.

    Parameters
    ----------
    content : uint8 array, shape ``[bytes]``
        A row of `input_content`.
    config : EngineConfig
    """
    word_bytes = config.pes * config.act_bytes
    step = (config.packet_bytes - 2) // word_bytes * word_bytes
    return [pack(Opcode.WRITE.value,
                 (first // word_bytes).to_bytes(2, "little") + content[first:first + step].tobytes())
            for first in range(0, len(content), step)]


def read_packets(layer: Mapping[str, Any], config: EngineConfig) -> list[bytes]:
    """The READ packets of a layer's outputs, each for as many words as an answer holds.

    Parameters
    ----------
    layer : mapping
        An element of `Image.layers`; its ``output_base`` and ``output_words`` count.
    config : EngineConfig
    """
    base, words = layer["output_base"], layer["output_words"]
    step = (config.packet_bytes - 1) // (config.pes * config.act_bytes)
    return [pack(Opcode.READ.value, (base + first).to_bytes(2, "little")
                 + min(step, words - first).to_bytes(2, "little")) for first in range(0, words, step)]


def inference_packets(content: np.ndarray, layers: Sequence[Mapping[str, Any]], config: EngineConfig) -> list[bytes]:
    """The packets of a whole inference: WRITE, RUN, WAIT, and READ for each of the layers.

    Parameters
    ----------
    content : uint8 array, shape ``[bytes]``
        A row of `input_content`.
    layers : sequence of mapping
        Those of `Image.layers` that are read.
    config : EngineConfig
    """
    return [*write_packets(content, config), pack(Opcode.RUN.value), pack(Opcode.WAIT.value),
            *(packet for layer in layers for packet in read_packets(layer, config))]
