# SPDX-License-Identifier: Apache-2.0
"""Reads JSON of unknown origin."""

import json
from typing import Any

__all__ = ["parse_json"]


def parse_json(text: str | bytes) -> Any:
    """The value, whose objects name each key once; the caller limits the length of ``text``.

    Raises
    ------
    ValueError
        For anything else, JSON that nests too deep and numbers of thousands of digits included. The message says why.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it nests too deep") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"it has the key {key[:80]!r} twice")
        found[key] = value
    return found


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")
