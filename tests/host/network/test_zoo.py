# SPDX-License-Identifier: Apache-2.0
"""Networks of the zoo: their sizes, and that the importer reads each as torch computes it."""

import numpy as np
import pytest
import torch
from torch import nn

from host.importers.load_network import load_network
from host.network.zoo import KNOWN, NETWORKS, build, empty, sizes
from host.quantization.losses import float_values, last_values
from host.train import main as train
from nonzero.errors import run_command

WEIGHTS = {"resnet-8": 77_360, "mobilenet-v1-0.25": 208_112, "ds-cnn": 22_016, "autoencoder": 264_192}
"""Those of MLPerf Tiny, without biases and batch normalisations."""

GRAPHS = [name for name in NETWORKS if name not in KNOWN]


@pytest.mark.parametrize("name", WEIGHTS)
def test_networks_of_mlperf_tiny_have_its_weights(name):
    counted = sum(module.weight.numel() for module in empty(name).modules()
                  if isinstance(module, (nn.Linear, nn.Conv2d)))
    assert counted == WEIGHTS[name]


@pytest.mark.parametrize("name", GRAPHS)
def test_a_trained_network_is_read_as_torch_computes_it(name, tmp_path):
    torch.manual_seed(1)
    model = build(name)
    inputs = torch.rand(4, *model.input_shape)
    for _ in range(3):
        model(inputs + torch.randn_like(inputs))    # means and variances of the normalisations
    torch.export.save(torch.export.export(model.eval(), (inputs[:1],)), tmp_path / "m.pt2")
    network = load_network(tmp_path / "m.pt2")
    assert (network.inputs, network.outputs) == sizes(model)
    with torch.no_grad():
        exact = model(inputs).numpy()
    assert np.allclose(last_values(float_values(network), inputs.numpy()), exact, rtol=1e-3, atol=1e-3 * exact.std())


def data(directory, shape, targets=False):
    rng = np.random.default_rng(0)
    images = rng.random((80, *shape)).astype(np.float32)
    labels = rng.random((80, 640)).astype(np.float32) if targets else rng.integers(0, 2, 80)
    names = ("train_targets", "test_targets") if targets else ("train_labels", "test_labels")
    np.savez(directory / "d.npz", x_train=images[:60], x_test=images[60:], **{names[0]: labels[:60],
                                                                              names[1]: labels[60:]})
    return f"npz:{directory / 'd.npz'}"


@pytest.mark.parametrize(("name", "shape"), [("ds-cnn-1d", (10, 49)), ("autoencoder", (640,))])
def test_training_writes_a_graph_with_its_normalisations_settled(name, shape, tmp_path, capsys):
    spec = data(tmp_path, shape, targets=name == "autoencoder")
    output = tmp_path / "out.pt2"
    status = run_command(train, [name, "--data", spec, "-o", str(output), "--epochs", "2", "--batch", "20",
                                 "--no-augment"])
    assert status == 0
    assert ("test mean squared error" if name == "autoencoder" else "test error") in capsys.readouterr().out
    assert load_network(output).inputs == np.prod(shape)


def test_a_graph_needs_a_file_that_tells_it(tmp_path, capsys):
    status = run_command(train, ["resnet-8", "--data", "mnist", "-o", str(tmp_path / "r.pt")])
    assert status == 2
    assert capsys.readouterr().err == (
        f"error: output '{tmp_path / 'r.pt'}' must end with .pt2, since only a graph tells how the layers of resnet-8 "
        f"are connected; give -o {tmp_path / 'r.pt2'}\n")
    assert not list(tmp_path.iterdir())


def test_an_autoencoder_learns_targets(tmp_path, capsys):
    status = run_command(train, ["autoencoder", "--data", data(tmp_path, (640,)), "-o", str(tmp_path / "a.pt2")])
    assert status == 2
    assert "this network of the zoo needs targets, but the labels of dataset" in capsys.readouterr().err
