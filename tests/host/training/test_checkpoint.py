# SPDX-License-Identifier: Apache-2.0
"""A compilation that is killed with signal 9 in any phase ends with the same image when it is run again."""

import signal
import subprocess
import sys
import time

import pytest

from host.compile import main
from nonzero.errors import run_command
from tests.support.stripes import network, write_files

LONG = "rounds = 6\nround_epochs = 10\nfinal_epochs = 60\npatience = 10\nbatch = 50\n"
"""Epochs of a few milliseconds, and enough of them for a process to be killed in their midst."""


@pytest.mark.parametrize("phase", ["pruning", "sharing"])
def test_a_compilation_that_is_killed_goes_on_to_the_same_image(tmp_path, phase):
    model, data = write_files(tmp_path, network())
    (tmp_path / "long.toml").write_text(LONG)
    command = [model, "--data", data, "--density", "0.2", "--recipe", str(tmp_path / "long.toml"), "--seed", "3"]
    assert run_command(main, [*command, "-o", str(tmp_path / "whole")]) == 0

    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-m", "host.compile", *command, "-o", str(out)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (out / f"{phase}.checkpoint").exists() and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert (out / f"{phase}.checkpoint").exists() and not (out / "model.img").exists()

    assert run_command(main, [*command, "-o", str(out)]) == 0
    assert (out / "model.img").read_bytes() == (tmp_path / "whole/model.img").read_bytes()
    assert not list(out.glob("*.checkpoint*"))
