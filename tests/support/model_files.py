# SPDX-License-Identifier: Apache-2.0
"""Model files of every kind, and whether what is read of them computes what torch computes."""

import warnings

import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from host.importers.load_network import load_network
from host.training.forward import logits, tensors
from nonzero.errors import UserError

LEGACY = {"_use_new_zipfile_serialization": False}


def write(directory, kind, model, shape, batch=3):
    """The model in a file of a kind, from an example of this batch size."""
    path = directory / f"model.{kind}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "pt":
            torch.save(model, path)
        elif kind == "pt2":
            torch.export.save(torch.export.export(model, (torch.rand(batch, *shape),)), path)
        else:
            torch.onnx.export(model, (torch.rand(batch, *shape),), str(path), dynamo=False)
    return path


def saved(directory, value, **options):
    """The file that torch.save makes of a value."""
    torch.save(value, directory / "model.pt", **options)
    return directory / "model.pt"


def problems(path, **options):
    """Reasons for which the loader refuses the file: whole messages, each without the file's name before it."""
    with pytest.raises(UserError) as caught:
        load_network(path, **options)
    start = f"{path}: "
    told = caught.value.problems
    assert told and all(problem.startswith(start) and problem != start for problem in told)
    return [problem.removeprefix(start) for problem in told]


def refusal(path, **options):
    """The same in one text."""
    return "\n".join(problems(path, **options))


def check(network, model, shape, softmax=False):
    """Computes what torch computes; before a softmax only the order is told."""
    inputs = torch.rand(5, *shape) - 0.3
    assert network.inputs == inputs[0].numel()
    with torch.no_grad():
        expected, found = model(inputs).flatten(1), logits(tensors(network), inputs.flatten(1))
    assert found.shape == expected.shape
    if softmax:
        assert torch.equal(found.argmax(1), expected.argmax(1))
    else:
        assert (found - expected).norm() <= 1e-4 * max(expected.norm(), 1e-3)
    return network


class Own(nn.Module):
    """Output of a function for the input, with these layers and tensors."""

    def __init__(self, function, **members):
        super().__init__()
        self.function = function
        for name, member in members.items():
            if isinstance(member, nn.Module):
                setattr(self, name, member)
            else:
                self.register_buffer(name, member)

    def forward(self, inputs):
        return self.function(self, inputs)


def onnx_model(nodes, constants, *, shape=(1, 6), output="out", opset=17):
    """An ONNX model of these nodes, from an input ``in`` to an output."""
    values = [value if isinstance(value, TensorProto) else numpy_helper.from_array(value, name)
              for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", [helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def onnx_file(directory, nodes, constants, **options):
    """The file of an `onnx_model`."""
    path = directory / "model.onnx"
    path.write_bytes(onnx_model(nodes, constants, **options).SerializeToString())
    return path
