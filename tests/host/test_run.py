# SPDX-License-Identifier: Apache-2.0
"""Which engine an image runs on: its own, unless another is named."""

import json
from dataclasses import replace

import numpy as np
import pytest

from host import run as host_run
from host.packing.image_writer import image_file
from host.packing.pack import pack
from nonzero.errors import run_command
from rtl.config import PRESETS
from tests.support.images import perfect_batch
from tests.support.networks import random_network


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Images for two presets and for an engine that has no name, and data; the engine is the golden model."""
    for name, config in (("tiny", PRESETS["tiny"]), ("wide", PRESETS["wide"]),
                         ("own", replace(PRESETS["tiny"], act_depth=128))):
        network = random_network(np.random.default_rng(5), config, [20, 8, 3], 0.4)
        (tmp_path / f"{name}.img").write_bytes(image_file(pack(network, config)))
    (tmp_path / "own.toml").write_text('preset = "tiny"\nact_depth = 128\n')
    images, labels = np.random.default_rng(0).integers(0, 256, (9, 20), np.uint8), np.arange(9) % 3
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    monkeypatch.setattr("host.verification.measure.run_batch", perfect_batch)
    return tmp_path


def run(place, name, *options):
    return run_command(host_run.main, [str(place / f"{name}.img"), "--data", f"npz:{place / 'data.npz'}", "--limit",
                                       "9", "--verify", *options])


@pytest.mark.parametrize("name", ["tiny", "wide"])
def test_an_image_runs_on_the_preset_that_it_was_made_for(place, capsys, name):
    assert run(place, name, "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["device"], figures["mismatches"], figures["images"]) == (f"sim:{name}", 0, 9)


def test_an_engine_that_is_named_is_checked(place, capsys):
    assert run(place, "tiny", "--device", "sim:tiny") == 0
    capsys.readouterr()
    own = replace(PRESETS["tiny"], act_depth=128)
    for device, has in (("sim:default", "preset default"), ("sim:ulx3s-85f", "preset default"),
                        (f"sim:{place / 'own.toml'}", f"configuration {own.hash.hex()}")):
        assert run(place, "tiny", "--device", device) == 2
        error = capsys.readouterr().err
        assert f"was made for preset tiny, the engine has {has}; compile the model with the engine's --preset" in error


def test_an_engine_without_a_name_has_to_be_named(place, capsys):
    """The option that the refusal names works."""
    assert run(place, "own") == 2
    assert "no preset's; name the --config file of its compilation: --device sim:FILE.toml" in capsys.readouterr().err
    assert run(place, "own", "--device", f"sim:{place / 'own.toml'}") == 0


def test_inputs_that_are_clipped_are_said(place, capsys):
    images, labels = np.full((9, 20), -3, np.float32), np.zeros(9, np.int64)
    np.savez(place / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert run(place, "tiny") == 0
    assert "note: 100.0% of the inputs are clipped: " in capsys.readouterr().err
