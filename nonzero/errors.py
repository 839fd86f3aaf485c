# SPDX-License-Identifier: Apache-2.0
"""Errors that the user can correct, and how every command reports them."""

import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 and the signal's number."""

LARGEST_SEED = (1 << 63) - 1
"""Of torch's random numbers."""


class UserError(Exception):
    """Bad input. The message names the thing, the rule, the value and the way out; never a traceback.

    Parameters
    ----------
    problems : str or sequence of str
        All the problems of one input, so that the user mends them in one go.
    """

    exit_status = 2
    """Exit status of a command that it ends."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class ResultError(UserError):
    """The work is done and its files are written, but the result is not as good as the user asked."""

    exit_status = 3


def check_all(*checks: Callable[[], Any]) -> list[Any]:
    """Runs all ``checks``, each a function without arguments, and returns their results.

    Raises one `UserError` with the problems of all of them, each once.
    """
    results, problems = [], []
    for check in checks:
        try:
            results.append(check())
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(list(dict.fromkeys(problems)))
    return results


def printable(value: object) -> str:
    """The text of ``value`` with escape sequences for characters that are not printable.

    These are control characters, lone surrogates, and marks that turn the direction of writing.
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(value))


def say_notes(notes: Iterable[str]) -> None:
    """Tells the user what was assumed: each text of ``notes`` in a line on standard error."""
    for note in notes:
        sys.stderr.write(f"note: {printable(note)}\n")


def run_command(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None = None) -> int:
    """Runs the function ``main`` of a command with the arguments ``argv``; None stands for those of the process.

    Returns the exit status: 0 if all went well; 130 for Ctrl-C; 1 if the reader of the output has closed it. It is 2
    for a `UserError`, a file that the operating system refuses, or too little memory, and 3 for a `ResultError`.
    """
    try:
        _check_values(sys.argv[1:] if argv is None else argv)
        main(argv)
        sys.stdout.flush()
    except UserError as error:
        return _refused(error.problems, error.exit_status)
    except BrokenPipeError:
        return 1
    except OSError as error:
        where = f"'{error.filename}': " if error.filename is not None else ""
        return _refused([f"{where}{error.strerror or error}"])
    except MemoryError:
        return _refused(["there is too little memory for this; use smaller data or a smaller network"])
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    return 0


def _check_values(argv: Sequence[str]) -> None:
    """Refuses the empty list that argparse makes of ``--option=--`` and ``-o--``, whatever the option's type."""
    problems = [f"argument {found[1].removesuffix('=')}: must have a value, not '--'" for one in argv
                if (found := re.fullmatch(r"(-\w|--?\w[\w-]*=)--", one))]
    if problems:
        raise UserError(problems)


def _refused(problems: Sequence[str], status: int = UserError.exit_status) -> int:
    for problem in problems:
        lines = "\n".join(map(printable, problem.split("\n")))
        sys.stderr.write(f"error: {lines}\n")
    return status


def expect_interrupts() -> None:
    """Called at the top of a command's module: the imports take seconds, and Ctrl-C would give a traceback of them."""
    def end(*_: object) -> NoReturn:
        os.write(2, b"interrupted\n")
        os._exit(INTERRUPTED)
    signal.signal(signal.SIGINT, end)


def end_with(main: Callable[[Sequence[str] | None], None]) -> NoReturn:
    """Runs the function ``main`` of a command as the process's only work and ends the process."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever called us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    # A path may hold bytes that are no UTF-8.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # Amaranth would warn of every component that an error leaves unused.
    warnings.filterwarnings("ignore", message=".* created but never used")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = run_command(main)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to interrupt but the interpreter's own end
    try:
        sys.stdout.flush()
    except OSError:
        # Otherwise Python would try again to flush at its end, and print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def check_seed(seed: int) -> None:
    """Raises `UserError` unless ``--seed`` is 0 to `LARGEST_SEED`."""
    check_range("--seed", seed, 0, LARGEST_SEED)


def check_range(option: str, value: float, least: int, most: int) -> None:
    """Raises `UserError` that names ``option`` if ``value`` is not from ``least`` to ``most``."""
    if not least <= value <= most:
        raise UserError(f"{option} must be {least} to {most}, not {value}")
