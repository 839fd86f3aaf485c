# SPDX-License-Identifier: Apache-2.0
"""Files are written whole or not at all, and refused early."""

import os

import pytest

from nonzero.errors import UserError
from nonzero.files import check_directory, check_file, check_input, write_whole


def problem(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


def test_a_file_is_written_whole_with_its_directories(tmp_path):
    path = tmp_path / "new" / "directory" / "a.img"
    write_whole(path, b"first")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["a.img"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interruption_leaves_the_old_file_alone(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error
    path = tmp_path / "a.img"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises((UserError, KeyboardInterrupt)):
        write_whole(path, b"new")
    assert os.listdir(tmp_path) == ["a.img"] and path.read_bytes() == b"old"


def test_outputs_that_are_no_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "..", type(tmp_path)("/"), type(tmp_path)("")):
        for function in (lambda path: write_whole(path, b""), check_file):
            assert problem(function, path) \
                == f"output '{path}' must be a file, but is a directory or a device; name another"
    assert os.listdir(tmp_path) == ["pipe"]


def test_outputs_below_a_file_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    expected = (f"output directory '{tmp_path / 'file' / 'a'}' cannot be written: '{tmp_path / 'file'}' is no "
                "directory; name another")
    assert problem(check_directory, tmp_path / "file" / "a") == expected
    assert problem(check_file, tmp_path / "file" / "a" / "b") == expected


def test_directories_of_others_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert problem(check_directory, tmp_path / "a") == (
        f"output directory '{tmp_path / 'a'}' cannot be written: '{tmp_path}' is not yours to write; name another")


def test_inputs_too_large_or_no_files_are_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    check_input("image", tmp_path / "a", 5)
    check_input("image", tmp_path / "missing", 5)
    assert problem(check_input, "image", tmp_path / "a", 4) \
        == f"image '{tmp_path / 'a'}' must have at most 4 bytes, not 5"
    assert problem(check_input, "image", tmp_path / "pipe", 4) \
        == f"image '{tmp_path / 'pipe'}' must be a file, but is a directory or a device"
