# SPDX-License-Identifier: Apache-2.0
"""Model files that load: in whatever form, the network computes what torch computes."""

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from host.importers.load_network import load_network
from rtl.numbers import Activation
from tests.support.model_files import LEGACY, saved
from tests.support.torch_models import assert_same, computed, plain, trained

FORMATS = [{}, LEGACY, {"pickle_protocol": 4}, {"pickle_protocol": 5}]


@pytest.mark.parametrize("options", FORMATS)
def test_every_format_of_torch_save_loads_the_same_network(tmp_path: Path, options: dict) -> None:
    model = plain()
    for value in (model, model.state_dict(), {"epoch": 3, "model_state_dict": model.state_dict()}):
        network = load_network(saved(tmp_path, value, **options))
        assert network.name == "model"
        assert [layer.name for layer in network.layers] == ["0", "2", "4"]
        assert [layer.activation for layer in network.layers] == [Activation.RELU] * 2 + [Activation.IDENTITY]
        for layer in network.layers:
            np.testing.assert_array_equal(layer.weight, model[int(layer.name)].weight.detach())
            np.testing.assert_array_equal(layer.bias, model[int(layer.name)].bias.detach())
            assert layer.weight.dtype == layer.bias.dtype == np.float32
            assert layer.weight.flags.writeable and layer.bias.flags.writeable


def test_safetensors_load_in_the_order_of_numbers(tmp_path: Path) -> None:
    weights = {f"fc{index}.weight": torch.randn(4, 4) for index in range(1, 12)}
    save_file(weights, tmp_path / "model.safetensors")
    network = load_network(tmp_path / "model.safetensors")
    assert [layer.name for layer in network.layers] == [f"fc{index}" for index in range(1, 12)]
    np.testing.assert_array_equal(network.layers[9].weight, weights["fc10.weight"])
    np.testing.assert_array_equal(network.layers[9].bias, np.zeros(4))
    assert [layer.activation for layer in network.layers[9:]] == [Activation.RELU, Activation.IDENTITY]


def test_a_safetensors_file_is_recognised_without_its_suffix(tmp_path: Path) -> None:
    model = plain()
    save_file(model.state_dict(), tmp_path / "model.bin")
    assert_same(load_network(tmp_path / "model.bin"), model)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_normalisation_folds_and_neutral_layers_vanish(tmp_path: Path, affine: bool) -> None:
    model = trained(nn.Flatten(), nn.Dropout(), nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5, affine=affine),
                    nn.ReLU(), nn.Identity(), nn.Linear(5, 4), nn.Linear(4, 3), nn.BatchNorm1d(3, eps=0.5))
    network = load_network(saved(tmp_path, model))
    assert [layer.activation for layer in network.layers] == [Activation.RELU] + [Activation.IDENTITY] * 2
    assert_same(network, model)


def test_a_state_dictionary_implies_relus_and_the_usual_eps(tmp_path: Path) -> None:
    model = trained(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    assert_same(load_network(saved(tmp_path, model.state_dict())), model)


def test_nested_sequentials_and_a_final_relu(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.ReLU()),
                          nn.Sequential(nn.Linear(5, 4), nn.ReLU()))
    network = load_network(saved(tmp_path, model))
    assert [layer.name for layer in network.layers] == ["0.0", "1.0"]
    assert network.layers[-1].activation is Activation.RELU
    assert_same(network, model)


@pytest.mark.parametrize("softmax", [nn.Softmax(dim=1), nn.LogSoftmax(dim=-1)])
def test_a_final_softmax_is_dropped(tmp_path: Path, softmax: nn.Module) -> None:
    model = plain()
    assert_same(load_network(saved(tmp_path, nn.Sequential(*model, softmax))), model)


def test_a_single_linear_layer(tmp_path: Path) -> None:
    model = nn.Linear(6, 3)
    for value in (model, model.state_dict()):
        network = load_network(saved(tmp_path, value))
        assert [layer.name for layer in network.layers] == ["linear"]
        assert_same(network, model)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_stripped(tmp_path: Path, prefix: str) -> None:
    state = {prefix + key: value for key, value in plain().state_dict().items()}
    network = load_network(saved(tmp_path, state))
    assert [layer.name for layer in network.layers] == ["0", "2", "4"]


def test_a_name_made_of_prefixes_is_no_endless_work(tmp_path: Path) -> None:
    network = load_network(saved(tmp_path, {"module." * 50_000 + "weight": torch.eye(2)}))
    assert len(network.layers[0].name) > 300_000


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("options", [{}, LEGACY, None])
def test_other_float_formats_become_float32(tmp_path: Path, dtype: torch.dtype, options: dict | None) -> None:
    state = {key: value.to(dtype) for key, value in plain().state_dict().items()}
    path = tmp_path / "model.pt"
    if options is None:
        save_file(state, path)
    else:
        torch.save(state, path, **options)
    network = load_network(path)
    assert [layer.name for layer in network.layers] == ["0", "2", "4"]
    for layer in network.layers:
        np.testing.assert_array_equal(layer.weight, state[f"{layer.name}.weight"].float())
        np.testing.assert_array_equal(layer.bias, state[f"{layer.name}.bias"].float())


def test_pruned_tensors_are_multiplied_out(tmp_path: Path) -> None:
    model = plain()
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    prune.random_unstructured(model[2], "bias", amount=0.5)
    network = load_network(saved(tmp_path, model.state_dict()))
    assert network.layers[0].weights_kept == 15
    assert_same(network, model)


@pytest.mark.parametrize("options", [{}, LEGACY])
def test_views_and_shared_storages_read_the_right_values(tmp_path: Path, options: dict) -> None:
    storage = torch.arange(40.0)
    state = {"a.weight": storage[3:27].view(6, 4).T, "b.weight": storage[::5].view(2, 4),
             "c.weight": storage[16:20].view(2, 2), "c.bias": storage[16:18]}
    network = load_network(saved(tmp_path, state, **options))
    for layer in network.layers:
        np.testing.assert_array_equal(layer.weight, state[f"{layer.name}.weight"])
    np.testing.assert_array_equal(network.layers[2].bias, [16, 17])


@pytest.mark.parametrize("options", [{}, LEGACY])
def test_other_entries_of_a_checkpoint_are_ignored(tmp_path: Path, options: dict) -> None:
    model = plain()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(2, 6)).sum().backward()
    optimizer.step()
    value = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "model": "a name",
             "rng": torch.get_rng_state(), "args": argparse.Namespace(rate=0.1), "best": np.float64(0.98),
             "history": OrderedDict(loss=[0.5, 0.25], sizes=(torch.Size([2]), {1, 2}, torch.int64, 1j)),
             (28, 28): "a key that is no string"}
    assert_same(load_network(saved(tmp_path, value, **options)), model)


def test_the_normalisation_of_the_inputs_folds_into_the_first_layer(tmp_path: Path) -> None:
    model = plain()
    with torch.no_grad():
        model[0].weight[1, 2] = 0
    network = load_network(saved(tmp_path, model), normalize=(0.1307, 0.3081))
    assert network.layers[0].weight[1, 2] == 0
    samples = np.random.default_rng(3).random((20, 6), np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy((samples - np.float32(0.1307)) / np.float32(0.3081))).numpy()
    np.testing.assert_allclose(computed(network, samples), expected, rtol=1e-4, atol=1e-5)
