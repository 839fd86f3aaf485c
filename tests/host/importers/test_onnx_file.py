# SPDX-License-Identifier: Apache-2.0
"""ONNX files: tensors beside the file, biases, sizes that the file leaves open."""

import os

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from host.importers.load_network import load_network
from tests.support.model_files import check, onnx_file, problems


def test_a_chain_of_computed_weights_ends(tmp_path):
    """A thousand transpositions would nest as many calls."""
    nodes = [helper.make_node("Transpose", [f"w{number}"], [f"w{number + 1}"]) for number in range(1000)]
    path = onnx_file(tmp_path, [*nodes, helper.make_node("MatMul", ["in", "w1000"], ["out"])],
                     {"w0": np.eye(6, dtype=np.float32)})
    assert "is computed in a way that is not known here" in problems(path)[0]


MATRIX = np.arange(24, dtype=np.float32).reshape(4, 6)


def beside(directory, **entries):
    """A model whose matrix lies in weights.data, behind eight other bytes."""
    (directory / "weights.data").write_bytes(b"8 others" + MATRIX.tobytes() + b"more")
    matrix = TensorProto(name="m", dims=MATRIX.shape, data_type=TensorProto.FLOAT,
                         data_location=TensorProto.EXTERNAL)
    for key, value in ({"location": "weights.data", "offset": "8", "length": str(MATRIX.nbytes)} | entries).items():
        if value is not None:
            matrix.external_data.add(key=key, value=value)
    return onnx_file(directory, [helper.make_node("Gemm", ["in", "m"], ["out"], transB=1)], {"m": matrix})


def test_tensors_beside_the_file_are_read(tmp_path):
    for entries in ({}, {"length": None}, {"checksum": "0" * 40}):
        np.testing.assert_array_equal(load_network(beside(tmp_path, **entries)).layers[0].weight, MATRIX)


def link(directory):
    os.rename(directory / "weights.data", directory / "elsewhere")
    os.symlink(directory / "elsewhere", directory / "weights.data")


def pipe(directory):
    os.remove(directory / "weights.data")
    os.mkfifo(directory / "weights.data")


@pytest.mark.parametrize(("entries", "change", "text"), [
    ({"location": "/etc/passwd"}, None, "is said to lie in '/etc/passwd', but only a file beside the model"),
    ({"location": "../weights.data"}, None, "is said to lie in '../weights.data', but only a file beside"),
    ({"location": "a/weights.data"}, None, "is said to lie in"), ({"location": ".."}, None, "is said to lie in"),
    ({"location": "."}, None, "is said to lie in"), ({"location": ""}, None, "is said to lie in"),
    ({"location": None}, None, "is said to lie in"), ({"location": "a\0b"}, None, "is said to lie in"),
    ({"location": "a" * 300}, None, "is said to lie in"),
    ({"offset": "-8"}, None, "garbled place"), ({"offset": "1" * 30}, None, "garbled place"),
    ({"offset": "\u0663"}, None, "garbled place"), ({"length": "x"}, None, "garbled place"),
    ({"length": "95"}, None, "has 95 bytes in 'weights.data', but its shape [4, 6] takes 96"),
    ({"offset": "16"}, None, "which has 108 bytes, but 112 are needed"),
    ({}, lambda directory: os.remove(directory / "weights.data"), "which is not beside the model; copy it there, or"),
    ({}, link, "which cannot be opened: it is a link; copy the file itself there"),
    ({}, pipe, "which is not a plain file with this name alone"),
    ({}, lambda directory: os.link(directory / "weights.data", directory / "second"), "is not a plain file with this"),
    ({"location": "sub"}, lambda directory: os.mkdir(directory / "sub"), "which is not a plain file"),
])
def test_other_places_of_tensors_are_refused(tmp_path, entries, change, text):
    path = beside(tmp_path, **entries)
    if change:
        change(tmp_path)
    assert text in problems(path)[0]


@pytest.mark.parametrize("bias", [np.ones(4), np.ones((1, 4)), np.ones((1, 1)), np.ones(1), np.ones(())])
def test_biases_of_onnx_are_broadcast(tmp_path, bias):
    """The bias of a Gemm, and one that is added to a product."""
    bias = (bias * 3).astype(np.float32)
    for nodes, matrix in (([helper.make_node("Gemm", ["in", "m", "b"], ["out"], transB=1)], MATRIX),
                          ([helper.make_node("MatMul", ["in", "m"], ["p"]),
                            helper.make_node("Add", ["b", "p"], ["out"])], MATRIX.T.copy())):
        layer, = load_network(onnx_file(tmp_path, nodes, {"m": matrix, "b": bias})).layers
        np.testing.assert_array_equal(layer.bias, np.full(4, 3, np.float32))
        np.testing.assert_array_equal(layer.weight, MATRIX)
    wrong = onnx_file(tmp_path, nodes, {"m": matrix, "b": np.ones((2, 4), np.float32)})
    assert "works with a constant of the shape [2, 4], where 4 values flow; use one number" in problems(wrong)[0]


def test_the_option_tells_what_the_file_leaves_open(tmp_path):
    """The option that a refusal names tells the open sizes of an input, and may not contradict the file's axes."""
    kernel = np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3)
    path = onnx_file(tmp_path, [helper.make_node("Conv", ["in", "k"], ["out"])], {"k": kernel},
                     shape=("n", 1, "h", "w"))
    assert "add --input-shape CHANNELS,HEIGHT,WIDTH" in problems(path)[0]
    assert load_network(path, input_shape=(1, 6, 6)).input_shape == (1, 6, 6)
    nodes = [helper.make_node("Reshape", ["in", "s"], ["r"]), helper.make_node("Gemm", ["r", "m"], ["out"], transB=1)]
    constants = {"s": np.array([-1, 16]), "m": np.ones((3, 16), np.float32)}
    path = onnx_file(tmp_path, nodes, constants, shape=("n", "c", "h", "w"))
    assert "but the file does not say how large the images are" in problems(path)[0]
    assert load_network(path, input_shape=(1, 4, 4)).inputs == 16
    assert "cuts 1 x 8 x 8 values" in problems(path, input_shape=(1, 8, 8))[0]
    path = onnx_file(tmp_path, nodes, constants, shape=("n", 16))
    assert load_network(path, input_shape=(1, 4, 4)).input_shape == (16,)
    assert "it takes images of 16 values, not of 3 x 4 x 4" in problems(path, input_shape=(3, 4, 4))[0]


def test_garbled_nodes_without_activations_are_no_crash(tmp_path):
    nodes = [helper.make_node("Transpose", ["m"], ["t"], perm=1.5), helper.make_node("MatMul", ["in", "t"], ["out"])]
    assert "is computed in a way" in problems(onnx_file(tmp_path, nodes, {"m": MATRIX}))[0]


@pytest.mark.parametrize("reads", ["product", "sum"])
def test_a_bias_is_not_added_to_the_product_for_its_other_readers(tmp_path, reads):
    """What also takes the product without the bias gets it so."""
    rng = np.random.default_rng(0)
    constants = {"m": rng.normal(size=(6, 6)).astype(np.float32), "b": np.arange(6, dtype=np.float32)}
    nodes = [helper.make_node("MatMul", ["in", "m"], ["p"]), helper.make_node("Add", ["p", "b"], ["s"]),
             helper.make_node("Relu", ["s"], ["r"]),
             helper.make_node("Add", ["r", "p" if reads == "product" else "s"], ["out"])]
    matrix, bias = torch.from_numpy(constants["m"]), torch.from_numpy(constants["b"])

    def wanted(inputs):
        product = inputs @ matrix
        return (product + bias).relu() + (product if reads == "product" else product + bias)
    check(load_network(onnx_file(tmp_path, nodes, constants)), wanted, (6,))
