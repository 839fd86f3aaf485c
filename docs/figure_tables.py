# SPDX-License-Identifier: Apache-2.0
"""The JSON files behind ``docs/results.md``, and how their figures are written into tables there."""

import json
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nonzero.errors import UserError
from nonzero.files import write_whole
from rtl.config import PRESETS

__all__ = ["ABSENT", "DOCS", "EXACT", "PUBLISHED", "ROOT", "SOURCES", "Figures", "Row", "Source", "baselines",
           "command_block", "count", "errors", "exact", "figures_table", "kept", "kib", "markdown_table", "measured",
           "percent", "published"]

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
FIGURES = DOCS / "figures"

ABSENT = "not measured on this version"

Figures = dict[str, Any]
"""The JSON that a command wrote."""


@dataclass(frozen=True)
class Source:
    """A file of figures, and how to measure it.

    Attributes
    ----------
    commands : list of str
        To be run in the root of the checkout, in this order.
    writes : str
        The file that the last command writes, relative to the root; empty if the figures are committed elsewhere.
    committed : str
        Where they are then, relative to the root.
    drop : list of str
        Keys that are not kept.
    """

    name: str
    commands: list[str]
    writes: str = ""
    committed: str = ""
    drop: Sequence[str] = ()

    @property
    def path(self) -> Path:
        return ROOT / self.committed if self.committed else FIGURES / f"{self.name}.json"

    def read(self) -> Figures | None:
        """The figures as the command wrote them; None if they have not been taken."""
        if not self.path.exists():
            return None
        content: Figures = json.loads(self.path.read_text())
        return content if self.committed else content["figures"]

    def take(self) -> None:
        """Copies what the commands wrote into ``docs/figures``. Raises `UserError` if it cannot be read."""
        if not self.writes:
            raise UserError(f"the figures of {self.name} are kept in {self.committed}; nothing is to be taken")
        try:
            found = json.loads((ROOT / self.writes).read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{self.writes} cannot be read ({error}); first run: {'; '.join(self.commands)}") from None
        figures = {key: value for key, value in found.items() if key not in self.drop}
        content = {"commands": self.commands, "figures": figures}
        write_whole(self.path, (json.dumps(content, indent=1) + "\n").encode())


def _read(name: str) -> Figures:
    return tomllib.loads((FIGURES / name).read_text())


SOURCES = {name: Source(name, **fields) for name, fields in _read("commands.toml").items()}
"""All sources, by name."""

PUBLISHED = _read("published.toml")
"""Figures of other works, by work."""


def published() -> str:
    """A list of the other works."""
    return "\n".join(f"- {work['work']}." for work in PUBLISHED.values())


def measured(source: str, cell: Callable[[Figures], str | None]) -> str:
    """The cell that ``cell`` makes of a source's figures; `ABSENT` if there are none, or if ``cell`` gives None."""
    found = SOURCES[source].read()
    return ABSENT if found is None else cell(found) or ABSENT


def baselines() -> list[Figures]:
    """Every board's baseline, with its ``preset``, and ``current``: whether it is of this engine."""
    current, found = _read("baselines.toml")["current"], []
    for path in (ROOT / "constraints").glob("baseline_*.json"):
        one = json.loads(path.read_text())
        preset = next(name for name, config in PRESETS.items() if config.hash.hex() == one["config_hash"])
        found.append({**one, "preset": preset, "current": path.stem.removeprefix("baseline_") in current})
    return sorted(found, key=lambda one: (one["board"], one["pes"], one["preset"]))


def count(value: float) -> str:
    return f"{value:,.0f}"


def percent(value: float) -> str:
    return f"{value:.2f} %"


def kib(byte_count: float) -> str:
    return f"{byte_count / 1024:.1f} KiB"


def kept(found: Figures) -> str:
    """The weights that are kept, of a report or of a network in ``models/figures.json``."""
    share = 100 * found["weights_kept"] / found["weights_total"]
    return f"{percent(share)} ({count(found['weights_kept'])} of {count(found['weights_total'])})"


def errors(report: Figures) -> str:
    """The test error of the dense and the pruned network and of the engine, as far as they were measured."""
    known = ((stage, report.get(f"test_error_{stage}")) for stage in ("dense", "pruned", "engine"))
    return ", ".join(f"{stage} {percent(error)}" for stage, error in known if error is not None)


EXACT = "images in RTL equal to golden at every layer; with the predicted cycles"


def exact(run: Figures) -> str:
    """The cell of a row `EXACT`."""
    total = count(run["images"])
    return (f"{count(run['images'] - run['mismatches'])} of {total}; "
            f"{count(run['images'] - run['cycle_mismatches'])} of {total}")


@dataclass(frozen=True)
class Row:
    """A figure, the source that has it, and the cell that is made of the source's JSON: None if it lacks that part."""

    figure: str
    source: str
    cell: Callable[[Figures], str | None]
    published: str = ""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))


def command_block(sources: Iterable[str]) -> str:
    """The commands of the sources, each under its name."""
    lines = [line for name in dict.fromkeys(sources) for line in (f"# {name}", *SOURCES[name].commands)]
    return "\n".join(["```", *lines, "```"])


def figures_table(*rows: Row) -> str:
    cells = [[row.figure, measured(row.source, row.cell), row.published, row.source] for row in rows]
    table = markdown_table(["figure", "measured", "published", "from"], cells)
    return f"{table}\n\n{command_block(row.source for row in rows)}"
