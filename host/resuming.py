# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what an interrupted training goes on from."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from host.datasets import Dataset
from host.files import write_whole

__all__ = ["fingerprint", "read_state", "write_state"]


def fingerprint(dataset: Dataset) -> str:
    """Hash (hexadecimal) of all images and labels, their shapes and number formats."""
    digest = hashlib.sha256()
    for array in (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Saves tensors and plain values whole or not at all. Raises `UserError` if the file cannot be written."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())


def read_state(path: Path) -> dict[str, Any]:
    """What `write_state` saved. Of a damaged file it raises whatever the damaged part happens to raise."""
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state
