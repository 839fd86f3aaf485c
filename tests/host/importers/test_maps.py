# SPDX-License-Identifier: Apache-2.0
"""Maps made of vectors, larger maps, other axes and uneven windows: read as what torch computes, or refused by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn
from torch.nn import functional

from host.compression.share_weights import ShareSettings, share_weights
from host.decoding.decode import decode
from host.image.image import parse_image
from host.importers.fold_normalization import fold_normalization
from host.importers.load_network import load_network
from host.importers.safetensors_file import safetensors_file
from host.network.dead_neurons import drop_dead_neurons
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from host.quantization.integer_network import quantize_inputs
from host.quantization.quantize import quantize
from nonzero.errors import UserError
from rtl.config import PRESETS
from rtl.numbers import Activation
from tests.support.model_files import check, onnx_file, refusal, write
from tests.support.torch_models import Branches, normalized


def conv(inputs=4, outputs=2, **options):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def vector(function, **layers):
    return (10,), function, {"a": nn.Linear(10, 60), "c": conv(), **layers}


def image(function, shape=(3, 4, 5), **layers):
    return shape, function, {"a": conv(3, 4), "c": conv(), **layers}


torch.manual_seed(0)  # the layers are drawn here, whatever was imported before
MODELS = {
    # name: shape of an input, the function, layers
    "view": vector(lambda m, x: m.c(m.a(x).relu().view(-1, 4, 3, 5))),
    "view and norm": vector(lambda m, x: m.c(m.n(m.a(x).view(-1, 4, 3, 5)).relu() * 2),
                            n=normalized(nn.BatchNorm2d(4))),
    "norm and view": vector(lambda m, x: m.c(m.n(m.a(x)).relu().view(-1, 4, 3, 5)), n=normalized(nn.BatchNorm1d(60))),
    "pool of a view": vector(lambda m, x: m.c(functional.max_pool2d(m.a(x).view(-1, 4, 3, 5), (2, 2)))),
    "flat again": vector(lambda m, x: m.b(m.a(x).relu().view(-1, 4, 3, 5).flatten(1)), b=nn.Linear(60, 3)),
    "view of a vector with two readers": vector(lambda m, x: (lambda y: m.c(y.view(-1, 4, 3, 5)).flatten(1) + m.b(y))(
        m.a(x).relu()), b=nn.Linear(60, 30)),
    "vector of two forms": vector(lambda m, x: (lambda y: m.b(m.e(y.view(-1, 60, 1, 1)).flatten(1)) + m.c(
        y.view(-1, 4, 3, 5)).flatten(1))(m.a(x).relu()), e=nn.Conv2d(60, 7, 1), b=nn.Linear(7, 30)),
    "sum of a view": vector(lambda m, x: m.c((m.a(x).view(-1, 4, 3, 5) + m.b(x).view(-1, 4, 3, 5)).relu()),
                            b=nn.Linear(10, 60)),
    "permuted view": vector(lambda m, x: m.c(m.a(x).relu().view(-1, 3, 5, 4).permute(0, 3, 1, 2))),
    "upsampled": image(lambda m, x: m.c(m.u(m.a(x).relu())), u=nn.Upsample(scale_factor=2)),
    "input upsampled": image(lambda m, x: m.a(functional.interpolate(x, scale_factor=(3.0, 2.0)))),
    "upsampled and norm": image(lambda m, x: m.d(m.n(m.u(m.a(x).relu()))), u=nn.Upsample(scale_factor=2),
                                d=nn.Conv2d(4, 2, 1), n=normalized(nn.BatchNorm2d(4))),
    "upsampled and added": image(lambda m, x: (lambda y: m.c((functional.interpolate(functional.max_pool2d(
        m.b(y), 2).relu(), scale_factor=2) + y).relu()))(m.a(x).relu()), (3, 6, 8), b=conv(4, 4)),
    "upsampled and added to others": image(lambda m, x: (lambda y: m.c(functional.interpolate(functional.max_pool2d(
        m.b(y), 2).relu(), scale_factor=2) + y))(m.a(x)), (3, 6, 8), b=conv(4, 4)),
    "transposed": image(lambda m, x: m.t(m.n(m.s(m.a(x).relu())).relu()), s=nn.ConvTranspose2d(4, 6, (4, 3), 2, 1),
                        n=normalized(nn.BatchNorm2d(6)), t=nn.ConvTranspose2d(
                            6, 4, 3, (2, 1), 1, output_padding=(1, 0), groups=2, bias=False)),
    "transposed with gaps": image(lambda m, x: m.t(x), t=nn.ConvTranspose2d(3, 2, 2, 3, dilation=(2, 1))),
    "transposed of latents": ((10, 1, 1), lambda m, x: m.c(m.t(x).relu()), {"t": nn.ConvTranspose2d(10, 4, 4),
                                                                          "c": conv()}),
    "transposed and added": image(lambda m, x: (lambda y: m.c(m.t(functional.max_pool2d(y, 2)) + y))(m.a(x).relu()),
                                  (3, 6, 8), t=nn.ConvTranspose2d(4, 4, 2, 2)),
    "mean of a padded map": image(lambda m, x: m.c(functional.avg_pool2d(m.a(x).relu(), 3, 2, 1,
                                                                        count_include_pad=False)), (3, 7, 5)),
    "mean beyond the edge": image(lambda m, x: m.c(functional.avg_pool2d(m.a(x).relu(), 2, ceil_mode=True)), (3, 7, 6)),
    "padded mean beyond the edge": image(lambda m, x: functional.avg_pool2d(m.a(x), 3, 2, 1, ceil_mode=True),
                                         (3, 7, 6)),
    "wide mean": image(lambda m, x: m.c(functional.avg_pool2d(m.a(x).relu(), (3, 2), (2, 1), (1, 0))), (3, 8, 6)),
    "row": ((3, 8), lambda m, x: m.f(m.d(m.a(x).relu().unsqueeze(2)).squeeze(2).mean(2)),
            {"a": nn.Conv1d(3, 4, 3), "d": nn.Conv2d(4, 5, (1, 3)), "f": nn.Linear(5, 2)}),
    "row upsampled": ((3, 8), lambda m, x: m.t(m.u(functional.avg_pool1d(m.a(x).relu(), 2))),
                      {"a": nn.Conv1d(3, 4, 3), "u": nn.Upsample(scale_factor=3),
                       "t": nn.ConvTranspose1d(4, 2, 4, 2, 1)}),
    "pooled and squeezed": image(lambda m, x: m.f(functional.adaptive_avg_pool2d(m.a(x).relu(), 1).squeeze(-1).squeeze(
        -1)), f=nn.Linear(4, 2)),
    "channels last": image(lambda m, x: m.f(m.a(x).relu().permute(0, 2, 3, 1).flatten(1)), f=nn.Linear(80, 3)),
    "transposed rows": image(lambda m, x: m.c(m.a(x).relu().transpose(2, 3))),
    "other channels": image(lambda m, x: m.d(m.a(x).relu().view(-1, 8, 5, 2)), d=conv(8, 2)),
}

NOT_IN_ONNX = {
    # torch writes no operator that the file would need, or computes sizes in it
    "uneven means": image(lambda m, x: m.f(functional.adaptive_avg_pool2d(m.a(x).relu(), (3, 2)).flatten(1)),
                          (3, 8, 5), f=nn.Linear(24, 3)),
    "more than there were": image(lambda m, x: m.c(functional.adaptive_avg_pool2d(m.a(x).relu(), (6, 5)))),
    "unflattened": vector(lambda m, x: m.c(m.a(x).unflatten(1, (4, 3, -1)))),
    "selected": ((3, 8), lambda m, x: m.f(functional.adaptive_avg_pool1d(m.a(x).relu(), 1)[..., 0]),
                 {"a": nn.Conv1d(3, 4, 3), "f": nn.Linear(4, 2)}),
    "whole slice": image(lambda m, x: m.c(m.a(x)[:, 0:4, :, :])),
    "map as a row": image(lambda m, x: m.d(m.a(x).relu().flatten(2)), d=nn.Conv1d(4, 2, 3)),
}


def model_of(name):
    torch.manual_seed(0)
    shape, function, layers = (MODELS | NOT_IN_ONNX)[name]
    return shape, Branches(function, **layers).eval()


@pytest.mark.parametrize(("name", "kind"), [*((name, kind) for name in MODELS for kind in ("pt2", "onnx")),
                                            *((name, "pt2") for name in NOT_IN_ONNX)])
def test_what_is_read_computes_what_torch_computes(tmp_path, name, kind):
    shape, model = model_of(name)
    check(load_network(write(tmp_path, kind, model, shape)), model, shape)


@pytest.mark.parametrize("name", [*MODELS, *NOT_IN_ONNX])
@pytest.mark.parametrize("direct", [False, True])
def test_what_is_compiled_is_close_to_what_torch_computes(tmp_path, name, direct):
    """Every layer of the image is the golden model's, and the golden model is close to the network."""
    shape, model = model_of(name)
    config = replace(PRESETS["conv"], act_table=True, program_depth=1024)
    if direct:
        config = replace(config, direct_weights=True, weight_bits=config.code_bits)
    images = np.random.default_rng(0).random((60, *shape), np.float32)
    network = drop_dead_neurons(load_network(write(tmp_path, "pt2", model, shape)))
    quantized = quantize(share_weights(network, config, None, ShareSettings(epochs=0)), config, images, classes=False)
    back = decode(parse_image(image_file(pack(quantized, config)), config), config).network
    acts = quantize_inputs(quantized, images)
    values = forward(quantized, acts)
    for layer, found, one, two in zip(quantized.layers, back.layers, values, forward(back, acts), strict=True):
        assert np.array_equal(layer.weights, found.weights) and np.array_equal(one, two)
    with torch.no_grad():
        exact = model(torch.from_numpy(images)).flatten(1).numpy()
    assert np.sqrt(np.square(quantized.layers[-1].floats(values[-1]) - exact).mean()) < 0.35 * exact.std()


@pytest.mark.parametrize("layers", [
    [nn.Linear(6, 54), nn.ReLU(), nn.Unflatten(1, (6, 3, 3)), nn.ConvTranspose2d(6, 4, 4, 2, 1), nn.BatchNorm2d(4),
     nn.ReLU(), nn.Upsample(scale_factor=2), conv(4, 3)],
    [nn.Linear(6, 54), nn.Unflatten(1, (6, -1, 3)), nn.UpsamplingNearest2d(size=(6, 9)), nn.AdaptiveAvgPool2d((4, 2)),
     nn.Flatten(), nn.Linear(48, 3)],
], ids=["decoder", "sizes"])
def test_pickled_modules_are_read(tmp_path, layers):
    torch.manual_seed(0)
    model = nn.Sequential(*layers).eval()
    network = check(load_network(write(tmp_path, "pt", model, (6,))), model, (6,))
    assert [layer.fixed for layer in network.layers].count(True) == 2


def test_what_is_saved_is_read_again(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Upsample(scale_factor=2), nn.ConvTranspose2d(4, 2, 2),
                          nn.AdaptiveAvgPool2d((3, 2)), nn.Flatten(), nn.Linear(12, 5)).eval()
    network = load_network(write(tmp_path, "pt2", model, (3, 4, 5)))
    (tmp_path / "saved.safetensors").write_bytes(safetensors_file(network))
    again = check(load_network(tmp_path / "saved.safetensors"), model, (3, 4, 5))
    assert [(layer.name, layer.out_map, layer.fixed, layer.activation) for layer in again.layers] == [
        (layer.name, layer.out_map, layer.fixed, layer.activation) for layer in network.layers]


def test_a_transposed_convolution_is_told_not_to_be_pruned(tmp_path):
    shape, model = model_of("transposed of latents")
    network = load_network(write(tmp_path, "pt2", model, shape))
    assert network.assumptions == (
        ("layer 't' is a transposed convolution, which runs as a fully connected layer: each of its weights is stored "
        "many times, and it is neither pruned nor trained further"),)
    assert [layer.fixed for layer in network.layers] == [True, False]


def test_constants_are_shared_exactly(tmp_path):
    """Windows of 9 and 12 values: two weights, which a codebook holds."""
    shape, model = model_of("uneven means")
    network = load_network(write(tmp_path, "pt2", model, shape))
    layer = next(layer for layer in network.layers if layer.fixed)
    shared = share_weights(network, PRESETS["conv"], None, ShareSettings(epochs=0)).layers[1]
    assert set(layer.weight.ravel()) == {0, *(np.float32(1 / count) for count in (9, 12))}
    assert np.array_equal(shared.weight.astype(np.float32), layer.weight)
    assert shared.fixed and shared.out_map == (4, 3, 2)


def test_a_layer_of_constants_takes_another_into_its_sums(tmp_path):
    shape, model = model_of("upsampled and added")
    layers = load_network(write(tmp_path, "pt2", model, shape)).layers
    assert [layer.fixed for layer in layers] == [False, False, True, False]
    assert layers[2].added == layers[0].name and layers[2].activation is Activation.RELU


def test_a_map_in_memory_keeps_its_neurons(tmp_path):
    """Dead neurons of a layer before a convolution stay; those before a vector's layer go."""
    shape, model = model_of("view")
    with torch.no_grad():
        model.a.weight[7:12] = model.a.bias[7:12] = 0
        model.c.weight[:, 2] = 0
    network = load_network(write(tmp_path, "pt2", model, shape))
    assert drop_dead_neurons(network).layers[0].rows == 60
    check(drop_dead_neurons(network), model, shape)


def test_the_input_of_constant_weights_is_scaled_before_them(tmp_path):
    shape, model = model_of("input upsampled")
    scaled = Branches(lambda m, x: model((x - 0.5) / 2)).eval()
    network = load_network(write(tmp_path, "pt2", scaled, shape))
    assert [layer.name for layer in check(network, scaled, shape).layers][:2] == ["input", "upsample_nearest2d"]
    with pytest.raises(UserError, match=r"constant weights, as a pooling or an upsampling, and the mean 0\.5 and the "):
        fold_normalization(load_network(write(tmp_path, "pt2", model, shape)), 0.5, 2.0)


REFUSED = {
    "too large": (image(lambda m, x: functional.interpolate(m.a(x), scale_factor=32), (3, 12, 12)),
                  ("makes 4 x 384 x 384 values of 4 x 12 x 12, which runs as a fully connected layer; all such layers "
                  "up to this one have 339,738,624 weights, zeros included, more than 268,435,456; use smaller maps or "
                  "fewer channels, or upsample earlier")),
    "too large a transposed convolution": (
        image(lambda m, x: m.t(m.a(x)), (3, 16, 16), t=nn.ConvTranspose2d(4, 64, 16, 16)),
        ("makes 64 x 256 x 256 values of 4 x 16 x 16, which runs as a fully connected layer; all such layers up to "
        "this one have 4,294,967,296 weights, zeros included, more than 268,435,456; use smaller maps or fewer "
        "channels, or a torch.nn.Upsample before a torch.nn.Conv2d")),
    "some channels": (image(lambda m, x: m.c(m.a(x)[:, 1:5]), a=conv(3, 5)),
                      ("is torch.ops.aten.slice.Tensor, which selects some of its values; use all of them, or a "
                      "torch.nn.Conv2d or Linear that leaves out the others")),
    "chunks": (image(lambda m, x: m.c(m.a(x).chunk(2, 1)[0]), a=conv(3, 8)),
               ("is torch.ops.aten.chunk.default, which the engine does not run; see the supported layers in the "
               "README")),
    "batch moved": (image(lambda m, x: m.a(x).permute(1, 0, 2, 3)),
                    ("is torch.ops.aten.permute.default, which moves values into the batch axis, or out of it; use "
                    "torch.nn.Flatten(), which leaves it as it is")),
    "five axes": (image(lambda m, x: m.a(x).view(-1, 2, 2, 4, 5)),
                  ("is torch.ops.aten.view.default to 5 axes; values have one axis behind the batch axis, or channels, "
                  "rows and columns: use torch.nn.Flatten() or torch.nn.Unflatten()")),
    "wide maxima": (image(lambda m, x: functional.max_pool2d(m.a(x), (2, 3))),
                    ("has a window of 2 x 3 and a stride of 2 x 3, but those of max pooling are square here; use one "
                    "number for each, or a torch.nn.AvgPool2d, whose windows may have any shape")),
    "bilinear": (image(lambda m, x: functional.interpolate(m.a(x), scale_factor=2, mode="bilinear")),
                 ("is torch.ops.aten.upsample_bilinear2d.vec, which the engine does not run; see the supported layers "
                 "in the README")),
    "transposed over three axes": (((2, 3, 3, 3), lambda m, x: m.t(x), {"t": nn.ConvTranspose3d(2, 2, 2)}),
                                   "is a transposed convolution over 3 axes; only those over one or two are supported"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused(tmp_path, name):
    (shape, function, layers), problem = REFUSED[name]
    told = refusal(write(tmp_path, "pt2", Branches(function, **layers).eval(), shape)).split("\n")[0]
    assert told.split(" ", 2)[2] == problem


@pytest.mark.parametrize(("layer", "problem"), [
    (nn.ConvTranspose2d(2, 3, 3, padding=4), ("has no outputs: its padding of (4, 4) cuts off all that 2 x 2 x 4 "
                                             "values give; use a smaller padding")),
    (nn.ConvTranspose2d(3, 3, 3), ("takes 3 channels in 1 groups, but gets 2 x 2 x 4 values; check --input-shape and "
                                  "the order of the layers")),
    (nn.Unflatten(2, (1, 2)), ("is an Unflatten of another axis than the one behind the batch axis, or not to "
                              "channels, rows and columns; use torch.nn.Unflatten(1, (channels, rows, columns))")),
    (nn.Unflatten(1, (5, -1)), ("cuts 2 x 2 x 4 values of each input into pieces of 5 x 0, so that one input becomes "
                               "several of the batch; use torch.nn.Flatten(), which leaves the batch axis as it is")),
])
def test_pickled_modules_that_cannot_run_are_refused(tmp_path, layer, problem):
    model = nn.Sequential(nn.Conv2d(1, 2, 1), layer)
    assert refusal(write(tmp_path, "pt", model, (1, 2, 4)), input_shape=(1, 2, 4)) == f"layer '1' {problem}"


@pytest.mark.parametrize(("state", "problem"), [
    ({"mode": "bilinear"}, "is an Upsample of another mode than 'nearest'; use that"),
    ({"scale_factor": -1.0}, ("has a size or a scale_factor that are no whole numbers of at most 65536; save the model "
                             "again")),
    ({"scale_factor": 1.5}, ("makes 3 x 6 values of 2 x 4; only upsampling by whole factors runs: use scale_factor=2 "
                            "or the like")),
])
def test_pickled_upsampling_that_cannot_run_is_refused(tmp_path, state, problem):
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Upsample(scale_factor=3))
    for name, value in state.items():
        setattr(model[1], name, value)
    assert refusal(write(tmp_path, "pt", model, (1, 2, 4)), input_shape=(1, 2, 4)) == f"layer '1' {problem}"


@pytest.mark.parametrize(("auto", "pads"), [("SAME_UPPER", (0, 1, 0, 1)), ("SAME_LOWER", (1, 0, 1, 0))])
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_onnx_poolings_that_pad_by_rule(tmp_path, kind, auto, pads):
    """5 rows and columns by strides of 2 and windows of 2 take one more."""
    kernel = np.random.default_rng(0).normal(size=(3, 2, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["in", "k"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
             helper.make_node(kind, ["b"], ["out"], kernel_shape=[2, 2], strides=[2, 2], auto_pad=auto)]
    network = load_network(onnx_file(tmp_path, nodes, {"k": kernel}, shape=(1, 2, 5, 5)))
    own = Branches(lambda m, x: pooled(functional.conv2d(x, torch.from_numpy(kernel)).relu(), kind, pads)).eval()
    check(network, own, (2, 5, 5))


def pooled(values, kind, pads):
    """The pooling of values above 0, of which an average leaves out the padding."""
    padded = functional.pad(values, pads)
    if kind == "MaxPool":
        return functional.max_pool2d(padded, 2)
    return functional.avg_pool2d(padded, 2) / functional.avg_pool2d(functional.pad(torch.ones_like(values), pads), 2)
