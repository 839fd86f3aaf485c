# SPDX-License-Identifier: Apache-2.0
"""Models of any class of modules, exported as ``.pt2`` or ``.onnx``: what they compute, and what is refused."""

import io
import json
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from host.importers.load_network import load_network
from host.network.zoo import build
from host.training.forward import logits, tensors
from nonzero.errors import UserError
from tests.support.model_files import onnx_file, onnx_model


class Own(nn.Module):
    """A user's class, with functional operations."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.deep = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU())
        self.drop, self.fc = nn.Dropout(), nn.Linear(24, 5)
        nn.init.uniform_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, images):
        planes = functional.max_pool2d(torch.relu(self.norm(self.conv(images))), 2)
        planes = functional.avg_pool2d(self.deep(planes), 2, 1)
        return torch.log_softmax(self.fc(self.drop(planes.view(planes.size(0), -1))), 1)


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 5, (3, 1), groups=1, padding="valid")

    def forward(self, images):
        return functional.relu(self.conv(images)).mean((2, 3))


class Refused(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.other = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1, dilation=1)

    def forward(self, images):
        hidden = torch.erf(self.conv(images))
        return torch.cat([hidden / images, self.other(hidden)], 1)


MODELS = {
    "own class": (Own, (1, 12, 12)),
    "mean": (Mean, (2, 6, 7)),
    "zoo": (lambda: build("lenet-5"), (1, 28, 28)),
    "fully connected": (lambda: nn.Sequential(nn.Linear(9, 7), nn.ReLU(), nn.Dropout(), nn.Linear(7, 3, bias=False)),
                        (9,)),
    "pools": (lambda: nn.Sequential(nn.Conv2d(2, 3, 2, stride=2), nn.AdaptiveAvgPool2d(3), nn.ReLU(), nn.Flatten(),
                                    nn.Linear(27, 4), nn.BatchNorm1d(4), nn.Softmax(1)), (2, 12, 12)),
}


def exported(directory, model, shape, *, decompose=False, dynamic=False):
    """A .pt2 file."""
    path = directory / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.rand(3, *shape)
        shapes = ({0: torch.export.Dim("n")},) if dynamic else None
        program = torch.export.export(model, (example,), dynamic_shapes=shapes)
        torch.export.save(program.run_decompositions() if decompose else program, path)
    return path


def as_onnx(directory, model, shape):
    path = directory / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (torch.rand(3, *shape),), str(path), dynamo=False)
    return path


def check(path, model, shape):
    network = load_network(path)
    inputs = torch.rand(4, *shape) - 0.2
    with torch.no_grad():
        expected = model(inputs).flatten(1)
        found = logits(tensors(network), inputs.flatten(1))
    ends = "softmax" in str(model).lower() or isinstance(model, Own)
    if ends:
        assert torch.equal(found.argmax(1), expected.argmax(1))
        scale = torch.log_softmax(found, 1) if isinstance(model, Own) else torch.softmax(found, 1)
        found = scale
    assert torch.allclose(found, expected, atol=1e-5)
    return network


@pytest.mark.parametrize("name", MODELS)
def test_models_load_as_what_they_compute(tmp_path, name):
    torch.manual_seed(3)
    kind, shape = MODELS[name]
    model = kind().eval()
    for options in ({}, {"decompose": True}, {"dynamic": True}):
        network = check(exported(tmp_path, model, shape, **options), model, shape)
        if name == "own class":
            assert [layer.name for layer in network.layers][:2] == ["conv", "deep.0"]
    check(as_onnx(tmp_path, model, shape), model, shape)


@pytest.mark.parametrize("write", [exported, as_onnx])
def test_what_does_not_run_is_refused_all_at_once(tmp_path, write):
    with pytest.raises(UserError) as caught:
        load_network(write(tmp_path, Refused().eval(), (1, 6, 6)))
    text = "\n".join(caught.value.problems).lower()
    assert "erf" in text and "div" in text and "only sums, differences, products" in text
    assert "--input-shape" not in text
    assert len(caught.value.problems) == 2


def rewritten(path, changes, *, compressed=False):
    """The archive with some files replaced by what a function makes of them; None leaves one out."""
    content = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(content, "w", kind) as new:
        for name in old.namelist():
            data = old.read(name)
            for end, change in changes.items():
                if name.endswith(end):
                    data = change(data)
            if data is not None:
                new.writestr(name, data)
    path.write_bytes(content.getvalue())
    return path


def in_json(change):
    def apply(data):
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()
    return apply


GRAPH, WEIGHTS = "models/model.json", "model_weights_config.json"


def weight(key, value):
    return in_json(lambda content: content["config"]["conv.weight"].update({key: value}))


def meta(key, value):
    return in_json(lambda content: content["config"]["conv.weight"]["tensor_meta"].update({key: value}))


@pytest.mark.parametrize(("changes", "text"), [
    ({"archive_version": lambda data: b"7"}, "unknown version of the archive; known are 0, 1"),
    ({"archive_format": lambda data: b"x" * 17}, "has 17 bytes, more than 16"),
    ({GRAPH: in_json(lambda graph: graph["schema_version"].update(major=9))}, "its schema has the version '9', but"),
    ({GRAPH: in_json(lambda graph: graph.pop("schema_version"))}, "its description is garbled"),
    ({GRAPH: lambda data: data[:-5]}, "its description is garbled"), ({GRAPH: lambda data: None}, "holds 0 models"),
    ({GRAPH: lambda data: b"[" * 100_000}, "nests too deep"),
    ({GRAPH: lambda data: b"3"}, "its description is garbled"),
    ({GRAPH: lambda data: b"\xff\xfe"}, "its description is garbled"),
    ({GRAPH: in_json(lambda graph: graph["graph_module"]["graph"]["nodes"].append({"target": 5}))}, "is garbled"),
    ({GRAPH: in_json(lambda graph: graph["graph_module"]["graph"]["nodes"].reverse())}, "is not the last layer's"),
    ({GRAPH: in_json(lambda graph: graph["graph_module"]["graph"]["nodes"][0]["inputs"][3].update(
        arg={"as_ints": [1 << 70, 1]}))}, "its description is garbled"),
    ({GRAPH: in_json(lambda graph: graph["graph_module"]["graph"]["nodes"][0]["inputs"][1].update(
        arg={"as_int": 3}))}, "its description is garbled"),
    ({GRAPH: in_json(lambda graph: graph["graph_module"]["graph"]["nodes"][0]["inputs"][1].update(
        arg={"as_none": True}))}, "its description is garbled"),
    ({WEIGHTS: weight("use_pickle", True)}, "layer 'conv': its weight is pickled, and pickles are not read"),
    ({WEIGHTS: weight("path_name", "../../x")}, "layer 'conv': its weight is not in the file"),
    ({WEIGHTS: weight("path_name", 3)}, "its description is garbled"),
    ({WEIGHTS: meta("dtype", 5)}, "has the number format number 5 of torch's schema"),
    ({WEIGHTS: meta("sizes", [{"as_int": 1 << 40}] * 4)}, "has an axis whose length is not between"),
    ({WEIGHTS: meta("sizes", [{"as_int": 64}, {"as_int": 1}, {"as_int": 3}, {"as_int": 3}])}, "but the file holds"),
    ({WEIGHTS: meta("strides", [{"as_int": -1}] * 4)}, "its description is garbled"),
    ({WEIGHTS: meta("storage_offset", {"as_int": 1})}, "but the file holds only"),
    ({"weight_0": lambda data: data[:-1]}, "its weight is not in the file, or damaged"),
    ({"weight_0": lambda data: np.full(36, np.nan, np.float32).tobytes()}, "has 36 NaN"),
    ({"byteorder": lambda data: b"big"}, "big-endian"),
    ({WEIGHTS: lambda data: None}, "is missing"),
])
def test_hostile_archives_are_refused(tmp_path, changes, text):
    path = rewritten(exported(tmp_path, Own().eval(), (1, 12, 12)), changes)
    with pytest.raises(UserError, match=text.replace("(", r"\(")):
        load_network(path)


def test_damaged_archives_are_refused(tmp_path):
    path = exported(tmp_path, Own().eval(), (1, 12, 12))
    content = path.read_bytes()
    rewritten(path, {}, compressed=True)
    with pytest.raises(UserError, match="compressed zip file"):
        load_network(path)
    path.write_bytes(content[:len(content) // 2])
    with pytest.raises(UserError, match="damaged or cut-off zip file"):
        load_network(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
    with pytest.raises(UserError, match=r"of torch 2\.7 or older, whose weights are pickled"):
        load_network(path)


KERNEL, IMAGE = np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3), (1, 1, 6, 6)


def test_other_forms_of_onnx(tmp_path):
    """A product with its bias behind, a transposed matrix, a tensor from a node, the mean of all."""
    matrix, bias = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32), np.ones(4, np.float32)
    nodes = [helper.make_node("Constant", [], ["bias"], value=numpy_helper.from_array(bias)),
             helper.make_node("Conv", ["in", "k"], ["a"], auto_pad="VALID"), helper.make_node("Relu", ["a"], ["b"]),
             helper.make_node("GlobalAveragePool", ["b"], ["c"]), helper.make_node("Reshape", ["c", "s"], ["d"]),
             helper.make_node("Transpose", ["m"], ["t"], perm=[1, 0]), helper.make_node("Identity", ["d"], ["e"]),
             helper.make_node("MatMul", ["e", "t"], ["f"]), helper.make_node("Add", ["f", "bias"], ["g"]),
             helper.make_node("Dropout", ["g"], ["h", "mask"]), helper.make_node("Softmax", ["h"], ["out"])]
    path = onnx_file(tmp_path, nodes, {"k": KERNEL, "s": np.array([0, -1]), "m": matrix.T.copy()}, shape=IMAGE)
    network = load_network(path)
    image = torch.rand(1, 1, 6, 6)
    expected = functional.conv2d(image, torch.from_numpy(KERNEL)).relu().mean((2, 3)) @ torch.from_numpy(matrix) + 1
    assert torch.allclose(logits(tensors(network), image.flatten(1)), expected, rtol=1e-4)


@pytest.mark.parametrize(("node", "text"), [
    ({"op_type": "Conv", "pads": [1, 0, -1, 0]}, "is a garbled Conv"),
    ({"op_type": "Conv", "auto_pad": "OTHER"}, "is a garbled Conv"),
    ({"op_type": "MaxPool", "kernel_shape": [2, 2], "pads": [1, 0, 0, 0]}, "whose windows reach over the edge"),
    ({"op_type": "MaxPool", "kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}, "whose windows reach over the edge"),
    ({"op_type": "Conv", "strides": [1]}, "is a garbled Conv"),
    ({"op_type": "Conv", "group": 1.5}, "is a garbled Conv"),
    ({"op_type": "Conv", "strides": [-1, 1]}, "is a garbled Conv"),
    ({"op_type": "Conv", "group": 0}, "has 0 groups"), ({"op_type": "Conv", "dilations": [9, 9]}, "has a dilation of"),
    ({"op_type": "ConvTranspose"}, "takes 2 channels in 1 groups, but gets 1 x 6 x 6 values; check --input-shape"),
    ({"op_type": "ConvTranspose", "auto_pad": "SAME_UPPER"}, "whose padding follows from a rule; export it with"),
    ({"op_type": "ConvTranspose", "output_shape": [8, 8]}, "whose padding follows from a rule; export it with"),
    ({"op_type": "Resize", "mode": "linear"}, "makes feature maps larger by another mode than 'nearest'; use that"),
    ({"op_type": "Resize", "coordinate_transformation_mode": "align_corners"}, "with the rules 'align_corners' and"),
    ({"op_type": "Resize"}, "is a Resize whose scales are computed; export it with fixed ones"),
    ({"op_type": "Transpose", "perm": [1, 0, 2, 3]}, r"is a Transpose by \[1, 0, 2, 3\], which moves values into the"),
    ({"op_type": "Transpose"}, r"is a Transpose by \[\], which moves values into the batch axis, or out of it"),
    ({"op_type": "Squeeze"}, "is Squeeze of axes that are computed, left open, or among them the batch axis"),
    ({"op_type": "Relu", "domain": "com.example"}, "is the operation com.example.Relu"),
    ({"op_type": "AveragePool"}, "is a garbled AveragePool"),
    ({"op_type": "Softmax", "axis": 2}, "is a softmax over another axis"),
    ({"op_type": "Flatten", "axis": 2}, "is a flatten with other axes"),
    ({"op_type": "Reshape"}, "shape that is computed"),
    ({"op_type": "Gemm"}, "is transposed, but not a matrix"), ({"op_type": "BatchNormalization"}, "is a garbled Batch"),
    ({"op_type": "Add"}, "is the operation Add"), ({"op_type": "ReduceMean", "axes": [1]}, "is a mean over other axes"),
])
def test_nodes_that_cannot_run_are_refused(tmp_path, node, text):
    node = helper.make_node(node.pop("op_type"), ["in", "k"], ["out"], **node)
    path = onnx_file(tmp_path, [node], {"k": KERNEL}, shape=IMAGE)
    with pytest.raises(UserError, match=text):
        load_network(path)


def test_hostile_onnx_files_are_refused(tmp_path, monkeypatch):
    nodes = [helper.make_node("Conv", ["in", "k"], ["out"])]

    def refused(text, change=lambda model: None, **options):
        model = onnx_model(nodes, {"k": KERNEL}, shape=IMAGE, **options)
        change(model)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(UserError, match=text):
            load_network(path)
    path = onnx_file(tmp_path, nodes, {"k": KERNEL}, shape=IMAGE)
    load_network(path)
    refused("the operator sets", opset=5)
    refused("the operator sets", opset=200)
    refused("it has the IR version 99", lambda model: setattr(model, "ir_version", 99))
    refused("is not the last layer's alone", output="elsewhere")
    refused("it takes 2 inputs", lambda model: model.graph.input.add(name="second"))
    refused("at least one node", lambda model: model.graph.ClearField("node"))
    refused("has an axis whose length", lambda model: model.graph.initializer[0].dims.__setitem__(0, 1 << 45))
    refused("claims 900 values", lambda model: model.graph.initializer[0].dims.__setitem__(0, 100))
    refused("garbled way", lambda model: model.graph.initializer[0].dims.__setitem__(0, -2))
    refused("has the number format number 7", lambda model: setattr(model.graph.initializer[0], "data_type", 7))
    def external(model):
        kernel = model.graph.initializer[0]
        kernel.data_location = TensorProto.EXTERNAL
        kernel.external_data.add(key="location", value="/etc/passwd")
        kernel.ClearField("raw_data")
    refused("is said to lie in '/etc/passwd', but only a file beside the model", external)
    whole = onnx_file(tmp_path, nodes, {"k": KERNEL}, shape=IMAGE).read_bytes()
    for content in (b"not a protobuf at all", whole[:-30], b"\x08"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"damaged or cut-off ONNX|the operator sets|is not the last|takes 0"):
            load_network(path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match="the package onnx is needed; run: pip install onnx"):
        load_network(path)
