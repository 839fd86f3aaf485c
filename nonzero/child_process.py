# SPDX-License-Identifier: Apache-2.0
"""Calls other programs."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["call"]


def call(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Runs a program to its end.

    An interrupt ends the program and all processes that it started, so that none goes on writing into the directory.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    directory : Path
        Directory in which it runs.
    environment : mapping of str to str
        All of its environment variables.

    Returns
    -------
    status : int
        Its exit status.
    output : str
        Its output and its error output.
    """
    with subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", process_group=0) as process:
        try:
            output, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output
