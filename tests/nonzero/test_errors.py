# SPDX-License-Identifier: Apache-2.0
"""The end of every command: its exit status and its messages."""

import os
import signal
import subprocess
import sys

import pytest

from nonzero.child_process import call
from nonzero.errors import ResultError, UserError, run_command
from tests.support.paths import ROOT


def ends(error, capsys):
    def main(argv):
        sys.stdout.write("said before\n")
        raise error
    status = run_command(main)
    return status, capsys.readouterr().err


def test_errors_are_lines_and_a_status(capsys):
    assert ends(UserError(["one", "two\nof two lines"]), capsys) == (2, "error: one\nerror: two\nof two lines\n")
    assert ends(ResultError("worse than asked"), capsys) == (3, "error: worse than asked\n")
    assert ends(OSError(28, "No space left on device", "a.img"), capsys) \
        == (2, "error: 'a.img': No space left on device\n")
    assert ends(OSError("odd"), capsys) == (2, "error: odd\n")
    assert ends(KeyboardInterrupt(), capsys) == (130, "interrupted\n")
    status, said = ends(MemoryError(), capsys)
    assert (status, said.count("\n")) == (2, 1) and "too little memory" in said
    assert run_command(lambda argv: None) == 0


def test_errors_hold_nothing_that_a_terminal_obeys(capsys):
    assert ends(UserError("layer 'a\x1b[2J\u202e\udcff'"), capsys) == (2, "error: layer 'a\\x1b[2J\\u202e\\udcff'\n")


def test_a_bug_keeps_its_traceback(capsys):
    with pytest.raises(ZeroDivisionError):
        ends(ZeroDivisionError(), capsys)


def python(code, **options):
    """Runs Python code as a command's module would begin and end."""
    # Output is buffered unless the environment says otherwise.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, text=True, stderr=subprocess.PIPE,
                          **options)


def test_ctrl_c_during_the_imports():
    done = python("import signal; from nonzero.errors import expect_interrupts; expect_interrupts();"
                  "signal.raise_signal(signal.SIGINT); print('went on')", stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


END = "import signal, sys; from nonzero.errors import *; from nonzero.errors import end_with, expect_interrupts\n"


@pytest.mark.parametrize("main, status, said", [
    ("lambda argv: signal.raise_signal(signal.SIGINT)", 130, "interrupted\n"),
    ("lambda argv: print('a path: \\udcff')", 0, ""),
    ("lambda argv: (_ for _ in ()).throw(ResultError('worse'))", 3, "error: worse\n"),
    ("lambda argv: sys.stderr.write('said\\n')", 0, "said\n"),
])
def test_a_command_ends_with_its_status(main, status, said):
    done = python(f"{END}expect_interrupts(); end_with({main})", stdout=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (status, said)


def test_ctrl_c_after_the_work_is_too_late():
    done = python(f"{END}import atexit; atexit.register(signal.raise_signal, signal.SIGINT)\n"
                  "end_with(lambda argv: None)", stdout=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves_ends_the_command():
    reader, writer = os.pipe()
    os.close(reader)
    done = python(f"{END}end_with(lambda argv: print('x' * 100_000))", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_output_that_nobody_wants_is_no_error():
    done = python(f"{END}end_with(lambda argv: print('x'))", stdout=subprocess.PIPE,
                  preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_told():
    with open("/dev/full", "w") as full:
        done = python(f"{END}end_with(lambda argv: print('x'))", stdout=full)
    assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")


def test_what_an_interrupted_call_started_has_ended(tmp_path):
    """The program is interrupted while a child of it waits to write into the pipe."""
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)

    def interrupt(*_):
        raise KeyboardInterrupt
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            call(["sh", "-c", "(sleep 10; echo late) > pipe & wait"], tmp_path, os.environ)
    finally:
        signal.signal(signal.SIGALRM, before)
    os.set_blocking(pipe, True)
    assert os.read(pipe, 10) == b""
    os.close(pipe)


def test_call_gives_status_and_output(tmp_path):
    assert call(["sh", "-c", "pwd; echo bad >&2; exit 3"], tmp_path, os.environ) == (3, f"{tmp_path}\nbad\n")
