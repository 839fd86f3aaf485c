# SPDX-License-Identifier: Apache-2.0
"""Tables for the terminal, JSON and plots for files."""

import json
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from nonzero.files import write_whole

__all__ = ["geomean", "shown", "text_table", "write_figure", "write_json"]


def geomean(values: Iterable[float]) -> float:
    """The geometric mean of ``values``, which must be above 0; without values, 1."""
    found = list(values)
    return float(np.exp(np.log(found).mean())) if found else 1.0


def shown(value: Any, form: str) -> str:
    """The number ``value`` in Python's format ``form``, such as ".2f"; a dash for None."""
    return "-" if value is None else format(value, form)


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their names: the first to the left, the others to the right.

    Parameters
    ----------
    header : sequence of str
        Names of the columns.
    rows : sequence of sequence of str
        Cells of each row, as many as there are columns.
    """
    table = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
                     for row in table)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes the JSON of ``content`` to ``path``, whole or not at all. Raises `UserError` if it cannot be written."""
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


def write_figure(path: Path, figure: Figure) -> None:
    """Writes ``figure`` to ``path`` as self-contained SVG, always the same for the same figure.

    Raises `UserError` if it cannot be written.
    """
    text = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "nonzero"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    write_whole(path, text.getvalue().encode())
