# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: the state from which an interrupted training continues."""

import hashlib
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from host.datasets import Dataset
from host.network.layers import Network
from nonzero.files import write_whole

__all__ = ["Checkpoint", "fingerprint", "read_state", "write_state"]


class Checkpoint:
    """The state of one run in a file.

    Parameters
    ----------
    path : Path or None
        None keeps nothing.
    network : Network
        The network at the start of the run.
    dataset : Dataset
        The data that the run trains with.
    *settings
        All else that decides the result; values whose `repr` tells them apart.
    """

    def __init__(self, path: Path | None, network: Network, dataset: Dataset, *settings: object) -> None:
        self.path = path
        digest = hashlib.sha256(f"{settings} {fingerprint(dataset)} {dataset.augmentation}".encode())
        for layer in network.layers:
            digest.update(f"{layer.name} {layer.activation.name} {layer.weight.shape} {layer.geometry}".encode())
            digest.update(layer.weight.tobytes() + layer.bias.tobytes())
        self.identity = digest.hexdigest()

    def load(self) -> dict[str, Any] | None:
        """The state that was saved last; None without a checkpoint, for a damaged one and for one of another run."""
        if self.path is not None:
            with suppress(Exception):  # read_state raises whatever the damaged part happens to raise
                found = read_state(self.path)
                if found["identity"] == self.identity:
                    return dict(found["state"])
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Replaces the content of the file by ``state``. Raises `UserError` if it cannot be written."""
        if self.path is not None:
            write_state(self.path, {"identity": self.identity, "state": state})


def fingerprint(dataset: Dataset) -> str:
    """Hash (hexadecimal) of all images and labels of ``dataset``, their shapes and number formats."""
    digest = hashlib.sha256()
    for array in (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Saves the tensors and plain values of ``state`` to ``path``, whole or not at all.

    Raises `UserError` if the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())


def read_state(path: Path) -> dict[str, Any]:
    """The state that `write_state` saved to ``path``, its tensors on the processor.

    For a damaged file it raises any exception that reading the damaged part raises.
    """
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return state
