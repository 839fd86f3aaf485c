# SPDX-License-Identifier: Apache-2.0
"""What a refusal advises is true: the whole message, and that the network runs once the advice is taken."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from host.importers.load_network import load_network
from host.importers.torch_archive import EXPORT
from tests.support.model_files import Own, check, problems, write

SHAPE = (2, 8, 8)


def ended(values, *modules):
    return nn.Sequential(nn.Conv2d(2, 4, 3), *modules, nn.Flatten(), nn.Linear(values, 3))


def mean(axes):
    return Own(lambda net, x: net.b(net.a(x).relu().mean(axes).flatten(1)), a=nn.Conv2d(2, 4, 3),
               b=nn.Linear(4 if len(axes) == 2 else 36, 3))


OBLONG = ("layer 'max_pool2d' has a window of 2 x 1 and a stride of 2 x 1, but those of max pooling are square here; "
          "use one number for each, or a torch.nn.AvgPool2d, whose windows may have any shape")
ADVISED = {
    # name: the kind of file, the network, its refusal, the network as advised
    "stride above the window": (
        "pt2", lambda: ended(16, nn.ReLU(), nn.MaxPool2d(2, 3)),
        ("layer 'max_pool2d' has windows 2 wide and 3 apart, but those of max pooling are at most as far apart here as "
         "they are wide; use a stride of at most 2, or one in the convolution before it"),
        lambda: ended(36, nn.ReLU(), nn.MaxPool2d(2, 2))),
    "wide windows": (
        "pt2", lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(16)),
        ("layer 'max_pool2d' has windows 16 wide, but those of max pooling are at most 15 wide here; use such, or "
         "several poolings"), lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(4), nn.MaxPool2d(4))),
    "oblong windows": ("pt2", lambda: ended(72, nn.ReLU(), nn.MaxPool2d((2, 1))), OBLONG,
                       lambda: ended(36, nn.ReLU(), nn.MaxPool2d(2))),
    "oblong windows, means": ("pt2", lambda: ended(72, nn.ReLU(), nn.MaxPool2d((2, 1))), OBLONG,
                              lambda: ended(72, nn.ReLU(), nn.AvgPool2d((2, 1)))),
    "upsampling by a fraction": (
        "pt2", lambda: ended(324, nn.Upsample(scale_factor=1.5)),
        ("layer 'upsample_nearest2d' makes 9 x 9 values of 6 x 6; only upsampling by whole factors runs: use "
         "scale_factor=2 or the like"), lambda: ended(576, nn.Upsample(scale_factor=2))),
    "greatest values of windows that differ": (
        "pt2", lambda: ended(64, nn.ReLU(), nn.AdaptiveMaxPool2d(4)),
        ("layer 'adaptive_max_pool2d' gives 4 x 4 values of 6 x 6, for which its windows differ in size; use images "
         "for which they do not, a torch.nn.MaxPool2d, or torch.nn.AdaptiveAvgPool2d, which runs for any sizes"),
        lambda: ended(64, nn.ReLU(), nn.AdaptiveAvgPool2d(4))),
    "slopes of channels": (
        "pt2", lambda: ended(144, slopes(4)),
        "layer 'prelu' is a PReLU of 4 slopes; only one for all channels runs: use torch.nn.PReLU()",
        lambda: ended(144, nn.PReLU())),
    "linear on columns": (
        "pt2", lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Linear(6, 4)),
        ("layer '2' takes 6 inputs, but the layer before it, '0', gives 4 x 6 x 6 values; put torch.nn.Flatten() "
         "between, and train it on all 144"), lambda: ended(144, nn.ReLU())),
    "mean of channels": (
        "pt2", lambda: mean((1,)),
        ("layer 'mean' is a mean over other axes than rows and columns, and only those of feature maps run, as "
         "torch.nn.AdaptiveAvgPool2d(1) takes them"), lambda: mean((2, 3))),
    "greatest of channels": (
        "onnx", lambda: Own(lambda net, x: net.b(net.a(x).amax(1).flatten(1)), a=nn.Conv2d(2, 4, 3),
                            b=nn.Linear(36, 3)),
        ("layer '/ReduceMax' is a maximum over other axes than rows and columns, and only those of feature maps run, "
         "as torch.nn.AdaptiveMaxPool2d(1) takes them"), lambda: ended(4, nn.AdaptiveMaxPool2d(1))),
    "max pooling over one axis": (
        "pt2", lambda: nn.Sequential(nn.Conv2d(2, 4, (1, 3)), nn.MaxPool2d((1, 2)), nn.ReLU()),
        ("layer 'max_pool2d' is a max pooling over one axis, of values that may be negative; the engine's windows are "
         "square, so that zeros beside the row would count: put the ReLU before it"),
        lambda: nn.Sequential(nn.Conv2d(2, 4, (1, 3)), nn.ReLU(), nn.MaxPool2d((1, 2)))),
    "part of a tensor": (
        "pt2", lambda: Own(lambda net, x: net.b(net.a(x).chunk(2, 1)[1].flatten(1)), a=nn.Conv2d(2, 4, 3),
                           b=nn.Linear(72, 3)),
        ("layer 'chunk' is torch.ops.aten.chunk.default, which the engine does not run; see the supported layers in "
         "the README"), None),
}


def slopes(count):
    module = nn.PReLU(count)
    with torch.no_grad():
        module.weight[0] = 0.5
    return module


@pytest.mark.parametrize("name", ADVISED)
def test_advice_is_true(tmp_path, name):
    torch.manual_seed(5)
    kind, build, told, advised = ADVISED[name]
    shape = {"wide windows": (2, 18, 18), "max pooling over one axis": (2, 1, 12)}.get(name, SHAPE)
    assert problems(write(tmp_path, kind, build().eval(), shape)) == [told]
    if advised is not None:
        model = advised().eval()
        check(load_network(write(tmp_path, kind, model, shape)), model, shape)


@pytest.mark.parametrize(("module", "values"), [
    (nn.Conv1d(2, 4, 3), 40), (nn.ConvTranspose1d(2, 4, 3), 56), (nn.AvgPool1d(2), 12), (nn.AdaptiveAvgPool1d(1), 2),
    (nn.ConstantPad1d((0, 0), 0.0), 24)])
def test_what_a_saved_module_does_not_tell_runs_as_pt2(tmp_path, module, values):
    model = nn.Sequential(module, nn.Flatten(), nn.Linear(values, 3)).eval()
    assert problems(write(tmp_path, "pt", model, (2, 12)))[0] == (
        f"layer '0' is a torch.nn.{type(module).__name__}, which is read only from a graph; save it as .pt2: {EXPORT}")
    if not isinstance(module, nn.ConstantPad1d):
        check(load_network(write(tmp_path, "pt2", model, (2, 12))), model, (2, 12))


@pytest.mark.parametrize("kind", ["pt", "pt2", "onnx"])
@pytest.mark.parametrize("function", [nn.CELU(), nn.RReLU(0.1, 0.3)])
def test_other_names_of_functions_that_run(tmp_path, kind, function):
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(6, 5), function, nn.Linear(5, 3)).eval()
    check(load_network(write(tmp_path, kind, model, (6,))), model, (6,))


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_what_is_negated_and_constants_that_are_reshaped(tmp_path, kind):
    torch.manual_seed(7)
    model = Own(lambda net, x: net.b(-functional.relu(-net.a(x - net.m.view(1, 2, 1, 1))).flatten(1)),
                a=nn.Conv2d(2, 4, 3), b=nn.Linear(144, 3), m=torch.tensor([0.5, 0.25])).eval()
    check(load_network(write(tmp_path, kind, model, SHAPE)), model, SHAPE)


def test_another_alpha_of_celu_is_refused(tmp_path):
    model = nn.Sequential(nn.Linear(6, 5), nn.CELU(0.5))
    assert problems(write(tmp_path, "pt2", model, (6,))) == [
        "layer 'celu' is a CELU of another alpha than 1; use torch.nn.ELU"]
