# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Lite files that give values other axes or make maps larger: read as what TensorFlow documents."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from host.importers.load_network import load_network
from host.training.forward import logits, tensors
from tests.host.importers.test_tflite_file import write
from tests.support.model_files import problems
from tests.support.tflite_models import LiteModel

SAME, VALID = 0, 1
CONV = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1, "Padding": SAME}


class Chain:
    """A file in the making; each step takes what the one before gives. Values have channels last."""

    def __init__(self, shape, seed=0):
        self.rng, self.model = np.random.default_rng(seed), LiteModel()
        self.first = self.at = self.model.tensor(shape)

    def constant(self, *shape):
        return self.rng.normal(size=shape).astype(np.float32)

    def conv(self, weight, shape):
        """A convolution with the weight ``[outputs, rows, columns, inputs]`` and a ReLU."""
        return self.step("CONV_2D", shape, [weight], "Conv2DOptions", FusedActivationFunction=1, **CONV)

    def linear(self, weight, shape):
        return self.step("FULLY_CONNECTED", shape, [weight], "FullyConnectedOptions", FusedActivationFunction=1)

    def step(self, kind, shape, constants=(), options="", first=(), **values):
        out = self.model.tensor(shape)
        stored = [[self.model.tensor(np.shape(one), one, "float32" if isinstance(one, np.ndarray) else "int32")
                   for one in group] for group in (first, constants)]
        if kind == "TRANSPOSE_CONV":
            inputs = [*stored[0], stored[1][0], self.at, *stored[1][1:]]
        else:
            inputs = [*stored[0], self.at, *stored[1]]
        self.model.node(kind, inputs, [out], options, **values)
        self.at = out
        return self

    def check(self, tmp_path, computed):
        """Compares with a function of inputs with channels first, which gives values with channels first."""
        network = load_network(write(tmp_path, self.model, [self.first], [self.at]))
        inputs = torch.rand(4, *(network.input_axes or (network.inputs,)))
        expected = computed(inputs).flatten(1)
        assert torch.allclose(logits(tensors(network), inputs.flatten(1)), expected, atol=1e-4)
        return network


def two_maps(chain):
    """The maps that two convolutions make of the input, of 3 and 2 channels, and their weights."""
    made = []
    for channels in (3, 2):
        chain.at, weight = chain.first, chain.constant(channels, 3, 3, 2)
        chain.conv(weight, (1, 3, 4, channels))
        made.append((chain.at, kernel(weight)))
    return made


def flat(chain, at, values):
    chain.at = at
    return chain.step("RESHAPE", (1, values), [[1, values]]).at


def test_flattened_maps_are_joined_with_each_other_and_with_vectors(tmp_path):
    chain = Chain((1, 3, 4, 2))
    (one, first), (two, second) = two_maps(chain)
    dense, last = chain.constant(5, 36), chain.constant(4, 65)
    one, two = flat(chain, one, 36), flat(chain, two, 24)
    chain.at = one
    three = chain.linear(dense, (1, 5)).at
    joined = chain.model.tensor((1, 65))
    chain.model.node("CONCATENATION", [one, two, three], [joined], "ConcatenationOptions", Axis=-1)
    chain.at = joined
    chain.linear(last, (1, 4))

    def computed(inputs):
        maps = [functional.conv2d(inputs, weight, padding=1).relu().permute(0, 2, 3, 1).flatten(1)
                for weight in (first, second)]
        return (torch.cat([*maps, (maps[0] @ torch.from_numpy(dense).T).relu()], 1) @ torch.from_numpy(last).T).relu()
    chain.check(tmp_path, computed)


def test_a_flattened_map_and_a_vector_are_not_added(tmp_path):
    """The vector's values have another order: rows, columns and channels."""
    chain = Chain((1, 3, 4, 2))
    (one, _), _ = two_maps(chain)
    flattened = flat(chain, one, 36)
    vector, added = chain.linear(chain.constant(36, 36), (1, 36)).at, chain.model.tensor((1, 36))
    chain.model.node("ADD", [flattened, vector], [added], "AddOptions")
    path = write(tmp_path, chain.model, [chain.first], [added])
    assert any("adds values of a flattened map to others; add before it is flattened" in one for one in problems(path))


def kernel(weight):
    """``[outputs, rows, columns, inputs]`` in torch's order."""
    return torch.from_numpy(weight).permute(0, 3, 1, 2)


def as_map(flat, rows, cols):
    """Vectors in the order row, column, channel as maps with channels first."""
    return flat.unflatten(1, (rows, cols, -1)).permute(0, 3, 1, 2)


def test_a_vector_becomes_a_map(tmp_path):
    chain = Chain((1, 5))
    matrix, weight = chain.constant(2 * 3 * 4, 5), chain.constant(2, 3, 3, 4)
    chain.linear(matrix, (1, 24)).step("RESHAPE", (1, 2, 3, 4), [[1, 2, 3, 4]]).conv(weight, (1, 2, 3, 2))
    network = chain.check(tmp_path, lambda x: functional.conv2d(
        as_map((x @ torch.from_numpy(matrix).T).relu(), 2, 3), kernel(weight), padding=1).relu())
    assert [layer.out_map for layer in network.layers] == [(4, 2, 3), None]


def test_a_flattened_map_becomes_a_map_again(tmp_path):
    chain = Chain((1, 2, 3, 2))
    first, last = chain.constant(4, 3, 3, 2), chain.constant(2, 3, 3, 4)
    chain.conv(first, (1, 2, 3, 4)).step("RESHAPE", (1, 24), [[1, 24]]).step("RESHAPE", (1, 2, 3, 4), [[1, 2, 3, 4]])
    chain.step("RESHAPE", (1, 3, 2, 4), [[1, 3, 2, 4]]).conv(last, (1, 3, 2, 2))
    network = chain.check(tmp_path, lambda x: functional.conv2d(functional.conv2d(
        x, kernel(first), padding=1).relu().reshape(-1, 4, 3, 2), kernel(last), padding=1).relu())
    assert len(network.layers) == 2


def test_nearest_upsampling_and_a_transpose(tmp_path):
    chain = Chain((1, 2, 3, 2))
    first, last = chain.constant(4, 3, 3, 2), chain.constant(2, 3, 3, 4)
    chain.conv(first, (1, 2, 3, 4)).step("RESIZE_NEAREST_NEIGHBOR", (1, 4, 9, 4), [[4, 9]],
                                         "ResizeNearestNeighborOptions", HalfPixelCenters=True)
    chain.step("TRANSPOSE", (1, 9, 4, 4), [[0, 2, 1, 3]]).conv(last, (1, 9, 4, 2))
    chain.check(tmp_path, lambda x: functional.conv2d(functional.interpolate(functional.conv2d(
        x, kernel(first), padding=1).relu(), scale_factor=(2, 3)).transpose(2, 3), kernel(last), padding=1).relu())


def test_a_transpose_of_channels(tmp_path):
    chain = Chain((1, 2, 3, 2))
    first = chain.constant(4, 3, 3, 2)
    chain.conv(first, (1, 2, 3, 4)).step("TRANSPOSE", (1, 4, 2, 3), [[0, 3, 1, 2]])
    # As a map with channels last: rows are the channels, columns the rows.
    chain.check(tmp_path, lambda x: functional.conv2d(x, kernel(first), padding=1).relu().permute(0, 3, 1, 2))


@pytest.mark.parametrize(("padding", "edge", "step", "out"), [
    (SAME, 3, 2, 8), (SAME, 3, 2, 7), (SAME, 4, 2, 8), (SAME, 2, 3, 12), (VALID, 3, 2, 9), (VALID, 2, 3, 12)])
def test_transposed_convolutions(tmp_path, padding, edge, step, out):
    """TensorFlow defines it as the gradient of a convolution of the output's size."""
    chain = Chain((1, 4, 4, 2))
    weight, bias = chain.constant(3, edge, edge, 2), chain.constant(3)
    chain.step("TRANSPOSE_CONV", (1, out, out, 3), [weight, bias], "TransposeConvOptions", first=[[1, out, out, 3]],
               Padding=padding, StrideH=step, StrideW=step)

    def computed(inputs):
        total = max(0, 3 * step + edge - out) if padding == SAME else 0
        image = torch.zeros(len(inputs), 3, out, out, requires_grad=True)
        padded = functional.pad(image, (total // 2, total - total // 2) * 2)
        # Weights of the convolution whose gradient this is: its outputs are the inputs here.
        forward = functional.conv2d(padded, torch.from_numpy(weight).permute(3, 0, 1, 2), stride=step)
        gradient, = torch.autograd.grad(forward, image, inputs)
        return gradient + torch.from_numpy(bias)[:, None, None]
    chain.check(tmp_path, computed)


@pytest.mark.parametrize("kind", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
def test_poolings_that_pad(tmp_path, kind):
    chain = Chain((1, 5, 6, 2))
    weight = chain.constant(3, 3, 3, 2)
    chain.conv(weight, (1, 5, 6, 3)).step(kind, (1, 3, 3, 3), (), "Pool2DOptions", FilterHeight=2, FilterWidth=2,
                                          StrideH=2, StrideW=2, Padding=SAME)

    def computed(inputs):
        values = functional.pad(functional.conv2d(inputs, kernel(weight), padding=1).relu(), (0, 0, 0, 1))
        if kind == "MAX_POOL_2D":
            return functional.max_pool2d(values, 2)
        return functional.avg_pool2d(values, 2) * torch.tensor([1, 1, 2])[:, None]
    chain.check(tmp_path, computed)


def test_zeros_before_a_pooling(tmp_path):
    chain = Chain((1, 5, 6, 2))
    weight = chain.constant(3, 3, 3, 2)
    chain.conv(weight, (1, 5, 6, 3)).step("PAD", (1, 6, 8, 3), [[[0, 0], [1, 0], [1, 1], [0, 0]]])
    chain.step("MAX_POOL_2D", (1, 3, 4, 3), (), "Pool2DOptions", FilterHeight=2, FilterWidth=2, StrideH=2, StrideW=2,
               Padding=VALID)
    chain.check(tmp_path, lambda x: functional.max_pool2d(functional.pad(functional.conv2d(
        x, kernel(weight), padding=1).relu(), (1, 1, 1, 0)), 2))


@pytest.mark.parametrize("keeps", [False, True])
def test_a_mean_and_axes_of_one_value(tmp_path, keeps):
    chain = Chain((1, 5, 6, 2))
    weight, matrix = chain.constant(3, 3, 3, 2), chain.constant(4, 3)
    chain.conv(weight, (1, 5, 6, 3)).step("MEAN", (1, 1, 1, 3) if keeps else (1, 3), [[1, 2]], "ReducerOptions",
                                          KeepDims=keeps)
    if keeps:
        chain.step("SQUEEZE", (1, 3))
    else:
        chain.step("RESHAPE", (1, 1, 1, 3), [[1, 1, 1, 3]]).step("RESHAPE", (1, 3), [[1, 3]])
    chain.linear(matrix, (1, 4))
    chain.check(tmp_path, lambda x: (functional.conv2d(x, kernel(weight), padding=1).relu().mean((2, 3))
                                     @ torch.from_numpy(matrix).T).relu())
