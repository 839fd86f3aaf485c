# SPDX-License-Identifier: Apache-2.0
"""The toolchain's benchmark, on small layers."""

import importlib.util
import json

import pytest

from host.bench.__main__ import main
from host.bench.encode import VGG_LAYERS, draw_network
from host.compression.prune import prune
from host.compression.recipe import RECIPES, with_amount
from nonzero.errors import run_command
from tests.support.stripes import dataset, network, write_files


def test_layers_have_their_sizes_and_densities():
    network = draw_network(8)
    assert [layer.name for layer in VGG_LAYERS] == ["VGG-6", "VGG-7", "VGG-8"]
    for layer, drawn in zip(VGG_LAYERS, network.layers, strict=True):
        assert (drawn.name, drawn.cols, drawn.rows) == (layer.name, layer.inputs // 8, layer.outputs // 8)
        assert drawn.weights_kept / drawn.codes.size == pytest.approx(layer.weight_density, rel=0.05)


def test_the_encode_command_measures_packing(tmp_path, capsys):
    assert run_command(main, ["encode", "--scale", "16", "-o", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    found = json.loads((tmp_path / "encode.json").read_text())
    assert f"{found['weights_total']:,} weights packed in" in text and str(tmp_path / "encode.json") in text
    assert found["weights_kept"] == sum(layer["weights_kept"] for layer in found["layers"]) > 10_000
    assert found["pack_seconds"] > 0 and found["image_seconds"] > 0 and found["peak_gib"] > 0
    assert (found["over_scipy"] is None) == (importlib.util.find_spec("scipy") is None)


def test_an_output_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_command(main, ["encode", "--scale", "16", "-o", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_recipes_are_compared_by_held_out_error(tmp_path, capsys):
    model, data = write_files(tmp_path, network())
    names = ["default", "magnitude", "han"]
    arguments = [option for name in names for option in ("--recipe", name)]
    assert run_command(main, ["recipes", model, "--data", data, "--density", "0.1", "--seeds", "2", *arguments,
                              "-o", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    found = json.loads((tmp_path / "recipes.json").read_text())
    errors = [one["held_out_error"] for one in found["recipes"]]
    assert errors == sorted(errors) and sorted(one["name"] for one in found["recipes"]) == sorted(names)
    for one in found["recipes"]:
        results = [prune(network(), dataset(), with_amount(RECIPES[one["name"]], 0.1), seed) for seed in (0, 1)]
        assert one["held_out_errors"] == [result.history[-1].held_out_errors[-1] for result in results]
        assert one["weights_kept"] == sum(result.network.weights_kept for result in results) / 2
        assert one["name"] in text and f"{one['held_out_error']:.2f}" in text and one["seconds"] > 0
    assert found["recipes"][0]["epochs"] <= 35 and text.endswith(f"{tmp_path / 'recipes.json'}\n")


def test_an_unknown_recipe_is_refused_before_any_work(tmp_path, capsys):
    model, data = write_files(tmp_path, network())
    assert run_command(main, ["recipes", model, "--data", data, "--recipe", "best", "-o", str(tmp_path)]) == 2
    assert "recipe must be one of default, han" in capsys.readouterr().err
