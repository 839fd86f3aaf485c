# SPDX-License-Identifier: Apache-2.0
"""Runs programs, as many at a time as there are processors.

``python -I in_parallel.py STEPS.json``: a list of steps, each a list of command lines that need nothing of one another.
The steps run in turn, until a command fails; its status is the exit status. This is a program of its own, so that
whoever ends its process group ends all of them.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor


def _status(command: list[str]) -> int:
    return subprocess.run(command, stdin=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        steps = json.load(file)
    for step in steps:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            failed = [status for status in pool.map(_status, step) if status]
        if failed:
            sys.exit(failed[0] if failed[0] > 0 else 128 - failed[0])
