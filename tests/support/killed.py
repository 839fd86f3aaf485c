# SPDX-License-Identifier: Apache-2.0
"""A training that is killed right after it has saved a checkpoint."""

from contextlib import contextmanager

import pytest

from host.training.checkpoint import Checkpoint

__all__ = ["killed_after"]


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


@contextmanager
def killed_after(checkpoints, monkeypatch):
    """Kills the training that runs in this context right after it has saved ``checkpoints`` checkpoints."""
    saved = []
    save = Checkpoint.save

    def save_and_die(self, state):
        save(self, state)
        saved.append(state)
        if len(saved) == checkpoints:
            raise Killed
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoint, "save", save_and_die)
        yield
