# SPDX-License-Identifier: Apache-2.0
"""TOML files of the user: small and flat, or refused before Python's reader takes memory for them."""

import re
import tomllib
from pathlib import Path
from typing import Any

from nonzero.errors import UserError
from nonzero.files import check_input

__all__ = ["read_toml"]

LARGEST_BYTES = 1 << 16
DEEPEST = 16
"""Brackets within one another, and names joined by dots: tables in tables either way."""

LONGEST_WORD = 200
"""Characters of a number or a name without quotes: no number is too large for a float then."""

STRING_OR_COMMENT = re.compile(r"""
    \"{3} (?: \\. | [^\\] )*? (?: \"{3,5} | \Z ) | '{3} .*? (?: '{3,5} | \Z )
    | " (?: \\. | [^"\\\n] )* "? | ' [^'\n]* '?
    | \# [^\n]*""", re.DOTALL | re.VERBOSE)
"""Strings and comments, whose content does not count; one that does not end is left to Python's reader."""

DOTTED = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{DEEPEST}}}")
WORD = re.compile(rf"[\w+-]{{{LONGEST_WORD + 1}}}")


def read_toml(what: str, path: Path) -> dict[str, Any]:
    """The values of a TOML file.

    Parameters
    ----------
    what : str
        Name of the file in messages: ``recipe``, for instance.
    path : Path

    Raises
    ------
    UserError
        For a file that cannot be read or is no TOML; for one that is larger or deeper than any that is meant.
    """
    check_input(what, path, LARGEST_BYTES)
    try:
        text = path.read_text(encoding="utf-8")
        _check_limits(f"{what} '{path}'", text)
        return tomllib.loads(text)
    except OSError as error:
        raise UserError(f"{what} '{path}' cannot be read: {error.strerror}") from None
    except ValueError as error:  # TOML's, UTF-8's, and those of numbers and dates that Python does not have
        raise UserError(f"{what} '{path}' cannot be read: it is not TOML: {error}") from None


def _check_limits(name: str, text: str) -> None:
    # A string is a word, too: the part of a dotted name that has quotes.
    bare = STRING_OR_COMMENT.sub(lambda match: "" if match[0].startswith("#") else " s ", text)
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", bare):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    problems = []
    if deepest > DEEPEST:
        problems.append(f"{name} must have at most {DEEPEST} brackets within one another, not {deepest}")
    if DOTTED.search(bare):
        problems.append(f"{name} must have names of at most {DEEPEST} parts joined by dots")
    if WORD.search(bare):
        problems.append(f"{name} must have numbers and names of at most {LONGEST_WORD} characters")
    if problems:
        raise UserError(problems)
