# SPDX-License-Identifier: Apache-2.0
"""Layers that an engine cannot run are named before any training, all at once; the engines named instead run them."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from host import compile as host_compile
from host.compilation.state import Settings
from host.compilation.steps import compile_model, kept_share
from host.network.activations import clamp, elu, gelu, sigmoid, silu, tanh
from host.network.layers import Conv2d, Geometry, Linear, Network
from host.packing.engine_check import check_engine
from nonzero.errors import UserError, run_command
from rtl.config import PRESETS, preset
from rtl.config_file import read_config
from rtl.numbers import Activation


def fully_connected(*sizes, density=1.0):
    rng = np.random.default_rng(0)
    layers = [Linear(f"fc{number}", (rng.normal(size=(rows, cols)) * (rng.random((rows, cols)) < density))
                     .astype(np.float32), np.zeros(rows, np.float32),
                     Activation.RELU if number < len(sizes) - 1 else Activation.IDENTITY)
              for number, (cols, rows) in enumerate(itertools.pairwise(sizes), start=1)]
    return Network("net", tuple(layers))


def decoder():
    """A fully connected layer whose outputs are a map, and a convolution that takes it."""
    first, = fully_connected(6, 32).layers
    return Network("net", (replace(first, out_map=(2, 4, 4)), Conv2d(
        "conv", np.ones((3, 18), np.float32), np.zeros(3, np.float32), Activation.IDENTITY,
        Geometry((2, 4, 4), (3, 3)))))


def test_a_map_of_a_fully_connected_layer_fits():
    assert check_engine(decoder(), PRESETS["conv"], "conv", None) == []


def convolution(channels, size, rows, kernel=3, pool=1, then=()):
    geometry = Geometry((channels, size, size), (kernel, kernel), pool=pool, pool_stride=pool)
    rng = np.random.default_rng(0)
    first = Conv2d("conv1", rng.normal(size=(rows, channels * kernel ** 2)).astype(np.float32),
                   np.zeros(rows, np.float32), Activation.RELU, geometry)
    if not then:
        return Network("net", (first,))
    return Network("net", (first, *fully_connected(first.outputs, *then).layers))


def with_function(network, function):
    """The network with this activation function behind all its layers."""
    return replace(network, layers=tuple(replace(layer, activation=function) for layer in network.layers))


def problems(network, config, kept=None, name="here"):
    with pytest.raises(UserError) as caught:
        check_engine(network, config, name, kept)
    return caught.value.problems


def named(problem, directory, base):
    """The configurations that the last problem names."""
    if found := re.fullmatch(r"this network can run on preset (.*); use --preset", problem):
        return [preset(name) for name in found[1].split(" or ")]
    found = re.fullmatch(r"this network can run on an engine with (.*); write that into a file for --config", problem)
    (directory / "named.toml").write_text(found[1].replace(", ", "\n"))
    return [read_config(directory / "named.toml", base)]


@pytest.fixture
def problem_files(tmp_path):
    """A convolutional network and data that it can learn."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    torch.save(model, tmp_path / "model.pt")
    images, labels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    return tmp_path


@pytest.mark.parametrize("name", ["default", "tiny", "wide"])
def test_a_convolution_is_refused_before_training(problem_files, capsys, monkeypatch, name):
    for step in ("prune", "share_weights"):
        monkeypatch.setattr(f"host.compilation.steps.{step}", lambda *_: pytest.fail("trained"))
    command = [str(problem_files / "model.pt"), "--data", f"npz:{problem_files / 'data.npz'}", "-o",
               str(problem_files / "out"), "--preset", name]
    assert run_command(host_compile.main, command) == 2
    error = capsys.readouterr().err
    assert f"layer '0' is a convolution, preset '{name}' has fully connected layers only" in error
    assert "error: this network can run on preset conv; use --preset\n" in error
    assert not (problem_files / "out").exists()


def test_all_problems_come_at_once(problem_files, capsys):
    """Problems of the data, of the calibration and of the engine."""
    np.save(problem_files / "calib.npy", np.zeros((3, 7, 7), np.uint8))
    with np.load(problem_files / "data.npz") as arrays:
        np.savez(problem_files / "data.npz", **{**arrays, "y_test": arrays["y_test"] + 5})
    assert run_command(host_compile.main, [
        str(problem_files / "model.pt"), "--data", f"npz:{problem_files / 'data.npz'}", "--calib",
        f"npy:{problem_files / 'calib.npy'}", "-o", str(problem_files / "out")]) == 2
    error = capsys.readouterr().err
    for part in ("has labels up to 6", "calibration inputs must have 64 values each", "is a convolution"):
        assert part in error


@pytest.mark.parametrize("network, start, changes, message", [
    (fully_connected(20, 9000, 5), "default", {"act_depth": 256}, "words of activation memory"),
    (fully_connected(20, *[20] * 40, 5), "default", {}, "brings the program to"),
    (fully_connected(20, 30, 5), "tiny", {"slice_depth": 4}, "brings the slice memory to"),
    (fully_connected(20, 3000), "tiny", {"entry_depth": 64}, "of weight memory in each PE"),
    (convolution(1, 60, 4), "conv", {}, "needs 3364 accumulators in each PE for the 58 x 58 outputs"),
    (convolution(16, 60, 64), "default", {}, "is a convolution"),
    (convolution(2, 30, 3, pool=2, then=(4,)), "conv", {"act_depth": 64}, "words of activation memory"),
    (with_function(fully_connected(20, 30, 5), sigmoid()), "default", {}, "takes a table, preset"),
    (with_function(fully_connected(20, 1500, 5), gelu()), "tiny", {}, "takes a table, preset"),
    (with_function(fully_connected(20, 30, 5), tanh()), "default", {"act_bits": 16}, "takes a table, preset"),
    (with_function(convolution(2, 30, 3, pool=2, then=(4,)), silu()), "default", {}, "takes a table, preset"),
    (with_function(fully_connected(20, 30, 30, 30, 30, 30, 5), elu()), "tiny", {}, "takes a table, preset"),
])
def test_what_is_named_instead_runs_the_network(tmp_path, network, start, changes, message):
    """The network is packed as it is, with all its weights and neurons."""
    lines = [f"{key} = {value}" for key, value in changes.items()]
    (tmp_path / "start.toml").write_text("\n".join([f'preset = "{start}"', *lines]))
    config = read_config(tmp_path / "start.toml")
    found = problems(network, config)
    assert any(message in problem for problem in found[:-1])
    engines = named(found[-1], tmp_path, start)
    assert engines and all(check_engine(network, engine, "named", None) is not None for engine in engines)


def test_a_clamp_from_zero_runs_on_every_engine():
    network = with_function(fully_connected(20, 30, 5), clamp(0, 6))
    assert check_engine(network, PRESETS["tiny"], "tiny", None) == []
    assert problems(with_function(network, clamp(-1, 6)), PRESETS["tiny"])[-1] \
        == "this network can run on an engine with act_table = true; write that into a file for --config"


def test_pruning_takes_out_neurons_and_no_more():
    """What may fit gives a note; what fits for no density is refused: outputs, the map of a channel, a pass a layer."""
    config = PRESETS["tiny"]
    wide = fully_connected(20, 4000, 5)
    assert any("words of activation memory" in problem for problem in problems(wide, config))
    doubts = check_engine(wide, config, "tiny", 0.1)
    assert any(one.startswith("unless pruning takes out neurons, layer 'fc1' needs 1") for one in doubts)
    assert check_engine(fully_connected(20, 40, 5), config, "tiny", 0.1) == []
    assert "needs 1001 words of activation memory" in problems(fully_connected(20, 30, 4000), config, 0.1)[0]
    deep = fully_connected(20, *[20] * 40, 5)
    assert "brings the program to" in problems(deep, PRESETS["default"], 0.1)[0]
    assert "needs 3364 accumulators" in problems(convolution(1, 60, 4), PRESETS["conv"], 0.1)[0]


def test_weights_that_will_not_fit_are_said_first(tmp_path):
    config = PRESETS["tiny"]
    network = fully_connected(600, 500, 10)
    holds = config.pes * config.entry_depth * config.entries_per_word
    assert check_engine(network, config, "tiny", 0.3) == []
    (note,) = check_engine(network, config, "tiny", 0.5)
    assert note.startswith(f"{round(0.5 * network.weights_total)} weights will not fit: the weight memory of preset "
                           f"'tiny' holds {holds} at most")
    (note,) = check_engine(network, config, "tiny", None)
    assert note.startswith(f"{network.weights_total} weights will not fit")
    torch.save({f"{layer.name}.{what}": torch.from_numpy(getattr(layer, what)) for layer in network.layers
                for what in ("weight", "bias")}, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"lower --density to 0\.4"):
        compile_model(Settings(tmp_path / "model.pt", config, "tiny", density=0.5))


def test_a_network_for_no_engine_at_all_is_told_so():
    assert problems(convolution(1, 300, 2), PRESETS["conv"])[-1] == \
        "no engine can run this network; make its layers or its inputs smaller"


def test_settings_tell_the_share_of_weights_that_stays(tmp_path):
    network = fully_connected(20, 30, 5)
    settings = Settings(tmp_path, PRESETS["default"])
    assert kept_share(settings, network) == 0.08
    for change, expected in (({"density": 0.3}, 0.3), ({"quality": 1.0}, 0.0), ({"prune": False}, None),
                             ({"keep": {"fc1": 0.5}}, (0.5 * 600 + 150) / 750)):
        assert kept_share(replace(settings, **change), network) == expected
