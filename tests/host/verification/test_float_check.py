# SPDX-License-Identifier: Apache-2.0
"""The comparison of a compiled network with floats: figures are torch's, and losses are put where they belong."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from host.api import compile_module
from host.compression.share_weights import ShareSettings, share_weights
from host.datasets import Dataset
from host.network.layers import Linear, Network
from host.quantization.losses import float_values, integer_values
from host.quantization.quantize import quantize
from host.verification.float_check import AGREEMENT, OUTPUTS, READING, Labelled, Step, float_check
from host.verification.reference import Reference, own_reference
from nonzero.errors import ResultError
from rtl.config import PRESETS
from rtl.numbers import Activation

RNG = np.random.default_rng(3)
INPUTS = RNG.normal(0, 1, (200, 20)).astype(np.float32)
NEVER_TUNED = ShareSettings(epochs=0)


def made(*sizes):
    """A chain of linear layers with ReLU between them, whose inputs decide more than their biases."""
    torch.manual_seed(2)
    parts = [part for cols, rows in itertools.pairwise(sizes) for part in (nn.Linear(cols, rows), nn.ReLU())]
    for linear in parts[::2]:
        linear.weight.data *= 3
    return nn.Sequential(*parts[:-1]).eval()


def outputs_of(weights, biases, inputs=INPUTS):
    """Outputs of each layer, by torch in float64."""
    values, found = torch.from_numpy(inputs).double(), []
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        values = functional.linear(values, torch.from_numpy(weight).double(), torch.from_numpy(bias).double())
        values = values if number == len(weights) - 1 else values.relu()
        found.append(values)
    return found


def of_layers(layers):
    return outputs_of([layer.weight for layer in layers], [layer.bias for layer in layers])


def differing(first, second):
    """Percent of the inputs whose greatest output is another one."""
    return 100 * float((first.argmax(1) != second.argmax(1)).double().mean())


def test_the_figures_are_those_of_torch():
    module = made(20, 30, 25, 6)
    compiled = compile_module(module, torch.rand(1, 20), config=PRESETS["tiny"], calibration=INPUTS, density=0.4,
                              name="three")
    work, check = compiled.compilation, compiled.check
    linears = [(one.weight.detach().numpy(), one.bias.detach().numpy()) for one in module[::2]]
    dense = outputs_of(*zip(*linears, strict=True))
    pruned, whole = of_layers(work.pruned.network.layers), of_layers(work.pruned.whole.layers)
    shared = of_layers(work.shared.layers)
    golden = compiled.golden(INPUTS)
    engine = [torch.from_numpy(values * layer.output_scale) for values, layer
              in zip(golden.layers, work.quantized.layers, strict=True)]

    assert (check.reference, check.inputs) == ("the float network 'three', as it was read", 200)
    assert check.layers == ("0", "2", "4")
    assert check.agreement == pytest.approx(1 - differing(engine[-1], dense[-1]) / 100) and check.agreement < 1
    assert check.relative_error == pytest.approx(float((engine[-1] - dense[-1]).norm() / dense[-1].norm()), rel=1e-4)
    lost = [0.0, *(differing(one[-1], dense[-1]) for one in (pruned, shared, engine))]
    assert [step.name for step in check.steps] == ["pruning", "weight sharing", "quantisation"]
    assert [step.points for step in check.steps] == pytest.approx(list(np.diff(lost))) and check.points == lost[-1] > 2
    assert {step.unit for step in check.steps} == {AGREEMENT} == {check.unit}
    for step, before, after in zip(check.steps, (dense, pruned, shared), (whole, shared, engine), strict=True):
        change = float((after[-1] - before[-1]).norm() / before[-1].norm())
        assert step.change == pytest.approx(change, rel=1e-3)
        ratios = [10 * float(torch.log10(one.square().sum() / (other - one).square().sum()))
                  for one, other in zip(before, after, strict=True)]
        assert step.snr_db == pytest.approx(ratios, abs=0.01)
    clipped = [float(((values > (127.5 if number == 2 else 255.5) * layer.output_scale)
                      | (values < (-128.5 if number == 2 else -0.5) * layer.output_scale)).double().mean())
               for number, (values, layer) in enumerate(zip(shared, work.quantized.layers, strict=True))]
    assert check.clipped == pytest.approx(clipped) and max(clipped) > 0
    assert check.worst.name == "pruning" and check.where == f"pruning, in layer '{check.worst_layer}'"
    assert check.text() == (
        f"the greatest output is the same on {100 * check.agreement:.2f} % of 200 inputs, relative error "
        f"{100 * check.relative_error:.2f} %, beside the float network 'three', as it was read; {lost[-1]:.2f} points "
        f"of agreement lost; the worst step is {check.where}")


def test_a_file_of_outputs_is_compared_too(tmp_path):
    """It is the module's, but for a shift of the inputs that the module lacks: reading loses it."""
    module = made(20, 30, 5)
    with torch.no_grad():
        shifted, plain = module(torch.from_numpy(INPUTS - 0.5)), module(torch.from_numpy(INPUTS))
    compiled = compile_module(module, torch.rand(1, 20), config=PRESETS["tiny"], calibration=INPUTS,
                              check=(INPUTS, shifted.numpy()), sharing=NEVER_TUNED)
    check, engine = compiled.check, torch.from_numpy(compiled.golden(INPUTS).floats)
    assert check.reference == "the outputs in the arrays" and check.worst.name == check.where == READING
    assert check.worst_layer is None and check.worst.snr_db == ()
    assert check.worst.points == pytest.approx(differing(plain, shifted)) and check.worst.points > 20
    assert check.worst.change == pytest.approx(float((plain - shifted).norm() / shifted.norm()), rel=1e-4)
    assert check.agreement == pytest.approx(1 - differing(engine, shifted) / 100)
    assert check.points == pytest.approx(differing(engine, shifted))
    np.savez(tmp_path / "pairs.npz", inputs=INPUTS, outputs=shifted.numpy())
    again = compile_module(module, torch.rand(1, 20), config=PRESETS["tiny"], calibration=INPUTS,
                           check=str(tmp_path / "pairs.npz"), sharing=NEVER_TUNED)
    assert again.check == replace(check, reference=f"the outputs in '{tmp_path / 'pairs.npz'}'")
    with pytest.raises(ResultError, match=r"points of agreement are lost, but --max-loss is 20: reading the"):
        compile_module(module, torch.rand(1, 20), config=PRESETS["tiny"], calibration=INPUTS, max_loss=20,
                       check=(INPUTS, shifted.numpy()), sharing=NEVER_TUNED)


@pytest.mark.parametrize("ending", [torch.softmax, torch.log_softmax])
def test_probabilities_are_compared_with_probabilities(ending):
    module = made(20, 30, 5)
    with torch.no_grad():
        wanted = ending(module(torch.from_numpy(INPUTS)), 1)
    compiled = compile_module(module, torch.rand(1, 20), config=PRESETS["tiny"], calibration=INPUTS,
                              check=(INPUTS, wanted.numpy()), sharing=NEVER_TUNED)
    engine = ending(torch.from_numpy(compiled.golden(INPUTS).floats), 1)
    assert compiled.check.relative_error == pytest.approx(float((engine - wanted).norm() / wanted.norm()), rel=1e-3)
    assert compiled.check.steps[0].name == READING and compiled.check.steps[0].change < 1e-5


@pytest.mark.parametrize("outputs, bias", [(1, 0.0), (3, 60.0), (20, 0.0)])
def test_values_are_compared_by_their_variance(outputs, bias):
    """One output, several of which one is always the greatest, and as many as the inputs."""
    module = made(20, 30, outputs)
    with torch.no_grad():
        module[2].bias[0] += bias
        wanted = module(torch.from_numpy(INPUTS)).double()
    compiled = compile_module(module, torch.rand(1, 20), config=PRESETS["tiny"], calibration=INPUTS,
                              sharing=NEVER_TUNED)
    engine, check = torch.from_numpy(compiled.golden(INPUTS).floats), compiled.check
    mean = wanted.mean() if outputs == 20 else wanted.mean(0)
    lost = float((engine - wanted).square().sum() / (wanted - mean).square().sum())
    assert check.unit == OUTPUTS and check.points == pytest.approx(100 * min(1, lost), rel=1e-3) and check.points > 0.05
    assert check.agreement == {1: None, 3: 1.0, 20: None}[outputs]
    assert check.text().startswith("the greatest output is the same on 100.00 %" if outputs == 3 else "relative error")


def test_pixels_are_values():
    torch.manual_seed(3)
    module, images = nn.Sequential(nn.Conv2d(1, 3, 3)).eval(), RNG.normal(size=(50, 1, 8, 8)).astype(np.float32)
    compiled = compile_module(module, torch.rand(1, 1, 8, 8), config=PRESETS["conv"], calibration=images)
    with torch.no_grad():
        wanted = module(torch.from_numpy(images)).numpy()
    errors = compiled.golden(images).floats - wanted.reshape(50, -1)
    assert compiled.check.unit == OUTPUTS and compiled.check.agreement is None
    assert compiled.check.points == pytest.approx(100 * np.square(errors).mean() / wanted.var(), rel=1e-3)
    assert 0 < compiled.check.points < 3


def layer(name, rows, cols, activation=Activation.RELU):
    return Linear(name, RNG.normal(0, 1 / np.sqrt(cols), (rows, cols)).astype(np.float32),
                  RNG.normal(0, 0.1, rows).astype(np.float32), activation)


NETWORK = Network("small", (layer("a", 30, 20), layer("b", 30, 30), layer("c", 5, 30, Activation.IDENTITY)))
SHARED = share_weights(NETWORK, PRESETS["default"], settings=NEVER_TUNED)
QUANTIZED = quantize(SHARED, PRESETS["default"], INPUTS)


def checked(network, labelled=None, reference=None, quantized=QUANTIZED):
    """The comparison of `NETWORK`, of which a first step makes ``network``, and then the integers ``quantized``."""
    return float_check(reference or own_reference(NETWORK, INPUTS), NETWORK, [
        Step("pruning", NETWORK, float_values(network)),
        Step("quantisation", SHARED.as_network(), integer_values(quantized))], quantized, labelled)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_the_layer_that_lost_most_is_named(name):
    noise = [RNG.normal(size=one.weight.shape).astype(np.float32) * (one.name == name) for one in NETWORK.layers]
    layers = [replace(one, weight=one.weight + more) for one, more in zip(NETWORK.layers, noise, strict=True)]
    check = checked(replace(NETWORK, layers=tuple(layers)))
    assert (check.worst.name, check.worst_layer) == ("pruning", name)
    assert [ratio == np.inf for ratio in check.worst.snr_db] == [other < name for other in "abc"]
    spoilt = [replace(one, bias=one.bias + 20000 * (one.name == name)) for one in QUANTIZED.layers]
    check = checked(NETWORK, quantized=replace(QUANTIZED, layers=tuple(spoilt)))
    assert (check.worst.name, check.worst_layer) == ("quantisation", name)
    assert check.steps[0].points == check.steps[0].change == 0


def test_test_figures_decide_where_there_are_any():
    others = Reference("the outputs in 'f'", INPUTS, own_reference(NETWORK, INPUTS[::-1].copy()).outputs)
    labelled = Labelled("test error", [3.0, 9.5, 8.0])
    check = checked(NETWORK, labelled)
    assert [(step.points, step.unit) for step in check.steps] == [(6.5, "test error"), (-1.5, "test error")]
    assert (check.points, check.unit, check.worst.name) == (5.0, "test error", "pruning")
    # What the file says otherwise counts on top.
    check = checked(NETWORK, labelled, others)
    wrong = 100 * (own_reference(NETWORK, INPUTS).outputs.argmax(1) != others.outputs.argmax(1)).mean()
    assert check.steps[0].points == pytest.approx(wrong) and wrong > 1
    assert check.points == pytest.approx(wrong + 5) and check.unit == "agreement and test error"
    assert checked(NETWORK, Labelled("test error", [0.0, 200.0, 300.0])).points == 100


def test_labels_of_a_compilation_are_used():
    module, labels = made(20, 30, 5), RNG.integers(0, 5, 200)
    data = Dataset("mine", INPUTS, labels, INPUTS[:150], labels[:150])
    work = compile_module(module, torch.rand(1, 20), config=PRESETS["tiny"], data=data, sharing=NEVER_TUNED).compilation
    errors = [work.test_errors[form] for form in ("dense", "shared", "engine")]
    assert work.check.points == pytest.approx(errors[2] - errors[0]) and work.check.unit == "test error"
    assert [step.points for step in work.check.steps] == pytest.approx(np.diff(errors))
    targets = RNG.normal(size=(200, 5)).astype(np.float32)
    data = Dataset("mine", INPUTS, targets, INPUTS[:150], targets[:150])
    work = compile_module(module, torch.rand(1, 20), config=PRESETS["tiny"], data=data, sharing=NEVER_TUNED).compilation
    explained = [work.test_metrics[form]["r2"] for form in ("dense", "shared", "engine")]
    assert work.check.points == pytest.approx(100 * (explained[0] - explained[2]))
    assert work.check.unit == "R2 on the test data"
