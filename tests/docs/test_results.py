# SPDX-License-Identifier: Apache-2.0
"""docs/results.md is what docs/results.py writes, and its figures are what the named commands wrote."""

import importlib
import json
import re

import pytest

from nonzero.errors import UserError
from rtl.config import PRESETS, EngineConfig
from tests.support.paths import ROOT

DOCS = ROOT / "docs"


@pytest.fixture
def module(monkeypatch):
    """A module that lies in docs/, imported as docs/results.py does."""
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module


def test_the_page_is_the_one_that_the_command_writes(module):
    assert (DOCS / "results.md").read_text() == module("results").page()


def test_every_table_has_its_place_in_the_outline(module):
    outline = (DOCS / "figures" / "outline.md").read_text()
    assert sorted(re.findall(r"\{\{(\w+)\}\}", outline)) == sorted(module("results").TABLES)


def test_the_outline_has_no_figure_of_its_own():
    _, *lines = (DOCS / "figures" / "outline.md").read_text().splitlines()
    prose = "\n".join(line for line in lines if not line.startswith("## "))
    assert "Random matrices" in prose and re.findall(r"(?<![\w-])\d[\d.,]*", prose) == []


def test_figures_were_written_by_the_commands_that_stand_beside_them(module):
    sources = module("figure_tables").SOURCES
    paths = list((DOCS / "figures").glob("*.json"))
    assert len(paths) >= 10
    for path in paths:
        content = json.loads(path.read_text())
        assert content["commands"] == sources[path.stem].commands
        assert not {*sources[path.stem].drop} & {*content["figures"]}
        assert re.findall(r'"/[^"]*"', path.read_text()) == []
    for source in sources.values():
        assert bool(source.committed) != bool(source.writes)
        assert source.read() is not None or not source.committed


def test_figures_of_an_engine_are_of_one_that_there_is_now(module):
    """A configuration's hash covers all of its fields, and a preset's fields may change."""
    found = [(name, source.read()) for name, source in module("figure_tables").SOURCES.items()]
    engines = [(name, one) for name, one in found if isinstance(one, dict) and "config_hash" in one]
    assert len(engines) >= 5
    for name, one in engines:
        config = EngineConfig(**{key: tuple(value) if isinstance(value, list) else value
                                 for key, value in one["config"].items()})
        assert (name, one["config_hash"]) == (name, config.hash.hex())
        assert one.get("preset") not in PRESETS or PRESETS[one["preset"]] == config, name


def test_taken_figures_are_those_of_the_file_without_what_is_dropped(module, tmp_path, monkeypatch):
    tables = module("figure_tables")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "FIGURES", tmp_path)
    (tmp_path / "written.json").write_text('{"seed": 1, "rows": [2]}')
    source = tables.Source("one", ["first", "second"], "written.json", drop=["rows"])
    assert source.read() is None
    source.take()
    assert json.loads((tmp_path / "one.json").read_text()) == {"commands": ["first", "second"], "figures": {"seed": 1}}
    assert source.read() == {"seed": 1}


def test_figures_that_were_not_written_are_not_taken(module, tmp_path, monkeypatch):
    tables = module("figure_tables")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    with pytest.raises(UserError, match=r"none.json cannot be read \(.*\); first run: first; second"):
        tables.Source("one", ["first", "second"], "none.json").take()
    with pytest.raises(UserError, match=r"the figures of one are kept in models/figures.json; nothing is to be taken"):
        tables.Source("one", ["first"], committed="models/figures.json").take()


def test_what_was_not_measured_says_so(module, monkeypatch):
    tables = module("figure_tables")
    monkeypatch.setitem(tables.SOURCES, "here", tables.Source("here", ["run"], committed="models/figures.json"))
    monkeypatch.setitem(tables.SOURCES, "gone", tables.Source("gone", ["run"], "written.json"))
    assert tables.measured("gone", lambda found: "a figure") == "not measured on this version"
    assert tables.measured("here", lambda found: None) == "not measured on this version"
    assert tables.measured("here", lambda found: f"{len(found)} networks") == "3 networks"
