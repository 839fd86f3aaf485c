# SPDX-License-Identifier: Apache-2.0
"""The networks that a study compresses, their data, and the trained networks that methods start from."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from host.compression.prune import prune
from host.compression.recipe import PruneSettings
from host.datasets import Dataset
from host.importers.load_network import load_network
from host.network.layers import Network
from host.network.zoo import build
from host.training.checkpoint import read_state, write_state
from host.training.optimiser import settle_torch

__all__ = ["FULL_EPOCHS", "QUICK_EPOCHS", "STARTS", "Effort", "Subject"]


@dataclass(frozen=True)
class Effort:
    """Epochs for which every method trains.

    Attributes
    ----------
    epochs : int
        Epochs of the dense network, and of networks that are trained from scratch.
    retraining : int
        Epochs after a cut in all, whatever the number of cuts.
    rounds : int
        Cuts of iterative pruning, one epoch after each but the last.
    sharing : int
        Epochs of fine-tuning shared weights.
    """

    epochs: int
    retraining: int
    rounds: int
    sharing: int

    @classmethod
    def of(cls, epochs: int) -> "Effort":
        """Epochs for a study whose dense networks are trained for ``epochs``."""
        return cls(epochs, epochs, min(8, epochs), max(1, epochs // 5))


FULL_EPOCHS, QUICK_EPOCHS = 20, 2

DENSE = PruneSettings(density=1.0, criterion="magnitude", allocation="uniform", rounds=1, final_learning_rate=3e-3,
                      augment=1.0)

STARTS: dict[str, PruneSettings] = {
    "dense": DENSE,
    "l1": replace(DENSE, penalty="l1", penalty_strength=1e-5),
    "l2": replace(DENSE, penalty="l2", penalty_strength=1e-4),
    "bare": replace(DENSE, penalty="l2", penalty_strength=1e-4, dropout=0.3, augment=0.0, batch=64),
}
"""Options of training of the dense networks. "bare" is the paper's: L2 and dropout, but no deformed images."""

LONGER = {"bare": 3}
"""Factors of the epochs of a dense network: epochs without deformed images are short."""


class Subject:
    """A network and its data.

    Parameters
    ----------
    name : str
        A network of `host.network.zoo`.
    dataset : Dataset
    effort : Effort
        Epochs of training.
    directory : Path
        Keeps the trained dense networks.
    """

    def __init__(self, name: str, dataset: Dataset, effort: Effort, directory: Path) -> None:
        settle_torch()
        self.name, self.dataset, self.effort, self.directory = name, dataset, effort, directory

    def start(self, seed: int) -> Network:
        """The network with random weights, which ``seed`` decides."""
        torch.manual_seed(seed)
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / f"{self.name}.pt"
            write_state(path, {"state_dict": build(self.name).state_dict()})
            return load_network(path, known=self.name)

    def dense(self, kind: str, seed: int) -> tuple[Network, float]:
        """A trained dense network, and the seconds that its training took; trained at the first call.

        Parameters
        ----------
        kind : str
            A name of `STARTS`.
        seed : int
            Decides the first weights and the training.
        """
        path = self.directory / f"{kind}-{seed}.pt"
        start = self.start(seed)
        if not path.exists():
            epochs = self.effort.epochs * LONGER.get(kind, 1)
            result = prune(start, self.dataset, replace(STARTS[kind], final_epochs=epochs), seed)
            write_state(path, {"layers": [[torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)]
                                          for layer in result.network.layers],
                               "seconds": result.history[-1].seconds})
        state: dict[str, Any] = read_state(path)
        layers = tuple(replace(layer, weight=weight.numpy(), bias=bias.numpy())
                       for layer, (weight, bias) in zip(start.layers, state["layers"], strict=True))
        return replace(start, layers=layers), state["seconds"]

    def retrain(self, network: Network, settings: PruneSettings, seed: int) -> tuple[Network, float]:
        """Prunes and retrains a network (`host.compression.prune.prune` with ``settings`` and ``seed``).

        Returns
        -------
        network : Network
            The network after pruning.
        seconds : float
            Wall-clock time of training.
        """
        result = prune(network, self.dataset, settings, seed)
        return result.network, sum(one.seconds for one in result.history)
