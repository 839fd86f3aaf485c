# SPDX-License-Identifier: Apache-2.0
"""``nonzero COMMAND``: the entry point of every command, also where the user's files have the names of our packages."""

import os
import subprocess
import sys

import pytest

from nonzero.__main__ import COMMANDS
from tests.support.paths import ROOT

DOOR = [sys.executable, "-P", "-m", "nonzero"]
"""As the entry point that pip installs: without the current directory before all others."""


def call(command, directory, **environment):
    return subprocess.run(command, cwd=directory, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT), **environment})


def test_without_a_command_all_are_named(tmp_path):
    done = call(DOOR, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert all(f"\n  {name} " in done.stderr for name in COMMANDS)
    assert call([*DOOR, "--help"], tmp_path).stdout == done.stderr


def test_an_unknown_command_is_refused(tmp_path):
    done = call([*DOOR, "compil"], tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: command must be one of {', '.join(COMMANDS)}, not 'compil'\n"


@pytest.mark.parametrize("command", ["compile", "build", "sim-bench eie"])
def test_a_command_is_the_module_under_the_name_that_was_typed(command, tmp_path):
    name, *rest = command.split()
    module, _ = COMMANDS[name]
    done = call([*DOOR, name, *rest, "--help"], tmp_path)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: nonzero {command} ")
    assert f"\n  nonzero {command} " in done.stdout and "python -m" not in done.stdout
    by_module = call([sys.executable, "-m", module, *rest, "--help"], tmp_path).stdout
    assert by_module.startswith(f"usage: {' '.join(['python', '-m', module, *rest])} ")
    for other, (its_module, _) in COMMANDS.items():
        by_module = by_module.replace(f"python -m {its_module} ", f"nonzero {other} ")
    assert done.stdout.split() == by_module.split()


def test_errors_and_exit_status_are_the_commands(tmp_path):
    done = call([*DOOR, "compile", "nosuch.pt"], tmp_path)
    assert done.returncode == 2
    assert "error: nosuch.pt: there is no such file\n" in done.stderr


def test_files_of_the_user_hide_nothing(tmp_path):
    for name in ("host", "rtl", "sim"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported the user\\'s file')\n")
    done = call([*DOOR, "compile", "--help"], tmp_path)
    assert done.returncode == 0 and "examples:" in done.stdout


def test_a_module_that_hides_ours_is_named(tmp_path):
    (tmp_path / "rtl.py").touch()
    done = call([sys.executable, "-m", "nonzero", "compile", "--help"], tmp_path)
    assert done.returncode == 2
    assert done.stderr == (f"error: '{tmp_path / 'rtl.py'}' hides the package 'rtl' of Nonzero; rename it, or run this "
                           "in another directory\n")


def test_modules_with_data_are_found_here(tmp_path):
    (tmp_path / "mine.py").write_text("def loaders():\n    raise ValueError('found')\n")
    (tmp_path / "m.pt").write_bytes(b"none")
    done = call([*DOOR, "compile", "m.pt", "--data", "mine:loaders"], tmp_path)
    assert done.returncode == 2
    assert "mine:loaders': loaders() failed: ValueError: found" in done.stderr
