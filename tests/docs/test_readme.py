# SPDX-License-Identifier: Apache-2.0
"""README.md is one screen, and what it and docs/reference/engines.md say of engines is so."""

import json
import tomllib

from host.run import table
from nonzero.shipped import CONSTRAINTS
from rtl.config import PRESETS
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()


def table_rows(text, header):
    """Cells of the table below this header."""
    lines = text[text.index(header):].split("\n\n")[0].splitlines()
    assert set(lines[1]) <= set("|- ") and len(lines) > 3
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def test_it_is_short():
    before, command, _ = README.partition("```\nmake demo")
    assert command and len(before.split()) <= 120
    assert len(README.splitlines()) <= 110


def test_its_demo_gives_the_figures_that_it_shows():
    (block,) = [block for block in README.split("```") if "images run" in block]
    *shown, report = block.strip().splitlines()
    assert report == "report: build/demo/report.html"
    rtl = json.loads((ROOT / "docs" / "figures" / "ready.json").read_text())["figures"]["rtl"]
    assert len(shown) == 5 and set(shown) < set(table(rtl).splitlines())


def test_its_boards_are_those_of_the_baselines():
    measured = set()
    for path in CONSTRAINTS.glob("baseline_*.json"):
        found = json.loads(path.read_text())
        preset = next(name for name, config in PRESETS.items() if config.hash.hex() == found["config_hash"])
        measured.add((found["board"], f"`{preset}`, {found['pes']} PEs", f"{found['fmax_mhz']:g}",
                      f"{found['luts']:,}"))
    shown = {(board.split("`")[1], engine.removesuffix(", convolutions"), clock, luts)
             for board, engine, clock, luts in table_rows(README, "| board | engine |")}
    assert len(shown) >= 5 and shown <= measured


def test_its_tree_is_that_of_the_checkout():
    block = README[README.index("## Where things are"):].split("```")[1]
    listed = [line.split("/")[0] for line in block.strip().splitlines()]
    hidden_or_made = {"build"}
    found = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "." and any(path.iterdir())}
    assert len(listed) == 8 and set(listed) == {name for name in found - hidden_or_made
                                                if not name.endswith((".egg-info", "__pycache__"))}


def test_the_presets_are_those_of_the_configuration():
    def kib(bits):
        return f"{bits / 8 / 1024:g} KiB"

    rows = table_rows((ROOT / "docs" / "reference" / "engines.md").read_text(), "| preset | PEs |")
    assert [row[:5] for row in rows] == [
        [name, str(config.pes), kib(config.entry_depth * sum(config.plane_bits)), str(config.entries_per_word),
         kib(config.act_depth * config.pes * config.act_bits)] for name, config in PRESETS.items()]


def test_the_package_tells_the_licence_of_its_data_too():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0 AND CC-BY-SA-3.0"
    licences = [(ROOT / file).read_text() for file in project["license-files"]]
    assert "Apache License" in licences[0] and "creativecommons.org/licenses/by-sa/3.0" in licences[1]


def test_every_file_tells_the_same_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
