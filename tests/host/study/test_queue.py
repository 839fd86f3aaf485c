# SPDX-License-Identifier: Apache-2.0
"""The queue of a study's rows: several workers, some of which die or are late."""

import subprocess
import sys
from dataclasses import asdict

import optuna
import pytest

from host.study import queue as queues
from host.study.measuring import Outcome
from host.study.queue import Job, Queue


def job(number):
    return Job("cut", {"kept": number}, 0)


def outcome(number):
    return Outcome(number, 10, 8 * number, "chip", float(number), 1.0)


def test_a_worker_goes_on_when_another_one_has_told_its_trial(tmp_path, monkeypatch):
    queue = Queue(tmp_path, "one")
    queue.add([job(1), job(2)])
    optimize, calls = queue.study.optimize, []

    def told_by_another(*args, **options):
        optimize(*args, **options)
        calls.append(args)
        if len(calls) == 1:
            raise optuna.exceptions.UpdateFinishedTrialError
    monkeypatch.setattr(queue.study, "optimize", told_by_another)
    queue.work(lambda one: outcome(one.setting["kept"]))
    assert len(calls) == len(queue.measured()) == 2


def test_a_queue_keeps_what_is_measured(tmp_path):
    queue = Queue(tmp_path, "one")
    queue.add([job(1), job(2)])
    taken = []

    def measure(one):
        taken.append(one)
        if len(taken) == 2:
            raise KeyboardInterrupt
        return outcome(one.setting["kept"])
    with pytest.raises(KeyboardInterrupt):
        queue.work(measure)
    again = Queue(tmp_path, "one")
    again.add([job(1), job(2), job(3)])
    again.work(measure)
    assert taken == [job(1), job(2), job(2), job(3)]
    assert again.measured() == {job(number).key: outcome(number) for number in (1, 2, 3)}
    assert Queue(tmp_path, "other").measured() == {}


DYING_WORKER = """
import os, sys, time
from pathlib import Path
from host.study.queue import Queue

def measure(job):
    time.sleep(0.5)
    os._exit(9)

Queue(Path(sys.argv[1]), "one").work(measure)
"""


def test_a_row_of_a_dead_worker_goes_to_another(tmp_path, monkeypatch):
    monkeypatch.setattr(queues, "HEARTBEAT", 1)
    monkeypatch.setattr(queues, "SILENCE", 2)
    queue = Queue(tmp_path, "one")
    queue.add([job(1)])
    subprocess.run([sys.executable, "-c", DYING_WORKER, str(tmp_path)], check=False)
    assert queue.study.get_trials()[0].state == optuna.trial.TrialState.RUNNING
    queue.add([job(1)])
    queue.work(lambda one: outcome(1))
    assert queue.measured() == {job(1).key: outcome(1)}


def test_a_worker_whose_row_was_taken_measures_nothing(tmp_path, monkeypatch):
    queue = Queue(tmp_path, "one")
    queue.add([job(1)])
    with pytest.warns(UserWarning, match="Heartbeat"):
        queue.study.ask()  # as another worker, just after this one has seen the row waiting
    seen = iter([["waiting"], ["waiting"], []])
    monkeypatch.setattr(queue, "keys", lambda *_: next(seen))
    queue.work(lambda one: pytest.fail("nothing to measure"))
    monkeypatch.undo()
    assert queue.measured() == {}


def test_a_row_that_two_workers_measure_is_told_once(tmp_path):
    queue = Queue(tmp_path, "one")
    queue.add([job(1)])

    def measure(one):
        other = optuna.load_study(study_name="one", storage=f"sqlite:///{tmp_path / 'study.db'}")
        optuna.Trial(other, trial_id=1).set_user_attr("outcome", asdict(outcome(1)))
        other.tell(0, 1.0)
        return outcome(1)
    queue.work(measure)
    assert queue.measured() == {job(1).key: outcome(1)}
