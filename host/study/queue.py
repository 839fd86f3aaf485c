# SPDX-License-Identifier: Apache-2.0
"""The rows to be measured, as trials of an Optuna study in a file, which any number of workers take from.

Optuna hands each waiting trial to one worker, keeps what is measured, and gives the trials of a worker that has
fallen silent to another.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState

from host.study.measuring import Outcome
from nonzero.errors import UserError

__all__ = ["Job", "Queue"]

HEARTBEAT, SILENCE = 5, 20
"""Seconds between two signs of life of a worker, and seconds without one after which it counts as dead."""

FILE = "study.db"


@dataclass(frozen=True)
class Job:
    """One row with one seed.

    Attributes
    ----------
    method : str
        A name of `host.study.methods`.
    setting : dict
        The method's parameters.
    seed : int
    """

    method: str
    setting: dict[str, Any]
    seed: int

    @property
    def key(self) -> str:
        """A text that no other job has."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of(cls, key: str) -> "Job":
        """The job whose `key` is ``key``."""
        return cls(**json.loads(key))


class Queue:
    """Opens the study ``name`` in ``directory``; makes both if there is none.

    Raises
    ------
    UserError
        If the file is no study.
    """

    def __init__(self, directory: Path, name: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / FILE
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # of heartbeats
                storage = RDBStorage(f"sqlite:///{path}", heartbeat_interval=HEARTBEAT, grace_period=SILENCE,
                                     heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback())
            self.study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
        except Exception as error:  # whatever SQLAlchemy's driver raises for a damaged file
            raise UserError(f"study '{path}' must be a file of Optuna, but cannot be opened ({type(error).__name__}); "
                            "delete it or name another output directory") from None

    def add(self, jobs: Iterable[Job]) -> None:
        """Adds those of ``jobs`` that are not yet measured, waiting or running."""
        known = set(self.keys(TrialState.COMPLETE, TrialState.WAITING, TrialState.RUNNING))
        for job in jobs:
            if job.key not in known:
                self.study.enqueue_trial({}, user_attrs={"job": job.key})

    def take_over(self, known: Mapping[str, Outcome]) -> None:
        """Adds the outcomes ``known`` from elsewhere, by the key of the job, unless the job is measured here as well.
        """
        ours = self.measured_keys()
        for key, outcome in known.items():
            if key not in ours:
                self.study.add_trial(optuna.trial.create_trial(value=outcome.test_error, user_attrs={
                    "job": key, "outcome": asdict(outcome)}))

    def measured(self) -> dict[str, Outcome]:
        """Outcomes by the key of the job."""
        return {trial.user_attrs["job"]: Outcome(**trial.user_attrs["outcome"])
                for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}

    def measured_keys(self) -> set[str]:
        """Keys of the jobs that are measured."""
        return set(self.keys(TrialState.COMPLETE))

    def work(self, measure: Callable[[Job], Outcome]) -> None:
        """Takes jobs until none is waiting or running; the function ``measure`` turns each into its outcome."""
        key: str | None = None

        def objective(trial: optuna.Trial) -> float:
            nonlocal key
            key = trial.user_attrs.get("job")
            if key is None:  # another worker was faster: Optuna made up a new trial
                raise optuna.TrialPruned
            outcome = measure(Job.of(key))
            trial.set_user_attr("outcome", asdict(outcome))
            return outcome.test_error
        while self.keys(TrialState.WAITING, TrialState.RUNNING):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                optuna.storages.fail_stale_trials(self.study)
            if self.keys(TrialState.WAITING):
                # SQLite lets two workers take one trial, and a worker that is silent for too long loses its own; the
                # slower one must not tell it again. Optuna notices that before it writes, or while it does.
                try:
                    self.study.optimize(objective, n_trials=1)
                except optuna.exceptions.UpdateFinishedTrialError:
                    continue
                except ValueError:
                    if key not in self.measured_keys():
                        raise
            else:
                time.sleep(1)

    def keys(self, *states: TrialState) -> list[str]:
        """Keys of the jobs whose trials are in one of these states."""
        trials = self.study.get_trials(deepcopy=False, states=states)
        return [trial.user_attrs["job"] for trial in trials if "job" in trial.user_attrs]
