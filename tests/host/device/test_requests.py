# SPDX-License-Identifier: Apache-2.0
"""The bytes of an input, and the packets of an inference, one by one as docs/formats.md has them."""

from dataclasses import replace

import numpy as np
import pytest

from host.device.requests import inference_packets, input_content, read_packets, write_packets
from host.image.image import parse_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from nonzero.errors import UserError
from rtl.config import EngineConfig
from rtl.protocol import Opcode
from rtl.protocol import pack as packet
from tests.support.images import rebuilt
from tests.support.networks import SMALL, WIDE_ACTS, random_network

NARROW = replace(SMALL, pes=16, packet_bytes=64)
"""A word has 16 bytes: a packet writes three words, and an answer gives three."""


def image_of(config: EngineConfig, inputs: int) -> bytes:
    return image_file(pack(random_network(np.random.default_rng(5), config, [inputs, 8, 3], 0.4), config))


def test_inputs_are_put_in_the_order_of_the_activation_memory():
    image = replace(parse_image(image_of(SMALL, 6)), input_values=np.array([4, -1, 0, 5, 2, 1, 3, -1]))
    acts = np.array([[10, 11, 12, 13, 14, 255], [-1, 0, 0, 0, 0, -128]])
    assert input_content(image, acts, SMALL).tolist() == [[14, 0, 10, 255, 12, 11, 13, 0], [0, 0, 255, 128, 0, 0, 0, 0]]


def test_wide_activations_are_little_endian():
    image = replace(parse_image(image_of(WIDE_ACTS, 2)), input_values=np.array([1, 0]))
    assert input_content(image, np.array([[0x1234, -2]]), WIDE_ACTS).tolist() == [[0xFE, 0xFF, 0x34, 0x12]]


def test_inputs_have_the_length_that_the_network_takes():
    content = image_of(SMALL, 12)
    for shape in ((2, 784), (2, 11), (12,), (2, 3, 4)):
        with pytest.raises(UserError, match=r"input activations must be \[n, 12\], as the network takes them, not"):
            input_content(parse_image(content), np.zeros(shape, np.int64), SMALL)
    # An image that does not tell takes what has all inputs that it reads.
    older = parse_image(rebuilt(content, lambda fields: fields.pop("input_shape")))
    assert len(input_content(older, np.zeros((2, 784), np.int64), SMALL)) == 2


def test_packets_carry_whole_words():
    content = np.arange(5 * 16, dtype=np.uint8)
    assert write_packets(content, NARROW) == [packet(Opcode.WRITE.value, bytes([0, 0, *range(48)])),
                                              packet(Opcode.WRITE.value, bytes([3, 0, *range(48, 80)]))]
    assert read_packets({"output_base": 254, "output_words": 7}, NARROW) == [
        packet(Opcode.READ.value, bytes([254, 0, 3, 0])), packet(Opcode.READ.value, bytes([1, 1, 3, 0])),
        packet(Opcode.READ.value, bytes([4, 1, 1, 0]))]


def test_an_inference_is_written_run_awaited_and_read():
    content = np.arange(16, dtype=np.uint8)
    layers = [{"output_base": 5, "output_words": 1}, {"output_base": 9, "output_words": 4}]
    assert inference_packets(content, layers, NARROW) == [
        packet(Opcode.WRITE.value, bytes([0, 0, *range(16)])), packet(Opcode.RUN.value), packet(Opcode.WAIT.value),
        packet(Opcode.READ.value, bytes([5, 0, 1, 0])), packet(Opcode.READ.value, bytes([9, 0, 3, 0])),
        packet(Opcode.READ.value, bytes([12, 0, 1, 0]))]
