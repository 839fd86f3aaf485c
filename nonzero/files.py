# SPDX-License-Identifier: Apache-2.0
"""Files of the user: refused early if they cannot be read or written, and written completely or not at all."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from nonzero.errors import UserError, check_all

__all__ = ["check_directory", "check_file", "check_files", "check_input", "part_of", "write_whole"]


def check_input(what: str, path: Path, most_bytes: int) -> None:
    """Raises `UserError` for a file that is too large, and for a device or pipe: reading it may never end.

    A file that is missing is left to its reader.

    Parameters
    ----------
    what : str
        Name of the file in errors, before its path.
    path : Path
    most_bytes : int
        Greatest size.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{what} '{path}' must be a file, but is a directory or a device")
    if path.exists() and path.stat().st_size > most_bytes:
        raise UserError(f"{what} '{path}' must have at most {most_bytes} bytes, not {path.stat().st_size}")


def check_file(path: Path) -> None:
    """Raises `UserError` if `write_whole` could not write the file ``path``."""
    if not path.name or (path.exists() and not path.is_file()):
        raise UserError(f"output '{path}' must be a file, but is a directory or a device; name another")
    check_directory(path.parent)


def check_files(directory: Path, names: Iterable[str]) -> None:
    """Raises `UserError` with all files called ``names`` in ``directory`` that could not be written."""
    check_all(*(partial(check_file, directory / name) for name in names))


def check_directory(path: Path) -> None:
    """Raises `UserError` if no files could be written into the directory ``path``; it need not exist yet."""
    nearest = next(place for place in (path, *path.parents) if place.exists() or place == place.parent)
    if not nearest.is_dir():
        raise UserError(f"output directory '{path}' cannot be written: '{nearest}' is no directory; name another")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"output directory '{path}' cannot be written: '{nearest}' is not yours to write; name another")


def write_whole(path: Path, content: bytes) -> None:
    """Writes the bytes ``content`` to the file ``path``, and makes its directory.

    Whatever interrupts it leaves the old file or the new one, and no other.

    Raises
    ------
    UserError
        If that is not possible.
    """
    with part_of(path) as part:
        part.write_bytes(content)


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to, and renames it to ``path`` on success.

    Raises
    ------
    UserError
        If that is not possible.
    """
    check_file(path)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"'{path}' cannot be written ({error.strerror}); free it or name another output") from None
    finally:
        with suppress(OSError):
            part.unlink()
