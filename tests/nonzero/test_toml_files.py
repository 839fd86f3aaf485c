# SPDX-License-Identifier: Apache-2.0
"""TOML files that would take all memory, or the interpreter's stack, are refused; all that read TOML do so."""

import subprocess
import sys
from pathlib import Path

import pytest

from host.compression.recipe import read_recipe
from nonzero import toml_files
from nonzero.errors import UserError
from nonzero.toml_files import read_toml
from rtl.config_file import read_engine
from rtl.integration import boards
from tests.support.paths import ROOT

NESTED = "[" * 2000 + "]" * 2000
HOSTILE = {
    "a megabyte": ("#" * (1 << 20), "must have at most 65536 bytes, not 1048576"),
    "dotted names": (".".join(["a"] * 30000) + " = 1", "names of at most 16 parts joined by dots"),
    "spaces between": (" . ".join(["'a'"] * 10000) + " = 1", "names of at most 16 parts joined by dots"),
    "a deep table": (f"[{'.'.join(['a'] * 30000)}]", "names of at most 16 parts joined by dots"),
    "brackets": (f"a = {NESTED}", "at most 16 brackets within one another, not 2000"),
    "tables": ("a = " + "{a = " * 2000 + "1" + "}" * 2000, "at most 16 brackets within one another, not 2000"),
    # Where a string ends must be known: the fourth quote belongs to it.
    "behind a string": (f'a = ["""x"""", {NESTED}]', "at most 16 brackets within one another, not 2001"),
    "behind letters": (f"a = ['''x'''', {NESTED}]", "at most 16 brackets within one another, not 2001"),
    "behind an escape": (f'a = ["\\"", {NESTED}]', "at most 16 brackets within one another, not 2001"),
    "digits": ("pes = " + "9" * 5000, "numbers and names of at most 200 characters"),
    "no TOML": ("a = [", "cannot be read: it is not TOML: "),
    "no such day": ("a = 2026-02-30", "cannot be read: it is not TOML: "),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused(tmp_path, kind, monkeypatch):
    text, message = HOSTILE[kind]
    path = tmp_path / "hostile.toml"
    path.write_text(text)
    monkeypatch.setattr(boards, "CONSTRAINTS", tmp_path)
    for what, read in (("recipe", lambda: read_recipe(str(path))), ("configuration", lambda: read_engine("tiny", path)),
                       ("board", lambda: boards.read_board("hostile"))):
        with pytest.raises(UserError) as caught:
            read()
        assert f"{what} '{path}' " in str(caught.value) and message in str(caught.value)


def test_limits_come_before_the_reader(tmp_path, monkeypatch):
    def refuse(text):
        raise AssertionError("read")
    monkeypatch.setattr(toml_files.tomllib, "loads", refuse)
    path = tmp_path / "deep.toml"
    path.write_text(HOSTILE["spaces between"][0][:20000] + "\n" + HOSTILE["digits"][0] + "\nb = " + NESTED)
    with pytest.raises(UserError) as caught:
        read_toml("recipe", path)
    assert len(caught.value.problems) == 3


def test_what_strings_and_comments_hold_is_free(tmp_path):
    path = tmp_path / "free.toml"
    path.write_text(f'# {NESTED} {"a." * 50}\nname = "{"a." * 50}{NESTED}" # {"9" * 300}\n'
                    f"text = '''\n{'9' * 300}\n'''\n\"{'b.' * 50}\".c = {'[' * 16}{']' * 16}\n"
                    + ".".join(["d"] * 16) + " = 0.5\n", encoding="utf-8")
    found = read_toml("recipe", path)
    assert found["name"] == "a." * 50 + NESTED and found["text"] == "9" * 300 + "\n"
    assert list(found) == ["name", "text", "b." * 50, "d"]


def test_nothing_of_a_device_is_read():
    with pytest.raises(UserError, match="recipe '/dev/zero' must be a file"):
        read_toml("recipe", Path("/dev/zero"))


@pytest.mark.parametrize("text", ["recipe = ['han']", "recipe = {han = 1}", "neurons = 3", "neurons = [3]"])
def test_values_of_another_kind_are_refused(tmp_path, text):
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(UserError, match=r"recipe '.*own.toml'"):
        read_recipe(str(tmp_path / "own.toml"))


def test_memory_of_what_is_within_the_limits(tmp_path):
    """A chain of tables on each line takes the most memory of all files of that size."""
    lines = [".".join([f"k{number}", *["a"] * 14]) + " = 1" for number in range(1700)]
    (tmp_path / "worst.toml").write_text("\n".join(lines))
    program = ("import resource, sys; from pathlib import Path; from nonzero.toml_files import read_toml; "
               "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
               "read_toml('recipe', Path(sys.argv[1])); "
               "sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))")
    taken = subprocess.run([sys.executable, "-c", program, tmp_path / "worst.toml"], capture_output=True, text=True,
                           check=True, cwd=ROOT)
    assert int(taken.stdout) < 100 << 10, "KiB"
