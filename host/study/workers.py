# SPDX-License-Identifier: Apache-2.0
"""Processes that measure the rows of a study."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from tqdm import tqdm

from host.study.methods import METHODS
from host.study.queue import Job, Queue
from host.study.subject import Subject
from nonzero.errors import UserError

__all__ = ["run_workers", "serve"]

POLL = 0.5
"""Seconds between two looks at the progress."""

MERCY = 5
"""Seconds that an interrupted worker has to hand its row back."""


def serve(queue: Queue, subject: Subject) -> None:
    """Measures the jobs of ``queue`` on ``subject`` until none is left.

    It ends at once when the process that started this one has ended.
    """
    def watch() -> None:
        sys.stdin.read()
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()
    queue.work(lambda job: METHODS[job.method].run(subject, job.setting, job.seed))


def run_workers(queue: Queue, jobs: Sequence[Job], count: int, options: Sequence[str]) -> None:
    """Starts workers and shows their progress until every job is measured.

    Parameters
    ----------
    queue : Queue
        Hands out the jobs and takes the outcomes.
    jobs : sequence of Job
    count : int
        Processes, at most; no more than there are jobs left.
    options : sequence of str
        Command-line options of ``python -m host.study`` that name the network, the data and the directory.

    Raises
    ------
    UserError
        With what a worker said before it failed.
    """
    keys = {job.key for job in jobs}
    missing = keys - queue.measured_keys()
    # Workers import the same modules as this process, and none from the current directory.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", "-m", "host.study", "--worker", *options]
    workers: list[subprocess.Popen[str]] = []
    try:
        for _ in range(min(count, len(missing))):
            workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                            stderr=subprocess.PIPE, text=True, process_group=0, env=environment))
        with tqdm(total=len(keys), initial=len(keys) - len(missing), unit="row", disable=None) as progress:
            while missing and any(worker.poll() is None for worker in workers):
                time.sleep(POLL)
                _check(workers)
                missing = keys - queue.measured_keys()
                progress.update(len(keys) - len(missing) - progress.n)
        _check(workers)
    finally:
        _end(workers)
    if missing := keys - queue.measured_keys():
        raise UserError(f"{len(missing)} of {len(keys)} rows failed in a worker of another command; run it again")


def _check(workers: Sequence[subprocess.Popen[str]]) -> None:
    for worker in workers:
        if worker.poll():
            _, said = worker.communicate()
            problems = [line.removeprefix("error: ") for line in said.splitlines()]
            raise UserError([f"a worker ended with status {worker.returncode}; what is measured is kept", *problems])


def _end(workers: Sequence[subprocess.Popen[str]]) -> None:
    """Interrupts those that still run, so that they hand back their rows, and waits for them."""
    for worker in workers:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGINT)
    for worker in workers:
        try:
            worker.communicate(timeout=MERCY)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.communicate()
