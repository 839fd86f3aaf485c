# SPDX-License-Identifier: Apache-2.0
"""Training, pruning and weight sharing of convolutions, on a small problem and against torch by itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from host.compilation.state import Settings
from host.compilation.steps import compile_model
from host.compression.layer_densities import spread_density
from host.compression.prune import prune
from host.compression.recipe import PruneSettings
from host.compression.retrain import Retraining
from host.compression.saliency import saliencies
from host.compression.share_weights import ShareSettings, share_weights
from host.importers.load_network import load_network
from host.network.dead_neurons import drop_dead_neurons, silence_dead_neurons
from host.network.layers import Conv2d, Geometry, Linear, Network
from host.network.zoo import build
from host.sensitivity import scan
from host.training.forward import TorchLayer, error_of, logits, tensors, weighted_sums
from nonzero.errors import UserError
from rtl.numbers import Activation
from tests.support.killed import killed_after
from tests.support.networks import CONVOLUTIONS, WIDE_TAPS
from tests.support.stripes import dataset, same, with_weights

POOLED = (4, Geometry((1, 7, 7), (3, 3), padding=(1, 1), pool=2, pool_stride=2))
OVERLAPPING = (6, Geometry((1, 7, 7), (2, 3), stride=(1, 2), pool=3, pool_stride=1))
SECOND = (6, Geometry((4, 3, 3), (2, 2)))
PADDED = (5, Geometry((4, 3, 3), (3, 3), padding=(1, 1)))
GROUPS = (6, Geometry((4, 3, 3), (2, 2), groups=2))

SHORT = PruneSettings(density=0.25, rounds=3, final_epochs=6, batch=50, learning_rate=0.01, final_learning_rate=0.02,
                      augment=0.3)


def network(*convolutions, activation=Activation.RELU, seed=0):
    """Convolutions, each with its output channels, and a fully connected layer of three classes."""
    rng = np.random.default_rng(seed)
    layers: list[Linear] = []
    for number, (rows, geometry) in enumerate(convolutions):
        cols = geometry.in_shape[0] // geometry.groups * geometry.kernel[0] * geometry.kernel[1]
        layers.append(Conv2d(f"conv{number + 1}", rng.normal(0, cols ** -0.5, (rows, cols)).astype(np.float32),
                             rng.normal(0, 0.1, rows).astype(np.float32), activation, geometry))
    cols = layers[-1].outputs
    layers.append(Linear("fc", rng.normal(0, cols ** -0.5, (3, cols)).astype(np.float32), np.zeros(3, np.float32),
                         Activation.IDENTITY))
    return Network("small", tuple(layers))


def outputs(net, seed=1):
    inputs = torch.from_numpy(np.random.default_rng(seed).uniform(size=(30, net.inputs)))
    return logits([layer._replace(weight=layer.weight.double(), bias=layer.bias.double())
                   for layer in tensors(net)], inputs).numpy()


def test_outputs_are_those_of_torch_modules():
    torch.manual_seed(0)
    model = build("lenet-5")
    inputs = torch.rand(4, 784)
    layers = []
    geometries = (Geometry((1, 28, 28), (5, 5), pool=2, pool_stride=2),
                  Geometry((20, 12, 12), (5, 5), pool=2, pool_stride=2), None, None)
    for name, geometry in zip(("conv1", "conv2", "fc1", "fc2"), geometries, strict=True):
        module, activation = getattr(model, name), Activation.IDENTITY if name == "fc2" else Activation.RELU
        layers.append(TorchLayer(module.weight.detach().flatten(1), module.bias.detach(), activation, geometry,
                                 len(layers) - 1))
    assert torch.allclose(logits(layers, inputs), model(inputs), atol=1e-6)
    assert torch.allclose(model(inputs.view(4, 1, 28, 28)), model(inputs))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_trained_network_of_the_zoo_loads(tmp_path, suffix):
    torch.manual_seed(0)
    model = build("lenet-5")
    path = tmp_path / f"model{suffix}"
    if suffix == ".pt":
        torch.save({"network": "lenet-5", "state_dict": model.state_dict()}, path)
    else:
        from safetensors.torch import save_file
        save_file(model.state_dict(), path)
    net = load_network(path, known="lenet-5")
    assert net.assumptions == ("read as LeNet-5: ReLU, max pooling, as --known lenet-5 says",)
    inputs = torch.rand(4, 784)
    assert [layer.name for layer in net.layers] == ["conv1", "conv2", "fc1", "fc2"]
    assert net.weights_total == 430_500
    assert torch.allclose(logits(tensors(net), inputs), model(inputs), atol=1e-6)


def test_a_network_of_the_zoo_with_bad_values_is_refused(tmp_path):
    state = build("lenet-5").state_dict()
    state["conv1.weight"][0, 0, 0, 0] = torch.nan
    state["fc2.bias"][0] = torch.inf
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(UserError, match="layer 'conv1': its weight has 1 NaN") as caught:
        load_network(tmp_path / "model.pt", known="lenet-5")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("convolutions", [(POOLED, SECOND), (POOLED, GROUPS), (POOLED, PADDED), (OVERLAPPING,)])
def test_fisher_is_the_mean_square_of_the_gradient(convolutions):
    net, data = network(*convolutions), dataset(120)
    layers = [layer._replace(weight=layer.weight.double().requires_grad_(), bias=layer.bias.double())
              for layer in tensors(net)]
    sums = [torch.zeros_like(weight) for weight, *_ in layers]
    for image, label in zip(data.train_images, data.train_labels, strict=True):
        loss = functional.cross_entropy(logits(layers, torch.from_numpy(image.reshape(1, -1) / 255)),
                                        torch.tensor([label]))
        for total, gradient in zip(sums, torch.autograd.grad(loss, [weight for weight, *_ in layers]), strict=True):
            total += gradient ** 2
    found = saliencies("fisher", net, data.train_images, data.train_labels)
    for one, total, (weight, *_) in zip(found, sums, layers, strict=True):
        assert np.allclose(one, (total / 20 * weight ** 2 / 2).detach().numpy(), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("convolution", [PADDED, GROUPS, SECOND])
def test_obd_sums_over_the_connections_that_share_a_weight(convolution):
    """The same network with every connection written out as a fully connected layer is the reference."""
    rows, geometry = convolution
    net = network((rows, replace(geometry, in_shape=(4, 7, 7))))
    conv = net.layers[0]

    def written_out(weight):
        sums = weighted_sums(torch.eye(conv.inputs), torch.from_numpy(weight), torch.zeros(rows), conv.geometry)
        return sums.flatten(1).T.numpy()
    pixels = conv.outputs // rows
    dense = Network("dense", (Linear("conv1", written_out(conv.weight), np.repeat(conv.bias, pixels),
                                     Activation.RELU), net.layers[1]))
    images = np.random.default_rng(2).uniform(size=(40, 196)).astype(np.float32)
    labels = np.zeros(40, np.int64)
    by_connection, last = saliencies("obd", dense, images, labels)
    found = saliencies("obd", net, images, labels)
    assert np.allclose(found[1], last, rtol=1e-4)
    for place in np.ndindex(conv.weight.shape):
        one = np.zeros_like(conv.weight)
        one[place] = 1
        assert np.isclose(found[0][place], by_connection[written_out(one) == 1].sum(), rtol=1e-3)


@pytest.mark.parametrize("convolutions", [(POOLED, SECOND), (POOLED, GROUPS), (POOLED, PADDED), (POOLED,)])
@pytest.mark.parametrize("activation", [Activation.RELU, Activation.IDENTITY])
def test_dead_channels_go_and_the_function_stays(convolutions, activation):
    net = network(*convolutions, activation=activation)
    first, second = net.layers[0].weight.copy(), net.layers[1].weight.copy()
    first[[0, 2]] = 0  # constant: one positive, one negative
    groups = net.layers[1].geometry.groups if net.layers[1].geometry else 1
    second.reshape(groups, len(second) // groups, 4 // groups, -1)[-1, :, -1] = 0  # the last channel is not heard
    net = with_weights(net, {"conv1": first, net.layers[1].name: second},
                       {"conv1": np.array([0.3, 0.1, -0.2, 0.4], np.float32)})
    silenced, dropped = silence_dead_neurons(net), drop_dead_neurons(net)
    for cleaned in (silenced, dropped):
        assert np.allclose(outputs(cleaned), outputs(net), atol=1e-5)
    assert silenced.weights_kept == dropped.weights_kept < net.weights_kept
    assert not silenced.layers[0].weight[3].any() and not silenced.layers[0].bias[3]
    # What a constant other than zero adds differs where a kernel hangs over the border.
    constants = [] if convolutions[1:] != (PADDED,) else [0, 2] if activation.signed else [0]
    assert silenced.layers[0].bias.nonzero()[0].tolist() == sorted([1, *constants])
    if groups == 1:
        assert dropped.layers[0].rows == 1 + len(constants)
        assert dropped.layers[1].inputs == dropped.layers[0].outputs
    else:
        assert dropped.layers[0].rows == 4


def test_density_is_spread_by_channels_and_edges_of_kernels():
    keep = spread_density(network(POOLED, SECOND), 0.5)
    lengths = {"conv1": 4 + 1 + 3 + 3, "conv2": 6 + 4 + 2 + 2, "fc": 24 + 3}
    sizes = {"conv1": 36, "conv2": 96, "fc": 72}
    assert sum(keep[name] * size for name, size in sizes.items()) == pytest.approx(0.5 * 204)
    assert keep["conv1"] / keep["conv2"] == pytest.approx(lengths["conv1"] / 36 / (lengths["conv2"] / 96))


def test_pruned_and_shared_convolutions_learn():
    net, data = network(POOLED, SECOND), dataset()

    def error(one):
        layers = tensors(one)
        return error_of(lambda inputs: logits(layers, inputs), data.test_images, data.test_labels)
    pruned = prune(net, data, SHORT).network
    assert pruned.weights_kept <= 0.25 * net.weights_total and error(net) > 30 and error(pruned) < 5
    assert all(type(after) is kind for kind, after in zip((Conv2d, Conv2d, Linear), pruned.layers, strict=True))
    for config in (CONVOLUTIONS, WIDE_TAPS):
        settings = ShareSettings(epochs=2, batch=50)
        shared = share_weights(pruned, config, data, settings).as_network()
        assert [layer.geometry for layer in shared.layers] == [layer.geometry for layer in pruned.layers]
        assert [layer.outputs for layer in shared.layers] == [layer.outputs for layer in pruned.layers]
        assert error(shared) < 5
    assert [layer.name for layer in scan(pruned, data, [0.5]).layers] == ["conv1", "conv2", "fc"]


def dying():
    """A network of which two channels and some of its pruned weights are dead already."""
    net = network((12, POOLED[1]), (16, replace(SECOND[1], in_shape=(12, 3, 3))))
    first, second = (layer.weight.copy() for layer in net.layers[:2])
    first[2] = 0
    second[[1, 4]] = 0
    second[0, ::3] = 0
    return with_weights(net, {"conv1": first, "conv2": second})


def test_training_without_dead_channels_is_training_with_them(monkeypatch):
    net, data = silence_dead_neurons(dying()), dataset()
    settings = replace(SHORT, density=0.12, augment=0.0, neurons={})
    shapes = []
    run = Retraining.run

    def spy(self, *arguments):
        shapes.append([weight.shape for weight in self.weights])
        run(self, *arguments)
    monkeypatch.setattr(Retraining, "run", spy)
    small = prune(net, data, settings).network
    assert shapes[-1] < shapes[0] < [(12, 9), (16, 48)]
    whole = prune(net, data, replace(settings, neurons=None)).network
    assert shapes[-1][:2] == [(12, 9), (16, 48)]
    for one, other in zip(small.layers, whole.layers, strict=True):
        assert np.allclose(one.weight, other.weight, atol=1e-3) and np.allclose(one.bias, other.bias, atol=1e-3)
        assert np.array_equal(one.weight != 0, other.weight != 0)


def test_what_adam_knows_about_living_channels_stays():
    net = dying()
    retraining = Retraining(net, dataset(), replace(SHORT, neurons={}), 0)
    names = [layer.name for layer in net.layers]
    retraining.begin(net, names)
    retraining.run(1, lambda _: 0.01, None, lambda: None)
    before, trained = retraining.adam_state(), retraining.network()
    first = trained.layers[0].weight.copy()
    first[7] = 0
    retraining.begin(silence_dead_neurons(with_weights(trained, {"conv1": first})), names)
    after = retraining.adam_state()
    assert [len(one) for one in after] == [3] * 6 and len(retraining.weights[0]) == 10
    dead = np.isin(np.arange(12), [2, 7])
    for key in ("exp_avg", "exp_avg_sq"):
        was, now = (state[0][key].numpy().reshape(12, 9) for state in (before, after))
        assert was[7].any() and not now[dead].any() and np.array_equal(now[~dead], was[~dead])
    assert np.array_equal(before[5]["exp_avg"], after[5]["exp_avg"])


@pytest.mark.parametrize("epochs", [1, 3, 6])
def test_training_goes_on_after_a_kill_without_its_dead_channels(tmp_path, monkeypatch, epochs):
    """Going on gives the same bits."""
    settings, path = replace(SHORT, density=0.12, neurons={"conv1": 9}), tmp_path / "pruning.checkpoint"
    whole = prune(dying(), dataset(), settings).network
    with killed_after(epochs, monkeypatch):
        prune(dying(), dataset(), settings, 0, path)
    assert same(prune(dying(), dataset(), settings, 0, path).network, whole)


@pytest.mark.parametrize("allocation", ["global", "uniform", "erdos-renyi"])
def test_the_weights_of_a_pooling_stay(tmp_path, allocation):
    """The layers around a pooling are pruned, retrained, shared and fine-tuned."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    torch.save(model, tmp_path / "model.pt")
    net, data = load_network(tmp_path / "model.pt", input_shape=(1, 7, 7)), dataset()
    pruned = prune(net, data, replace(SHORT, allocation=allocation, rounds=2, final_epochs=2)).network
    blindly = prune(net, None, replace(SHORT, allocation=allocation)).network
    for one in (pruned, blindly):
        mean = one.layers[1]
        # Of channels without weights before or behind it, nothing is left.
        assert mean.fixed and mean.weight.any() and (mean.weight[mean.weight.any(axis=1)] == 0.25).all()
        others = [layer for layer in one.layers if not layer.fixed]
        assert sum(layer.weights_kept for layer in others) <= 0.25 * (36 + 108) + 1
    shared = share_weights(pruned, CONVOLUTIONS, data, ShareSettings(epochs=2, batch=50)).layers[1]
    assert set(shared.weight.ravel().tolist()) <= {0, 0.25} and not shared.bias.any()
    assert [layer.name for layer in scan(net, data, [0.5]).layers] == ["0", "4"]


def test_convolutions_are_compiled_from_floats_to_the_image_and_back(monkeypatch):
    """The network is given as floats in memory, without a file or its loader."""
    net, data = network(POOLED, SECOND), dataset()
    monkeypatch.setattr("host.compilation.steps.load_with_data", lambda *arguments, **options: (net, data))
    monkeypatch.setattr("host.compilation.steps.read_recipe", lambda name: SHORT)
    work = compile_model(Settings(Path("small.pt"), CONVOLUTIONS, density=0.25, data="stripes"))
    assert work.test_errors["engine"] < 5
    assert work.prediction is not None and work.prediction.counters["cycles"].min() > 0
