# SPDX-License-Identifier: Apache-2.0
"""The cache: simulations, and what numba, wasmtime and YoWASP's tools compile.

``NONZERO_CACHE`` names the directory; the default is ``nonzero`` in the user's cache directory. Where that cannot be
written (a container's user without a home of his own), a temporary directory takes its place.
"""

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["cache_directory", "use_cache", "wasm_cache"]

VARIABLE = "NONZERO_CACHE"

TOOLS = {"NUMBA_CACHE_DIR": "numba", "YOWASP_CACHE_DIR": "yowasp"}
"""Environment variables of libraries that keep files, and their directories in the cache."""


def cache_directory() -> Path:
    """The cache's directory, absolute; it need not exist yet.

    If another one takes its place, stderr says so once: `VARIABLE` then names that one, for child processes as well.
    """
    wanted = _named() or _default()
    if wanted is not None and _writable(wanted):
        return wanted
    place = _temporary()
    name = "there is no home directory for the cache" if wanted is None else f"the cache '{wanted}' cannot be written"
    sys.stderr.write(f"note: {name}, so '{place}' is used; {VARIABLE} names another\n")
    os.environ[VARIABLE] = str(place)
    return place


def use_cache() -> None:
    """Has this process's libraries, and all programs that it starts, keep theirs in the cache.

    To be called before numba and matplotlib are imported. A variable of a tool's own that is set already stays.
    """
    place = cache_directory()
    for variable, name in TOOLS.items():
        os.environ.setdefault(variable, str(place / name))
    if not all(home is not None and _writable(home / "matplotlib") for home in (_home("cache"), _home("config"))):
        os.environ.setdefault("MPLCONFIGDIR", str(place / "matplotlib"))


@contextmanager
def wasm_cache() -> Iterator[None]:
    """A context in which wasmtime uses the cache; it runs Amaranth's Yosys and has no environment variable for that."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(cache_directory())
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before


def _named() -> Path | None:
    return Path(os.environ[VARIABLE]).absolute() if os.environ.get(VARIABLE) else None


def _default() -> Path | None:
    home = _home("cache")
    return None if home is None else home / "nonzero"


def _home(kind: str) -> Path | None:
    """The user's directory for the ``cache``, or for the ``config``; None for a user without a home."""
    named = os.environ.get(f"XDG_{kind.upper()}_HOME")
    try:
        return Path(named).absolute() if named else Path.home() / f".{kind}"
    except RuntimeError:
        return None


def _writable(directory: Path) -> bool:
    """Whether files could be written into this directory; it need not exist yet."""
    try:
        nearest = next(place for place in (directory, *directory.parents) if place.exists())
    except OSError:
        return False
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def _temporary() -> Path:
    """A directory of this user's alone: the same each time, unless somebody else has taken its name."""
    try:
        place = Path(tempfile.gettempdir(), f"nonzero-{os.getuid()}")
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)
        found = place.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return place
        return Path(tempfile.mkdtemp(prefix="nonzero-"))
    except OSError as error:
        sys.stderr.write(f"error: no directory for the cache can be written ({error.strerror or error}); {VARIABLE} "
                         "must name one that can\n")
        raise SystemExit(2) from None
