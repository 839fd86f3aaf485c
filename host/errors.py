# SPDX-License-Identifier: Apache-2.0
"""Errors that are the user's to mend, and how every command reports them."""

import sys
from collections.abc import Callable, Sequence


class UserError(Exception):
    """Bad input. The message names the thing, the rule, the value and the way out; never a traceback.

    Parameters
    ----------
    problems : str or sequence of str
        All the problems of one input, so that the user mends them in one go.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


def run_command(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None = None) -> int:
    """Runs a command's ``main``; returns its exit status: 0, 2 for a `UserError`, 130 for Ctrl-C."""
    try:
        main(argv)
    except UserError as error:
        for problem in error.problems:
            sys.stderr.write(f"error: {problem}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return 0
