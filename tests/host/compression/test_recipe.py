# SPDX-License-Identifier: Apache-2.0
"""Recipes by name and from files."""

from dataclasses import replace

import pytest

from host.compression.recipe import DENSITY, RECIPES, PruneSettings, read_recipe, with_amount
from nonzero.errors import UserError
from tests.support.stripes import network


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_in_range_and_takes_35_epochs(name):
    recipe = with_amount(read_recipe(name), density=0.1)
    recipe.check(network())
    assert (recipe.rounds - 1) * recipe.round_epochs + recipe.final_epochs == 35


def test_a_file_changes_fields(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('recipe = "han"\nquality = { fc1 = 1.5 }\nrounds = 3\naugment = 1\n'
                    'freeze = [["fc1"], ["fc2", "fc3"]]\n')
    assert read_recipe(str(path)) == replace(RECIPES["han"], quality={"fc1": 1.5}, rounds=3, augment=1,
                                             freeze=(("fc1",), ("fc2", "fc3")))
    path.write_text("neurons = { fc1 = 10 }\nbroadcasts = 80")
    assert read_recipe(str(path)) == PruneSettings(neurons={"fc1": 10}, broadcasts=80)
    path.write_text("")
    assert read_recipe(str(path)) == PruneSettings()


@pytest.mark.parametrize(("text", "message"), [
    ("round = 3", "there is no field 'round'"),
    ("rounds = 1.5", "rounds must be a int like 20, not 1.5"),
    ("schedule = 1", "schedule must be a str like 'geometric', not 1"),
    ("distill = true", "distill must be a float like 0.0, not True"),
    ("density = 'low'", "density must be a number, not 'low'"),
    ("broadcasts = { fc1 = 10 }", "broadcasts must be a number, not {'fc1': 10}"),
    ("keep = 0.5", "keep must be a table of numbers by layer, not 0.5"),
    ("neurons = { fc1 = 1.5 }", "neurons must be a table of whole numbers by layer, not {'fc1': 1.5}"),
    ("quality = [1]", "quality must be a number, or a table of numbers by layer, not [1]"),
    ("freeze = ['fc1']", "freeze must be a list of lists of layer names, not ['fc1']"),
    ("recipe = 'best'", "must start from one of default, han"),
    ("rounds = ", "is not TOML"),
])
def test_bad_recipe_files_are_refused(tmp_path, text, message):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_recipe(str(path))
    assert f"recipe '{path}'" in str(caught.value) and message in str(caught.value)


def test_unknown_recipes_are_refused():
    with pytest.raises(UserError, match=r"recipe must be one of default, han, .* or a \.toml file, not 'best'"):
        read_recipe("best")
    with pytest.raises(UserError, match=r"recipe 'none\.toml' cannot be read: No such file"):
        read_recipe("none.toml")


def test_a_recipe_without_an_amount_gets_the_usual_density():
    own = PruneSettings(quality=1.0)
    assert with_amount(own) == own and with_amount(own, keep={"a": 0.5}) == PruneSettings(keep={"a": 0.5})
    assert with_amount(PruneSettings()).density == DENSITY
