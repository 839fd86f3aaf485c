# SPDX-License-Identifier: Apache-2.0
"""Two small images, written by hand: every byte of them, and what it means.

docs/formats.md defines the format. A change of these bytes is a change of the format: it takes a new `IMAGE_VERSION`.
"""

import re
from dataclasses import asdict

import numpy as np
import pytest

from host.decoding.decode import decode
from host.image.image import parse_image
from host.network.layers import Geometry
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.integer_network import QuantizedLayer, QuantizedNetwork
from rtl.config import EngineConfig
from rtl.numbers import Activation
from tests.support.independent_reader import Reader

ENGINE = EngineConfig(pes=2, acc_bits=24, index_bits=(4,), entries_per_word=2, entry_depth=16, slice_word_bits=8,
                      slice_depth=4, act_depth=4, acc_depth=8, packet_bytes=64)
"""Two PEs. A slice word has the lengths of two columns, an entry word two entries of 8 bits, a bias two entry words."""

CONVOLUTION_ENGINE = EngineConfig(pes=2, acc_bits=24, index_bits=(2, 4), entries_per_word=2, entry_depth=16,
                                  slice_word_bits=8, slice_depth=4, act_depth=64, acc_depth=32, tap_bits=2,
                                  program_depth=32, packet_bytes=64)
"""Likewise; of an entry's index the lower two bits are in plane 0 and the upper two in plane 1."""


def codebook(*values):
    """Code 1 stands for the first value, code 2 for the second; no code stands for no weight."""
    return np.array([0, *values] + [0] * (15 - len(values)))


def layer(name, codes, values, bias, multiplier, pre_shift, *, activation, input_signed=False, geometry=None):
    return QuantizedLayer(name=name, codes=np.array(codes, np.uint8), codebook=codebook(*values), bias=np.array(bias),
                          multiplier=multiplier, pre_shift=pre_shift, activation=activation,
                          input_signed=input_signed, input_scale=1, weight_scale=1, output_scale=1, geometry=geometry)


NETWORK = QuantizedNetwork("two layers", (
    # Weights [[-3, 0], [0, 100], [2, 2]], then [[7, 0, -128]].
    layer("fc1", [[1, 0], [0, 3], [2, 2]], (-3, 2, 100), [5, -2, 0], 20000, 0, activation=Activation.RELU),
    layer("fc2", [[1, 0, 2]], (7, -128), [70000], 1000, 5, activation=Activation.IDENTITY)), 0.5, False, 8)
"""Two inputs, three neurons with a ReLU, one output."""

IMAGE = """
# Header
4e 5a 49 4d              # magic, the letters NZIM
04 00                    # version of the format
0a 00                    # 10 sections
71 c8 06 a6 68 f6 6e 66  # hash of the engine's configuration
d8 00 00 00              # 216 bytes in the engine part, to the end of its CRC-32
02 00                    # 2 passes
01 00                    # 1 activation word for an input
00 03 00 00              # no inference takes 768 cycles

# Section: program
00 00 00 00 16 00        # kind 0 (program), PE 0, from address 0 on, 22 words
04 00 20 4e              # pass 0: no convolution; ReLU (bit 2); unsigned input; pre_shift 0; multiplier 20000
00 00 01 00              # input from activation word 0 on, 1 word
01 00 01 00              # 1 input word may be read at once; output from activation word 1 on
02 00 00 00              # 2 output words; slices from word 0 on
00 00 01 00              # entries from word 0 on; biases from word 1 on
00 00 00 00 00 00 00 00  # no further planes
00 fd 02 64 00 00 00 00 00 00 00 00 00 00 00 00  # codebook: 0, -3, 2, 100
40 00 e8 03              # pass 1: no convolution; no ReLU; unsigned input; pre_shift 1 (bit 6: by 5); multiplier 1000
01 00 02 00              # input from activation word 1 on, 2 words
00 00 03 00              # no input word may be read before the drain writes it; output from activation word 3 on
01 00 01 00              # 1 output word; slices from word 1 on
05 00 06 00              # entries from word 5 on; biases from word 6 on
00 00 00 00 00 00 00 00  # no further planes
00 07 80 00 00 00 00 00 00 00 00 00 00 00 00 00  # codebook: 0, 7, -128

# Sections: slices
01 00 00 00 03 00        # kind 1 (slices), PE 0, from address 0 on, 3 words
11                       # fc1, columns 0 and 1: one entry each
11                       # fc2, columns 0 and 1: one entry each
00                       # fc2, columns 2 and 3: none
01 01 00 00 03 00        # kind 1 (slices), PE 1, from address 0 on, 3 words
11                       # fc1, columns 0 and 1: one entry each
00                       # fc2, columns 0 and 1: none
00                       # fc2, columns 2 and 3: none

# Sections: entries and biases of PE 0, which has outputs 0 and 1 of fc1 in its slots 0 and 1, and output 0 of fc2
02 00 00 00 01 00        # kind 2 (plane 0 of the entries), PE 0, from address 0 on, 1 word
10 31                    # fc1: column 0, slot 0 (index 0), code 1; column 1, slot 1 (index 1), code 3
02 00 01 00 04 00        # kind 2, PE 0, from address 1 on, 4 words
05 00 00 00              # fc1: bias of slot 0, 5
fe ff ff 00              # fc1: bias of slot 1, -2 in 24 bits
02 00 05 00 01 00        # kind 2, PE 0, from address 5 on, 1 word
10 20                    # fc2: column 0, slot 0, code 1; column 1, slot 0, code 2
02 00 06 00 02 00        # kind 2, PE 0, from address 6 on, 2 words
70 11 01 00              # fc2: bias of slot 0, 70000

# Sections: entries and biases of PE 1, which has output 2 of fc1 in its slot 0
02 01 00 00 01 00        # kind 2, PE 1, from address 0 on, 1 word
20 20                    # fc1: column 0, slot 0, code 2; column 1, slot 0, code 2
02 01 01 00 04 00        # kind 2, PE 1, from address 1 on, 4 words
00 00 00 00              # fc1: bias of slot 0, 0
00 00 00 00              # fc1: bias of slot 1, which has no output
02 01 06 00 02 00        # kind 2, PE 1, from address 6 on, 2 words
00 00 00 00              # fc2: bias of slot 0, which has no output
10 6a 5e 03              # CRC-32 of all bytes before it

# Host part
4e 5a 48 4f              # magic, the letters NZHO
e3 00 00 00              # 227 bytes of JSON
{"input_order":[0,1],    # lane 0 of the input word is input 0, lane 1 is input 1
"input_scale":0.5,       # an input is its activation times 0.5
"input_shape":[2],       # 2 inputs
"input_signed":false,    # and they are not negative
"layers":[
{"name":"fc1",
"output_base":1,         # first activation word of its outputs
"output_order":[0,2,1],  # output 1 is activation 2: lane 0 of the second word
"output_words":2},
{"name":"fc2",
"output_base":3,
"output_order":[0],
"output_words":1}]}
11 74 5b 7f              # CRC-32 of the host part
"""

CONVOLUTION = QuantizedNetwork("convolution", (
    # Kernels [[-3, 0], [0, 2]] and [[0, 100], [0, 0]].
    layer("conv", [[1, 0, 0, 2], [0, 3, 0, 0]], (-3, 2, 100), [5, -2], 20000, 0, activation=Activation.RELU,
          input_signed=True, geometry=Geometry((1, 3, 4), (2, 2), pool=2, pool_stride=1)),), 0.5, True, 8)
"""An image of 3 x 4 pixels, two channels of 2 x 3 sums, which a max pooling makes 1 x 2 outputs."""

CONVOLUTION_IMAGE = """
# Header
4e 5a 49 4d              # magic, the letters NZIM
04 00                    # version of the format
09 00                    # 9 sections
7c e2 55 2d 52 1a 9a 2a  # hash of the engine's configuration
d2 00 00 00              # 210 bytes in the engine part, to the end of its CRC-32
01 00                    # 1 pass
0c 00                    # 12 activation words for an input, one for each pixel
00 02 00 00              # no inference takes 512 cycles

# Section: program
00 00 00 00 1b 00        # kind 0 (program), PE 0, from address 0 on, 27 words
1d 00 20 4e              # kind 1 (convolution); ReLU; signed input; index_mode 1 (bit 4); pre_shift 0; multiplier 20000
00 00 0c 00              # input from activation word 0 on, 12 words
0c 00 0c 00              # 12 input words may be read at once; output from activation word 12 on
01 00 00 00              # 1 slot; slices from word 0 on
00 00 01 00              # entries from word 0 on; biases from word 1 on
00 00 00 00 00 00 00 00  # the words of plane 1 have the addresses of those of plane 0
92 00 01 00              # tap_bits 2; no hold_sums; pooling windows of 2, 1 apart; last_block 0; pixels of 1 word
01 00 04 00              # 1 word from pixel to pixel, 4 words from row to row
04 00 03 00              # scans 4 columns, 3 rows
00 00 00 00              # tap (0, 0) of the first pixel adds to column 0, row 0
03 00 02 00              # sums of 3 columns, 2 rows
00 00 03 00              # from accumulator 0 on, 3 accumulators from row to row
02 00 01 00              # outputs of 2 columns, 1 row
01 00 00 00              # 1 word for each output pixel; no lower band
00 fd 02 64 00 00 00 00 00 00 00 00 00 00 00 00  # codebook: 0, -3, 2, 100
00 00 01 00 00 00 00 00  # tap table: taps (0, 0) and (0, 1) lie 0 and 1 accumulators back
03 00 04 00 00 00 00 00  # taps (1, 0) and (1, 1) lie 3 and 4 back
00 00 00 00 00 00 00 00  # tap rows 2 and 3, which this kernel has not
00 00 00 00 00 00 00 00

# Sections: slices
01 00 00 00 01 00        # kind 1 (slices), PE 0, from address 0 on, 1 word
02                       # channel 0: two entries; lane 1 has no channel
01 01 00 00 01 00        # kind 1 (slices), PE 1, from address 0 on, 1 word
01                       # channel 0: one entry

# Sections: entries and biases of PE 0, which has output channel 0
02 00 00 00 01 00        # kind 2 (plane 0 of the entries), PE 0, from address 0 on, 1 word of 12 bits
44 02                    # index 0, code 1; index 1, code 2: 6 bits each, the code above the index
02 00 01 00 02 00        # kind 2, PE 0, from address 1 on, 2 words
05 00 00 00              # bias 5: its lower 12 bits, its upper 12 bits

# Sections: entries and biases of PE 1, which has output channel 1
02 01 00 00 01 00        # kind 2, PE 1, from address 0 on, 1 word
0d 00                    # index 1, code 3; the place behind it is empty
02 01 01 00 02 00        # kind 2, PE 1, from address 1 on, 2 words
fe 0f ff 0f              # bias -2

# Sections: upper bits of the indices
03 00 00 00 01 00        # kind 3 (plane 1 of the entries), PE 0, from address 0 on, 1 word of 4 bits
04                       # 0 and 1: the indices are 0, tap (0, 0), and 1 + 4 * 1, tap (1, 1)
03 01 00 00 01 00        # kind 3, PE 1, from address 0 on, 1 word
00                       # 0: the index is 1, tap (0, 1)
df 71 dd 8c              # CRC-32 of all bytes before it

# Host part
4e 5a 48 4f              # magic, the letters NZHO
26 01 00 00              # 294 bytes of JSON
{"input_order":[0,-1],   # lane 0 of an input word is channel 0, lane 1 is none
"input_scale":0.5,       # an input is its activation times 0.5
"input_shape":[1,3,4],   # 1 channel, 3 rows, 4 columns
"input_signed":true,
"layers":[
{"geometry":{"groups":1,"in_shape":[1,3,4],"kernel":[2,2],"padding":[0,0],"pool":2,"pool_stride":1,"stride":[1,1]},
"name":"conv",
"output_base":12,        # first activation word of its outputs
"output_order":[0,1],    # channel 0 is lane 0 of a pixel's word, channel 1 lane 1
"output_step":2,         # the next pixel begins 2 activations on
"output_words":2}]}
58 15 7a 01              # CRC-32 of the host part
"""

CASES = pytest.mark.parametrize("text, network, config", [
    (IMAGE, NETWORK, ENGINE), (CONVOLUTION_IMAGE, CONVOLUTION, CONVOLUTION_ENGINE)],
    ids=["fully connected", "convolution"])


def fields(text):
    """The bytes of each line: in hexadecimal, or, of the JSON, its characters. Behind # stands what they mean."""
    for line in text.splitlines():
        content = line.partition("#")[0].strip()
        if content:
            yield bytes.fromhex(content) if re.fullmatch("[0-9a-f]{2}( [0-9a-f]{2})*", content) else content.encode()


def cut(content, lengths):
    """Content in pieces of these lengths, and what is left of it."""
    ends = np.cumsum(lengths).tolist()
    return [content[begin:end] for begin, end in zip([0, *ends], [*ends, None], strict=True)]


@CASES
def test_a_network_is_packed_into_these_bytes(text, network, config):
    wanted = list(fields(text))
    assert cut(image_file(pack(network, config)), [len(field) for field in wanted]) == [*wanted, b""]


@CASES
def test_these_bytes_are_decoded_into_the_network(text, network, config):
    image = parse_image(b"".join(fields(text)), config)
    decoded = decode(image, config).network
    assert len(decoded.layers) == len(network.layers)
    for found, layer in zip(decoded.layers, network.layers, strict=True):
        assert np.array_equal(found.weights, layer.weights) and np.array_equal(found.bias, layer.bias)
        assert (found.multiplier, found.pre_shift, found.activation, found.input_signed, found.geometry) \
            == (layer.multiplier, layer.pre_shift, layer.activation, layer.input_signed, layer.geometry)
    assert (image.input_scale, image.input_signed) == (network.input_scale, network.input_signed)


@CASES
def test_a_reader_made_from_the_document_finds_the_network(text, network, config):
    reader = Reader(b"".join(fields(text)), asdict(config))
    assert len(reader.layers) == len(network.layers)
    for found, layer in zip(reader.layers, network.layers, strict=True):
        assert np.array_equal(found.weights, layer.weights) and np.array_equal(found.bias, layer.bias)
