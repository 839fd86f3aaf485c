# SPDX-License-Identifier: Apache-2.0
"""One variable decides where everything is kept; a temporary directory takes the place of what cannot be written."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nonzero.caches import cache_directory, use_cache, wasm_cache
from tests.support.paths import ROOT

VARIABLES = ("NONZERO_CACHE", "NUMBA_CACHE_DIR", "YOWASP_CACHE_DIR", "MPLCONFIGDIR", "XDG_CACHE_HOME",
             "XDG_CONFIG_HOME")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A user with a home and a directory for temporary files; nothing else says where to keep anything."""
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")  # so that it is as before afterwards, whatever the test's calls set
        monkeypatch.delenv(variable)
    (tmp_path / "temporary").mkdir()
    # Not even root can write into a file's directory.
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def test_what_is_named_goes_before_the_home(place, monkeypatch, capsys):
    assert cache_directory() == place / "home" / ".cache" / "nonzero"
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "xdg"))
    assert cache_directory() == place / "xdg" / "nonzero"
    monkeypatch.setenv("NONZERO_CACHE", str(place / "own"))
    assert cache_directory() == place / "own"
    monkeypatch.chdir(place)
    monkeypatch.setenv("NONZERO_CACHE", "here")
    assert cache_directory() == place / "here"
    assert capsys.readouterr().err == "" and not (place / "own").exists()


@pytest.mark.parametrize(("variable", "name"), [
    ("NONZERO_CACHE", "file/x"), ("XDG_CACHE_HOME", "file/x/nonzero"), ("HOME", "file/x/.cache/nonzero")])
def test_a_cache_that_cannot_be_written_is_replaced_with_a_note(place, monkeypatch, capsys, variable, name):
    monkeypatch.setenv(variable, str(place / "file" / "x"))
    other = place / "temporary" / f"nonzero-{os.getuid()}"
    assert cache_directory() == other and other.stat().st_mode & 0o777 == 0o700
    assert capsys.readouterr().err == (f"note: the cache '{place / name}' cannot be written, so '{other}' is used; "
                                       "NONZERO_CACHE names another\n")
    assert os.environ["NONZERO_CACHE"] == str(other)
    assert cache_directory() == other and capsys.readouterr().err == ""


def test_without_a_home_a_temporary_directory_is_used(place, monkeypatch, capsys):
    def unknown():
        raise RuntimeError("Could not determine home directory.")
    monkeypatch.setattr(Path, "home", unknown)
    use_cache()
    other = place / "temporary" / f"nonzero-{os.getuid()}"
    assert capsys.readouterr().err.startswith(f"note: there is no home directory for the cache, so '{other}' is used; ")
    assert os.environ["MPLCONFIGDIR"] == str(other / "matplotlib")


@pytest.mark.parametrize("kind", ["link", "file", "open to all", "another user's"])
def test_a_temporary_directory_that_is_not_safe_is_not_used(place, monkeypatch, kind):
    monkeypatch.setenv("NONZERO_CACHE", str(place / "file" / "x"))
    other = place / "temporary" / f"nonzero-{os.getuid()}"
    if kind == "link":
        (place / "elsewhere").mkdir()
        other.symlink_to(place / "elsewhere")
    elif kind == "file":
        other.touch()
    else:
        other.mkdir()
        other.chmod(0o777 if kind == "open to all" else 0o700)
    if kind == "another user's":
        user = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: user)
        other.rename(other.with_name(f"nonzero-{os.getuid()}"))
    found = cache_directory()
    assert found.parent == place / "temporary" and found.name.startswith("nonzero-")
    assert found.name != f"nonzero-{os.getuid()}" and found.stat().st_mode & 0o777 == 0o700


def test_nowhere_to_write_is_an_error(place, monkeypatch, capsys):
    def unusable():
        raise FileNotFoundError(2, "No usable temporary directory found")
    monkeypatch.setattr(tempfile, "gettempdir", unusable)
    monkeypatch.setenv("NONZERO_CACHE", str(place / "file" / "x"))
    with pytest.raises(SystemExit, match="2"):
        cache_directory()
    assert capsys.readouterr().err == ("error: no directory for the cache can be written (No usable temporary "
                                       "directory found); NONZERO_CACHE must name one that can\n")


def test_tools_use_the_cache(place, monkeypatch):
    monkeypatch.setenv("NONZERO_CACHE", str(place / "own"))
    monkeypatch.setenv("YOWASP_CACHE_DIR", "chosen")
    use_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == str(place / "own" / "numba")
    assert os.environ["YOWASP_CACHE_DIR"] == "chosen"
    assert "MPLCONFIGDIR" not in os.environ, "the user's own settings of matplotlib stay"


def test_wasmtime_uses_the_cache_for_a_while(place, monkeypatch):
    monkeypatch.setenv("NONZERO_CACHE", str(place / "own"))
    with wasm_cache():
        assert os.environ["XDG_CACHE_HOME"] == str(place / "own")
    assert "XDG_CACHE_HOME" not in os.environ
    monkeypatch.setenv("XDG_CACHE_HOME", "before")
    with pytest.raises(ZeroDivisionError), wasm_cache():
        raise ZeroDivisionError
    assert os.environ["XDG_CACHE_HOME"] == "before"


def test_libraries_use_the_cache(place):
    """Numba and matplotlib use it without a warning where this package is imported first, as by all commands."""
    program = ("import json, sys, host.packing.encode, host.reporting.tables, matplotlib, numba; "
               "json.dump([numba.config.CACHE_DIR, matplotlib.get_cachedir()], sys.stdout)")
    environment = {**os.environ, "NONZERO_CACHE": str(place / "a b" / "ü"), "HOME": str(place / "file")}
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True,
                           check=True)
    assert json.loads(found.stdout) == [str(place / "a b" / "ü" / name) for name in ("numba", "matplotlib")]
    assert found.stderr == ""
