# SPDX-License-Identifier: Apache-2.0
"""Whatever a graph or a Sequential holds: it is refused by name, or what is read computes what torch computes."""

import os
import random
import warnings

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune

from host.importers.load_network import load_network
from host.importers.torch_archive import EXPORT
from host.training.forward import logits, tensors
from nonzero.errors import UserError


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


def problems(path, **options):
    with pytest.raises(UserError) as caught:
        load_network(path, **options)
    assert caught.value.problems and all(caught.value.problems)
    return [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]


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
    """What a function makes of the input, with these layers and tensors."""

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


# --- Random chains ---

STRANGE = {
    1: [nn.Sigmoid, nn.Tanh, lambda c, s: nn.LayerNorm(s[-1]), nn.PReLU, lambda c, s: nn.Softmax(0), nn.LeakyReLU,
        lambda c, s: nn.Unflatten(1, (c, 1)), lambda c, s: nn.GroupNorm(1, c)],
    2: [lambda c, s: nn.Conv1d(c, 3, 2), lambda c, s: nn.MaxPool1d(2), lambda c, s: nn.BatchNorm1d(c),
        lambda c, s: nn.Linear(s[-1], 5), lambda c, s: nn.Softmax(2), lambda c, s: nn.ConvTranspose1d(c, 2, 2)],
    3: [lambda c, s: nn.Conv2d(c, 3, 2, padding="same"), lambda c, s: nn.Conv2d(c, 3, 3, dilation=2),
        lambda c, s: nn.Conv2d(c, 3, 3, padding=1, padding_mode="circular"), lambda c, s: nn.Linear(s[-1], 4),
        lambda c, s: nn.MaxPool2d(2, ceil_mode=True), lambda c, s: nn.Softmax(3), lambda c, s: nn.ZeroPad2d(1),
        lambda c, s: nn.AdaptiveAvgPool2d(3), lambda c, s: nn.ConvTranspose2d(c, 2, 2), nn.Sigmoid, nn.ReLU6,
        lambda c, s: nn.GroupNorm(1, c), lambda c, s: nn.PReLU(c), lambda c, s: nn.Flatten(2),
        lambda c, s: nn.AvgPool2d(3, 1, 1, count_include_pad=False), lambda c, s: nn.InstanceNorm2d(c)],
    4: [lambda c, s: nn.Conv3d(c, 2, 1), lambda c, s: nn.MaxPool3d(1), lambda c, s: nn.BatchNorm3d(c)],
}
"""By the number of axes without the batch's, from the channels and the shape."""

PLAIN = {
    1: [lambda c, s: nn.Linear(c, 7), lambda c, s: nn.Linear(c, 4, bias=False), nn.ReLU, nn.Dropout, nn.Flatten,
        lambda c, s: nn.BatchNorm1d(c, eps=0.3), lambda c, s: nn.Softmax(1)],
    2: [nn.Flatten, nn.ReLU],
    3: [lambda c, s: nn.Conv2d(c, 4, 3, padding=1), lambda c, s: nn.Conv2d(c, 3, 2, stride=2, bias=False), nn.ReLU,
        lambda c, s: nn.Conv2d(c, 2 * c, 3, groups=c), lambda c, s: nn.BatchNorm2d(c), lambda c, s: nn.MaxPool2d(2),
        lambda c, s: nn.MaxPool2d(1), lambda c, s: nn.AvgPool2d(2, 1), lambda c, s: nn.AvgPool2d(1),
        lambda c, s: nn.AdaptiveAvgPool2d(1), nn.Flatten, nn.Flatten, lambda c, s: nn.Softmax(1)],
    4: [nn.Flatten, nn.ReLU],
}


def random_chain(seed):
    """A Sequential of up to six layers that torch runs, and the shape of an input."""
    random_, shape = random.Random(seed), None
    torch.manual_seed(seed)
    strange = random_.choice([0, 0, 0.1, 0.5])
    shape = random_.choice([(6,), (3, 8), (1, 8, 8), (2, 6, 7), (4, 1, 1), (2, 2, 3, 3)])
    values, layers = torch.rand(3, *shape), []
    for _ in range(random_.randint(2, 6)):
        kinds = (STRANGE if random_.random() < strange else PLAIN)[values.dim() - 1]
        kind = random_.choice(kinds)
        layer = (kind() if isinstance(kind, type) else kind(values.shape[1], tuple(values.shape[1:]))).eval()
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of padding="same" with even kernels
                values = layer(values)
        except RuntimeError:
            continue
        layers.append(layer)
    model = nn.Sequential(*layers, *[] if layers else [nn.ReLU()])
    for layer in model:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return model.eval(), shape


@pytest.mark.parametrize("kind", ["pt", "pt2", "onnx"])
def test_random_chains_are_refused_or_right(tmp_path, kind):
    right = refused = 0
    for seed in range(60 if kind == "pt" else 24):
        model, shape = random_chain(seed)
        try:
            path = write(tmp_path, kind, model, shape)
        except (RuntimeError, torch.onnx.errors.OnnxExporterError):
            continue  # torch's own limits
        try:
            network = load_network(path, input_shape=shape if kind == "pt" and len(shape) == 3 else None)
        except UserError as error:
            assert error.problems and all(error.problems)
            refused += 1
            continue
        if kind == "pt" and len(shape) != 1 and network.inputs != np.prod(shape):
            continue  # a linear layer alone, of which the file does not tell that it works on the last of several axes
        check(network, model, shape, any(isinstance(layer, nn.Softmax) for layer in model))
        assert network.input_shape == shape or kind == "pt"
        right += 1
    assert right >= 5 and refused >= 10


FIRST = {
    "Conv1d": (nn.Conv1d(2, 3, 2), (2, 5)), "Conv3d": (nn.Conv3d(1, 3, 2), (1, 3, 3, 3)),
    "sigmoid": (nn.Sigmoid(), (6,)), "LayerNorm": (nn.LayerNorm(6), (6,)), "GroupNorm": (nn.GroupNorm(1, 3), (3, 4, 4)),
    "same": (nn.Conv2d(2, 3, 2, padding="same"), (2, 4, 4)), "PReLU": (nn.PReLU(), (6,)),
    "circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 4, 4)),
    "pool": (nn.MaxPool2d(1), (3, 4, 4)),
    "transposed": (nn.ConvTranspose2d(2, 3, 2), (2, 4, 4)), "padding": (nn.ZeroPad2d(1), (3, 4, 4)),
    "ReLU": (nn.ReLU(), (6,)), "flatten": (nn.Flatten(), (2, 3)), "norm": (nn.BatchNorm1d(6), (6,)),
    "softmax": (nn.Softmax(1), (6,)), "ceil": (nn.MaxPool2d(3, ceil_mode=True), (2, 4, 4)),
}


@pytest.mark.parametrize("kind", ["pt", "pt2", "onnx"])
@pytest.mark.parametrize("name", FIRST)
def test_what_follows_an_unsupported_first_layer_is_no_crash(tmp_path, kind, name):
    first, shape = FIRST[name]
    first = first.eval()
    with torch.no_grad():
        made = first(torch.rand(3, *shape))
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[made.dim()]
    for after in ([nn.ReLU()], [norm(made.shape[1]), nn.ReLU()], [nn.ReLU(), norm(made.shape[1])]):
        model = nn.Sequential(first, *after, nn.Flatten(), nn.Linear(made[0].numel(), 2)).eval()
        path = write(tmp_path, kind, model, shape)
        assert problems(path, input_shape=shape if kind == "pt" and len(shape) == 3 else None)


def test_a_convolution_without_its_shape_before_a_relu_is_refused(tmp_path):
    torch.save({"conv.weight": torch.zeros(2, 1, 3, 3), "bn.weight": torch.ones(2), "bn.bias": torch.ones(2),
                "bn.running_mean": torch.zeros(2), "bn.running_var": torch.ones(2), "fc.weight": torch.zeros(3, 2)},
               tmp_path / "model.pt")
    assert problems(tmp_path / "model.pt")[0].startswith("layer 'conv' is a convolution")


# --- The batch axis ---


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


# --- What is left out, folded or used again ---


@pytest.mark.parametrize("kind", ["pt", "pt2", "onnx"])
@pytest.mark.parametrize(("softmax", "text"), [
    (nn.Softmax(1), "is a softmax over axis 1 of 3 x 4 x 4 outputs"),
    (nn.LogSoftmax(-1), "is a softmax over axis "), (nn.Softmax(0), "over another axis than the outputs"),
])
def test_a_softmax_over_each_pixel_is_refused(tmp_path, kind, softmax, text):
    path = write(tmp_path, kind, nn.Sequential(nn.Conv2d(1, 3, 3), softmax, nn.Flatten()), (1, 6, 6))
    lines = problems(path, input_shape=(1, 6, 6) if kind == "pt" else None)
    assert text in lines[0] or "softmax over another axis" in lines[0]


def test_a_layer_used_twice_is_two_layers(tmp_path):
    layer = nn.Linear(6, 6)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(6, 2))
    for kind in ("pt", "pt2", "onnx"):
        network = check(load_network(write(tmp_path, kind, model, (6,))), model, (6,))
        assert len({one.name for one in network.layers}) == 3
    network = load_network(write(tmp_path, "pt2", model, (6,)))
    name = network.layers[0].name
    assert name in ("0", "2") and [one.name for one in network.layers] == [name, f"{name}_2", "4"]


def test_weights_that_are_computed_from_stored_tensors(tmp_path):
    masked = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    prune.l1_unstructured(masked[0], "weight", 0.5)
    normed = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(1, 3, 3)), nn.ReLU(), nn.Flatten(),
                           parametrizations.weight_norm(nn.Linear(48, 2)))
    for model, shape in ((masked, (6,)), (normed, (1, 6, 6))):
        network = check(load_network(write(tmp_path, "pt2", model, shape)), model, shape)
        assert [one.name for one in network.layers] == (["0", "2"] if model is masked else ["0", "3"])
    assert np.count_nonzero(load_network(write(tmp_path, "pt2", masked, (6,))).layers[0].weight) == 15
    check(load_network(write(tmp_path, "onnx", masked, (6,))), masked, (6,))
    other = nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 3))).eval()
    text = problems(write(tmp_path, "pt2", other, (6,)))[0]
    assert "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')" in text
    parametrize.remove_parametrizations(other[0], "weight")
    check(load_network(write(tmp_path, "pt2", other, (6,))), other, (6,))


def test_a_chain_of_computed_weights_ends(tmp_path):
    """A thousand transpositions would nest as many calls."""
    nodes = [helper.make_node("Transpose", [f"w{number}"], [f"w{number + 1}"]) for number in range(1000)]
    path = onnx_file(tmp_path, [*nodes, helper.make_node("MatMul", ["in", "w1000"], ["out"])],
                     {"w0": np.eye(6, dtype=np.float32)})
    assert "is computed in a way that is not known here" in problems(path)[0]


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize(("function", "layer", "shape"), [
    (lambda self, inputs: self.layer((inputs - 0.1307) / 0.3081), nn.Linear(16, 3), (16,)),
    (lambda self, inputs: self.layer((inputs - self.mean) / self.std), nn.Conv2d(3, 4, 3), (3, 6, 6)),
    (lambda self, inputs: self.layer((inputs - self.mean) / self.std).flatten(1), nn.Conv2d(3, 6, 3, groups=3),
     (3, 6, 6)),
    (lambda self, inputs: self.layer(inputs * 2 / 255), nn.Conv2d(3, 4, 3, padding=1), (3, 6, 6)),
    (lambda self, inputs: self.layer((self.mean + 2 * inputs).flatten(1)), nn.Linear(108, 3), (3, 6, 6)),
])
def test_constants_with_the_input_fold_into_the_first_layer(tmp_path, kind, function, layer, shape):
    torch.manual_seed(0)
    model = Own(function, layer=layer, mean=torch.rand(1, 3, 1, 1), std=torch.rand(3, 1, 1) + 0.5)
    check(load_network(write(tmp_path, kind, model, shape)), model, shape)


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.parametrize(("function", "text"), [
    (lambda self, inputs: self.layer(inputs - self.mean), "pads its input with zeros"),
    (lambda self, inputs: self.layer(inputs - self.whole), "pads its input with zeros"),
    (lambda self, inputs: functional.max_pool2d(inputs, 1) * 1.0 - self.layer(inputs), "of several values"),
    (lambda self, inputs: self.layer(inputs * self.whole), "differs within a channel"),
    (lambda self, inputs: self.layer(inputs) * 16, "scaled and shifted, by constants and before any layer"),
    (lambda self, inputs: self.layer(inputs / 0.0), "works with a constant that divides by 0"),
    (lambda self, inputs: self.layer(functional.avg_pool2d(inputs * 2, 2)), "is a pooling before the first layer"),
])
def test_arithmetic_that_cannot_be_folded_is_refused(tmp_path, kind, function, text):
    model = Own(function, layer=nn.Conv2d(3, 3, 3, padding=1), mean=torch.rand(1, 3, 1, 1), whole=torch.rand(3, 6, 6))
    assert text in "\n".join(problems(write(tmp_path, kind, model, (3, 6, 6))))


def test_normalised_data_is_the_way_out_of_padding(tmp_path):
    """What the refusal of --normalize names: the data as the layer takes it."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    path = write(tmp_path, "pt2", model, (1, 6, 6))
    assert "give the data (--data, --calib) as the layer takes it" in problems(path, normalize=(0.1, 0.3))[0]
    check(load_network(path), model, (1, 6, 6))


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_a_dropout_of_training_is_announced(tmp_path, kind):
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout())
    path = tmp_path / f"model.{kind}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "pt2":
            torch.export.save(torch.export.export(model, (torch.rand(2, 6),)), path)
        else:
            torch.onnx.export(model, (torch.rand(2, 6),), str(path), dynamo=False,
                              training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False)
    network = load_network(path)
    assert len(network.assumptions) == 1 and "call model.eval() before the export" in network.assumptions[0]
    check(network, model.eval(), (6,))


def test_the_line_that_a_refusal_names_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, example = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Dropout()), torch.rand(1, 6)
    exec(EXPORT, {"torch": torch, "model": model, "example": example})
    check(load_network(tmp_path / "model.pt2"), model.eval(), (6,))


# --- ONNX: tensors beside the file, biases ---


def onnx_file(directory, nodes, constants, *, shape=(1, 6)):
    values = [value if isinstance(value, TensorProto) else numpy_helper.from_array(value, name)
              for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", [helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)], values)
    path = directory / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                                       ir_version=9).SerializeToString())
    return path


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
    """Of a Gemm, and added to a product."""
    bias = (bias * 3).astype(np.float32)
    for nodes, matrix in (([helper.make_node("Gemm", ["in", "m", "b"], ["out"], transB=1)], MATRIX),
                          ([helper.make_node("MatMul", ["in", "m"], ["p"]),
                            helper.make_node("Add", ["b", "p"], ["out"])], MATRIX.T.copy())):
        layer, = load_network(onnx_file(tmp_path, nodes, {"m": matrix, "b": bias})).layers
        np.testing.assert_array_equal(layer.bias, np.full(4, 3, np.float32))
        np.testing.assert_array_equal(layer.weight, MATRIX)
    wrong = onnx_file(tmp_path, nodes, {"m": matrix, "b": np.ones((2, 4), np.float32)})
    assert "the operation Add" in problems(wrong)[0]


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


def test_the_option_tells_what_the_file_leaves_open(tmp_path):
    """The way out that a refusal names, for an input of open sizes; and axes that contradict the file's."""
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


def test_a_linear_layer_on_the_last_axis_behind_a_pooling_is_refused(tmp_path):
    model = nn.Sequential(nn.MaxPool2d(1), nn.Linear(8, 3))
    assert "takes 8 inputs, but an input has 1 x 8 x 8 values" in problems(
        write(tmp_path, "pt", model, (1, 8, 8)), input_shape=(1, 8, 8))[0]


def test_garbled_nodes_without_activations_are_no_crash(tmp_path):
    nodes = [helper.make_node("Transpose", ["m"], ["t"], perm=1.5), helper.make_node("MatMul", ["in", "t"], ["out"])]
    assert "is computed in a way" in problems(onnx_file(tmp_path, nodes, {"m": MATRIX}))[0]
