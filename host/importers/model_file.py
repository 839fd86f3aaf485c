# SPDX-License-Identifier: Apache-2.0
"""An open model file, and the description of a file format: how it is recognised and read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from host.network.layers import Network

__all__ = ["ModelFile", "ModelFormat"]


@dataclass(frozen=True)
class ModelFile:
    """A model file, and the user's information about the network in it.

    Attributes
    ----------
    path : Path
    file : binary file
        Open at its start.
    size : int
        Bytes of the file, 1 or more.
    start : bytes
        Its first bytes, nine unless it is shorter.
    input_shape : tuple of int, optional
    known : str, optional
        See `host.importers.load_network.load_network`.
    """

    path: Path
    file: IO[bytes]
    size: int
    start: bytes
    input_shape: tuple[int, ...] | None
    known: str | None


class ModelFormat(NamedTuple):
    """A format of model files.

    Attributes
    ----------
    recognises : callable
        Whether a `ModelFile` has this format.
    read : callable
        The network in a `ModelFile` of this format. Raises `UserError` if the file is not sound.
    """

    recognises: Callable[[ModelFile], bool]
    read: Callable[[ModelFile], Network]
