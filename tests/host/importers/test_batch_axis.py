# SPDX-License-Identifier: Apache-2.0
"""Graphs that change the batch axis are refused; those that keep it are read."""

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn

from host.importers.load_network import load_network
from tests.support.model_files import Own, check, onnx_file, problems, write


def last_axis(self, inputs):
    return self.fc(inputs)


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("function", "shape", "start"), [
    (lambda self, inputs: self.fc(inputs.view(-1, 16)), (64,), "batch"),
    (lambda self, inputs: self.fc(inputs.view(-1, 16)), (4, 16), "batch"),
    (lambda self, inputs: self.fc(inputs.view(-1, 4, 2, 2).flatten(1)), (64,), "batch"),
    (last_axis, (5, 16), "an input has 5 x 16 values; put torch.nn.Flatten() before it, and train it on all 80"),
    (last_axis, (2, 5, 16), "an input has 2 x 5 x 16 values; put torch.nn.Flatten()"),
])
def test_what_changes_the_batch_axis_is_refused(tmp_path, kind, batch, function, shape, start):
    model = Own(function, fc=nn.Linear(16, 3))
    assert start in problems(write(tmp_path, kind, model, shape, batch))[0]


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize(("function", "shape"), [
    (lambda self, inputs: self.fc(inputs.view(-1, 16)), (1, 4, 4)),
    (lambda self, inputs: self.fc(inputs.view(inputs.size(0), -1)), (2, 8)),
    (lambda self, inputs: self.fc(inputs.reshape(-1, 1, 4, 4).flatten(1)), (16,)),
])
def test_what_keeps_it_is_read(tmp_path, kind, function, shape):
    model = Own(function, fc=nn.Linear(16, 3))
    network = check(load_network(write(tmp_path, kind, model, shape)), model, shape)
    assert network.input_shape == shape


def test_an_open_batch_axis_is_compared(tmp_path):
    for function, shape in ((lambda self, inputs: self.fc(inputs.view(-1, 16)), (64,)), (last_axis, (5, 16))):
        model = Own(function, fc=nn.Linear(16, 3))
        program = torch.export.export(model, (torch.rand(4, *shape),), dynamic_shapes=({0: torch.export.Dim("n")},))
        torch.export.save(program, tmp_path / "model.pt2")
        assert any(text in problems(tmp_path / "model.pt2")[0] for text in ("the batch axis", "an input has 5 x 16"))


@pytest.mark.parametrize(("shape", "sizes", "text"), [
    (("n", 64), [-1, 16], "cuts 64 values"), (("n", 64), [1, -1], "is a reshape to [1, -1], which moves values"),
    ((2, 64), [0, 16], "cuts 64 values"), ((64,), [0, -1], "is a reshape to [0, -1]"),
    (("n", "m"), [-1, 16], "add --input-shape"), ((2, 64), [128, -1], "is a reshape to [128, -1]"),
    ((2, 4, 16), [-1, 16], "cuts 4 x 16 values"),
])
def test_reshapes_of_onnx_that_move_values_into_the_batch_axis(tmp_path, shape, sizes, text):
    nodes = [helper.make_node("Reshape", ["in", "s"], ["r"]), helper.make_node("Gemm", ["r", "m"], ["out"], transB=1)]
    path = onnx_file(tmp_path, nodes, {"s": np.array(sizes), "m": np.ones((3, 16), np.float32)}, shape=shape)
    assert text in problems(path)[0]


@pytest.mark.parametrize(("shape", "sizes"), [
    (("n", 4, 4), [-1, 16]), (("n", 16), [0, -1]), ((1, 16), [1, -1]), ((2, 4, 4), [2, 16]), ((2, 2, 8), [0, 16]),
    ((16,), [1, -1]), ((16,), [-1, 16]),
])
def test_reshapes_of_onnx_that_keep_it(tmp_path, shape, sizes):
    nodes = [helper.make_node("Reshape", ["in", "s"], ["r"]), helper.make_node("Gemm", ["r", "m"], ["out"], transB=1)]
    path = onnx_file(tmp_path, nodes, {"s": np.array(sizes), "m": np.ones((3, 16), np.float32)}, shape=shape)
    assert load_network(path).inputs == 16
