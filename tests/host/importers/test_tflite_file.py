# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Lite: what is read computes what the file says, and every other file is refused."""

import random

import numpy as np
import pytest
import torch
from torch.nn import functional

from host.importers.load_network import load_network
from host.training.forward import logits, tensors
from nonzero.errors import UserError
from tests.support.model_files import refusal
from tests.support.tflite_models import LiteModel

SAME, VALID, NONE, RELU, SIGN_BIT = 0, 1, 0, 1, 5
CONV = {"StrideH": 2, "StrideW": 2, "DilationHFactor": 1, "DilationWFactor": 1}
POOL = {"StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2, "Padding": VALID}


def write(tmp_path, model, inputs, outputs):
    """The file of a model."""
    path = tmp_path / "model.tflite"
    path.write_bytes(model.finish(inputs, outputs))
    return path


def float_chain(rng):
    """A convolution that pads 0 and 1, a depthwise one, a pooling, a flattened map into a linear layer, a softmax."""
    first, depth, last = (rng.normal(size=shape).astype(np.float32) for shape in
                          ((4, 3, 3, 2), (1, 3, 3, 4), (3, 2 * 2 * 4)))
    bias = rng.normal(size=4).astype(np.float32)
    model = LiteModel()
    image, weight, offset = model.tensor((1, 8, 8, 2)), model.tensor(first.shape, first), model.tensor((4,), bias)
    maps = model.tensor((1, 4, 4, 4))
    model.node("CONV_2D", [image, weight, offset], [maps], "Conv2DOptions", Padding=SAME,
               FusedActivationFunction=RELU, **CONV)
    depths = model.tensor((1, 4, 4, 4))
    model.node("DEPTHWISE_CONV_2D", [maps, model.tensor(depth.shape, depth), -1], [depths], "DepthwiseConv2DOptions",
               Padding=SAME, FusedActivationFunction=NONE, DepthMultiplier=1, **CONV | {"StrideH": 1, "StrideW": 1})
    pooled, flat = model.tensor((1, 2, 2, 4)), model.tensor((1, 16))
    model.node("MAX_POOL_2D", [depths], [pooled], "Pool2DOptions", FusedActivationFunction=RELU, **POOL)
    model.node("RESHAPE", [pooled, model.tensor((2,), [1, 16], "int32")], [flat], "ReshapeOptions")
    logit, out = model.tensor((1, 3)), model.tensor((1, 3))
    model.node("FULLY_CONNECTED", [flat, model.tensor(last.shape, last)], [logit], "FullyConnectedOptions")
    model.node("SOFTMAX", [logit], [out], "SoftmaxOptions")

    def computed(images):
        kernels = torch.from_numpy(first).permute(0, 3, 1, 2), torch.from_numpy(depth).permute(3, 0, 1, 2)
        acts = functional.conv2d(functional.pad(images, (0, 1, 0, 1)), kernels[0], torch.from_numpy(bias), 2).relu()
        acts = functional.max_pool2d(functional.conv2d(acts, kernels[1], padding=1, groups=4), 2).relu()
        return acts.permute(0, 2, 3, 1).flatten(1) @ torch.from_numpy(last).T
    return model, image, out, computed


def test_floats(tmp_path):
    model, image, out, computed = float_chain(np.random.default_rng(0))
    network = load_network(write(tmp_path, model, [image], [out]))
    images = torch.rand(5, 2, 8, 8) - 0.3
    assert torch.allclose(logits(tensors(network), images.flatten(1)), computed(images), atol=1e-5)
    assert network.input_shape == (2, 8, 8) and network.assumptions == ()
    assert network.layers[0].geometry.pads == ((0, 1), (0, 1))


def integer_chain():
    """A linear layer with a scale for each output, a bias in 32 bits, and integers between the layers."""
    model = LiteModel()
    given = model.tensor((1, 3), dtype="int8", scales=[0.5], zero_points=[-7])
    weight = model.tensor((2, 3), [[1, -2, 3], [4, 0, -128]], "int8", [0.25, 2.0], [0, 0], 0)
    bias = model.tensor((2,), [10, -3], "int32", [0.125, 1.0], [0, 0], 0)
    out = model.tensor((1, 2), dtype="int8", scales=[1.0], zero_points=[0])
    model.node("FULLY_CONNECTED", [given, weight, bias], [out], "FullyConnectedOptions")
    return model, given, out


def test_integers_are_the_floats_that_they_stand_for(tmp_path):
    model, given, out = integer_chain()
    network = load_network(write(tmp_path, model, [given], [out]))
    np.testing.assert_array_equal(network.layers[0].weight, [[0.25, -0.5, 0.75], [8, 0, -256]])
    np.testing.assert_array_equal(network.layers[0].bias, [1.25, -3])
    assert network.assumptions == (
        ("the input 't0' is int8 in the file; here it is the float that it stands for: give data as floats, "
        "(integer - -7) * 0.5"),
        ("weights that are integers in the file are read as the floats that they stand for, and quantised again by "
         "this tool"))


def one_node(kind, shape, after, options="", constants=(), **values):
    """A model of one node behind a convolution, or a linear layer for vectors."""
    model = LiteModel()
    given = model.tensor(shape)
    out = model.tensor(after)
    model.node(kind, [given, *(model.tensor(np.shape(one), one, dtype) for one, dtype in constants)], [out], options,
               **values)
    return model, given, out


CONVOLVED = (np.ones((2, 3, 3, 1)), "float32")


@pytest.mark.parametrize(("parts", "problem"), [
    (one_node("CONV_2D", (1, 6, 6, 1), (1, 3, 3, 2), "Conv2DOptions", [CONVOLVED], FusedActivationFunction=SIGN_BIT,
              Padding=SAME, **CONV),
     "layer 't1' has the activation SIGN_BIT, which the engine does not run; train with ReLU"),
    (one_node("CONV_2D", (1, 6, 6, 1), (1, 3, 3, 2), "Conv2DOptions", [CONVOLVED], Padding=SAME,
              **CONV | {"DilationHFactor": 9}),
     ("layer 't1' has a dilation of 9 x 1, with which its kernel of 3 x 3 covers more than 11 rows or columns, or "
      "none; retrain with a smaller one")),
    (one_node("ABS", (1, 4), (1, 4)),
     "layer 't1' is the operation ABS, which the engine does not run; see the supported layers in the README"),
    (one_node("RESHAPE", (1, 4, 4, 3), (1, 16, 3), "", [([1, 16, 3], "int32")]),
     ("layer 't1' is a reshape of [1, 4, 4, 3] to [1, 16, 3]; only all axes behind the batch's may become one, one "
     "axis a map, or rows and columns others, of the same channels")),
    (one_node("TRANSPOSE", (1, 4, 4, 3), (1, 4, 4, 3), "", [([3, 1, 2, 0], "int32")]),
     ("layer 't1' is a transpose by [3, 1, 2, 0], which moves values into the batch axis, or out of it; use "
      "torch.nn.Flatten(), which leaves it as it is")),
    (one_node("TRANSPOSE", (1, 4, 3), (1, 3, 4), "", [([0, 2, 1], "int32")]),
     ("layer 't1' is a transpose of other than four axes, or by an order that is computed; convert it with a fixed "
      "one")),
    (one_node("RESIZE_NEAREST_NEIGHBOR", (1, 4, 4, 3), (1, 8, 8, 3), "ResizeNearestNeighborOptions",
              [([8, 8], "int32")], AlignCorners=True),
     "layer 't1' is a resize with align_corners; convert it without, as UpSampling2D is"),
    (one_node("RESIZE_NEAREST_NEIGHBOR", (1, 4, 4, 3), (1, 7, 8, 3), "ResizeNearestNeighborOptions",
              [([7, 8], "int32")]),
     ("layer 't1' makes 7 x 8 values of 4 x 4; only upsampling by whole factors runs: use scale_factor=2 or the "
      "like")),
    (one_node("PAD", (1, 4, 4, 2), (1, 4, 4, 3), "", [([[0, 0], [0, 0], [0, 0], [0, 1]], "int32")]),
     "layer 't1' pads by [(0, 0), (0, 0), (0, 0), (0, 1)]; only zeros around rows and columns are supported"),
    (one_node("MEAN", (1, 4, 4, 2), (1, 4, 4), "ReducerOptions", [([3], "int32")]),
     "layer 't1' is a mean over other axes than rows and columns; use GlobalAveragePooling2D"),
    (one_node("FULLY_CONNECTED", (1, 4, 3), (1, 4, 2), "FullyConnectedOptions", [(np.ones((2, 3)), "float32")],
              KeepNumDims=True),
     "layer 't1' works on the last of 3 axes; put a Flatten before it, and train it on all values of an input"),
])
def test_what_cannot_run_is_refused(tmp_path, parts, problem):
    model, given, out = parts
    assert refusal(write(tmp_path, model, [given], [out])).split("\n")[0] == problem


def test_several_inputs_and_graphs_without_nodes_are_refused(tmp_path):
    model, given, out = integer_chain()
    other = model.tensor((1, 3))
    assert refusal(write(tmp_path, model, [given, other], [out])) == \
        "it takes 2 inputs, not one; convert a model that takes one tensor"
    model = LiteModel()
    given = model.tensor((1, 3))
    assert refusal(write(tmp_path, model, [given], [given])).startswith("it has 0 nodes, but 1 to 10,000 are read; ")


def test_weights_that_do_not_fit_their_bytes_are_refused(tmp_path):
    model = LiteModel()
    given, weight, out = model.tensor((1, 3)), model.tensor((4, 3), np.ones((2, 3))), model.tensor((1, 4))
    model.node("FULLY_CONNECTED", [given, weight], [out], "FullyConnectedOptions")
    assert refusal(write(tmp_path, model, [given], [out])).startswith(
        "layer 't2': its weight claims the shape [4, 3] of float32, but the file holds 24 bytes for it")


def test_damaged_files_are_refused(tmp_path):
    """Offsets that lead anywhere, counts without an end: refused in one line, or read as another sound network."""
    model, image, out, _ = float_chain(np.random.default_rng(0))
    whole = model.finish([image], [out])
    path, draw = tmp_path / "model.tflite", random.Random(0)
    refused = 0
    for number in range(300):
        content = bytearray(whole)
        if number % 3 == 0:
            content = content[:draw.randrange(8, len(content))]
        for _ in range(draw.randint(1, 8) if number % 3 else 0):
            place = draw.randrange(8, len(content) - 4)
            content[place:place + 4] = draw.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0",
                                                    draw.randbytes(4)])
        path.write_bytes(content)
        try:
            load_network(path)
        except UserError as error:
            assert all("\n" not in problem for problem in error.problems)
            refused += 1
    assert refused > 100
    path.write_bytes(b"\0" * 4 + b"TFL2" + whole[8:])
    assert refusal(path).startswith("it is no TensorFlow Lite file: bytes 4 to 7 are b'TFL2', not b'TFL3'; convert ")
