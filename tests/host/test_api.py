# SPDX-License-Identifier: Apache-2.0
"""The toolchain as a library: what it compiles in memory is what the engine computes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from host.api import compile_module, open_image
from host.datasets import Dataset
from host.verification.measure import models
from nonzero.errors import UserError
from rtl.config_file import read_config
from rtl.protocol import COUNTERS


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text('preset = "tiny"\npes = 4\nslice_depth = 512\nentry_depth = 1024\n')
    return read_config(path, "tiny")


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 4))


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).random((40, 6, 6), np.float32)


@pytest.fixture(scope="module")
def compiled(module, inputs, config):
    return compile_module(module, torch.rand(1, 6, 6), config=config, calibration=inputs, name="small")


def test_outputs_are_the_modules_but_for_rounding(compiled, module, inputs):
    found = compiled.golden(inputs)
    with torch.no_grad():
        wanted = module(torch.from_numpy(inputs)).numpy()
    assert found.integers.shape == (40, 4) and found.integers.dtype == np.int64
    np.testing.assert_array_equal(found.floats, found.integers * found.scale)
    # Weights of 4-bit codes: a tenth of the outputs' range.
    assert np.abs(found.floats - wanted).max() < 0.1 * np.ptp(wanted)


def test_rtl_gives_golden_outputs_and_the_predicted_counters(compiled, inputs):
    golden, engine = compiled.golden(inputs[:3]), compiled.run(inputs[:3])
    np.testing.assert_array_equal(engine.integers, golden.integers)
    np.testing.assert_array_equal(engine.floats, golden.floats)
    assert set(engine.counters) == set(COUNTERS)
    for name in COUNTERS:
        np.testing.assert_array_equal(engine.counters[name], golden.counters[name])
    for number, values in zip(compiled.image.readable, engine.layers, strict=True):
        np.testing.assert_array_equal(values, golden.layers[number])


def test_an_engine_that_differs_is_no_result(compiled, inputs, monkeypatch):
    def wrong(decoded, acts):
        right = models(decoded, acts)
        return replace(right, layers=[*right.layers[:-1], right.layers[-1] + 1])
    monkeypatch.setattr("host.engine_network.models", wrong)
    with pytest.raises(UserError, match=r"outputs of 2 of 2 inputs, counters: none"):
        compiled.run(inputs[:2])


def test_an_image_file_is_the_same_network_without_a_scale(compiled, inputs, config, tmp_path):
    compiled.save(tmp_path / "model.img")
    found = open_image(tmp_path / "model.img", config)
    assert found.check is None and compiled.check.reference == "the float network 'small', as it was read"
    golden = found.golden(inputs)
    np.testing.assert_array_equal(golden.integers, compiled.golden(inputs).integers)
    with pytest.raises(UserError, match="does not tell the scale of its outputs"):
        _ = golden.floats
    with pytest.raises(UserError, match=r"was made for configuration [0-9a-f]{16}, no preset's; give the EngineConfig"):
        open_image(tmp_path / "model.img")


def test_golden_vectors_are_saved(compiled, inputs, tmp_path):
    compiled.save_vectors(tmp_path / "vectors.npz", inputs[:5])
    with np.load(tmp_path / "vectors.npz") as vectors:
        golden = compiled.golden(inputs[:5])
        np.testing.assert_array_equal(vectors["inputs"], compiled.quantize(inputs[:5]))
        np.testing.assert_array_equal(vectors["layer0"], golden.layers[0])
        np.testing.assert_array_equal(vectors["layer1"], golden.integers)
        np.testing.assert_array_equal(vectors["cycles"], golden.counters["cycles"])
        assert vectors["image"].tobytes() == compiled.image.engine
        assert vectors["names"].tobytes() == b'["1", "3"]'


def test_labelled_images_of_ones_own_are_taken(module, inputs, config):
    labels = np.random.default_rng(1).integers(0, 4, 40)
    data = Dataset("mine", inputs, labels, inputs[:10], labels[:10])
    told = []
    compiled = compile_module(module, torch.rand(1, 6, 6), config=config, data=data, density=0.5, progress=told.append)
    assert compiled.compilation.network.weights_kept == 400
    assert any(line.startswith("verify: every weight read back") for line in told)
    assert set(compiled.compilation.test_errors) == {"dense", "pruned", "shared", "engine"}


def test_the_module_is_left_as_it_was(inputs, config):
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    compile_module(module, torch.rand(1, 6, 6), config=config, calibration=inputs)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(("given", "message"), [
    (np.zeros((2, 35)), r"inputs must be \[n, 36\], as the network takes them, not \[2, 35\]"),
    (np.zeros(36), r"inputs must be \[n, 36\], as the network takes them, not \[36\]"),
    (np.full((1, 36), np.nan), "inputs must be finite; remove infinities and NaN"),
])
def test_inputs_that_do_not_fit_are_refused(compiled, given, message):
    with pytest.raises(UserError, match=message):
        compiled.golden(given)


def test_modules_that_cannot_run_are_refused(config):
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x
    with pytest.raises(UserError, match=r"the module cannot be exported by torch\.export"):
        compile_module(Branching(), torch.rand(1, 4), config=config)
    with pytest.raises(UserError, match="selu"):
        compile_module(nn.Sequential(nn.Linear(4, 4), nn.SELU(), nn.Linear(4, 2)), torch.rand(1, 4), config=config)
    with pytest.raises(UserError, match="this network can run on an engine with act_table = true"):
        compile_module(nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2)), torch.rand(1, 4), config=config)
