# SPDX-License-Identifier: Apache-2.0
"""Networks and boards' files are found in any directory, and the package names all of them."""

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from host.compression.recipe import read_recipe
from nonzero.shipped import CONSTRAINTS, MODELS, given_or_shipped
from rtl.config_file import read_engine
from tests.support.paths import ROOT


def test_a_model_that_is_not_here_is_the_shipped_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert given_or_shipped("models/lenet-5.safetensors") == MODELS / "lenet-5.safetensors"
    assert capsys.readouterr().err == (f"note: there is no 'models/lenet-5.safetensors' here, so "
                                       f"'{MODELS / 'lenet-5.safetensors'}' is read\n")
    assert read_recipe("models/lenet-5.toml") == read_recipe(str(MODELS / "lenet-5.toml"))
    assert read_engine("default", given_or_shipped("models/four.toml")).pes == 4


def test_a_model_that_is_here_goes_before(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "lenet-5.safetensors").touch()
    for name in ("models/lenet-5.safetensors", "lenet-5.toml", "models/none.toml", "other/models/lenet-5.toml"):
        assert given_or_shipped(name) == Path(name)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("package", "directory"), [("nonzero.constraints", CONSTRAINTS), ("nonzero.models", MODELS)])
def test_the_wheel_has_the_files(package, directory):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert (ROOT / settings["package-dir"][package]).samefile(directory)
    patterns = settings["package-data"][package]
    assert [path.name for path in directory.iterdir()
            if not any(fnmatch(path.name, pattern) for pattern in patterns)] == ["README.md"]


def test_the_wheel_has_all_packages():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for top in ("host", "nonzero", "rtl", "sim")
             for path in (ROOT / top).rglob("__init__.py")}
    assert found == set(listed) - {"nonzero.constraints", "nonzero.models"}
