# SPDX-License-Identifier: Apache-2.0
"""The parser of a command's arguments; its help names the commands as the user typed them."""

import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

__all__ = ["SHOWN", "CommandParser"]

SHOWN: dict[str, str] = {}
"""Name of a command in help, by its module; ``python -m MODULE`` without one. `nonzero.__main__` fills it."""


class CommandParser(ArgumentParser):
    """A parser whose help shows each ``python -m MODULE`` as `SHOWN` has it; options must be written in full.

    Parameters
    ----------
    prog, description, epilog, options
        See `argparse.ArgumentParser`. Line breaks in the texts are kept.
    """

    def __init__(self, prog: str, *, description: str | None = None, epilog: str | None = None,
                 **options: Any) -> None:
        super().__init__(_as_typed(prog), description=_as_typed(description or ""), epilog=_as_typed(epilog or ""),
                         **{"formatter_class": RawDescriptionHelpFormatter, "allow_abbrev": False, **options})


def _as_typed(text: str) -> str:
    return re.sub(r"python -m ([\w.]*\w)", lambda found: SHOWN.get(found[1], found[0]), text)
