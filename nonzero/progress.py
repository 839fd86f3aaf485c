# SPDX-License-Identifier: Apache-2.0
"""Progress on a terminal, while something takes long; nothing is written elsewhere."""

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

__all__ = ["progress", "waiting"]

FIRST = "the first time up to a minute, to compile its loops"


def waiting(what: str) -> "tqdm[Any]":
    """A context manager that shows a line with the text ``what`` on standard error, if that is a terminal."""
    return tqdm(total=1, desc=f"{what} ({FIRST})", bar_format="{desc}", leave=False, disable=None)


def progress(what: str, items: Iterable[Any], unit: str) -> "tqdm[Any]":
    """Yields ``items`` one by one, with a bar on a terminal.

    Parameters
    ----------
    what : str
        Text before the bar.
    items : iterable
    unit : str
        Name of an item, for the speed behind the bar.
    """
    return tqdm(items, what, unit=unit, leave=False, disable=None)
