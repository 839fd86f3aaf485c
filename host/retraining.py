# SPDX-License-Identifier: Apache-2.0
"""Retrains the weights that pruning has left; a removed weight stays removed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from host.datasets import Dataset
from host.errors import UserError
from host.graph import Network
from host.learning import Samples, error_percent, logits, settle_torch, split

__all__ = ["LearningCurve", "Retraining"]


@dataclass(frozen=True)
class LearningCurve:
    """Mean training loss and held-out error in percent for each epoch, and the test error at the end."""

    losses: tuple[float, ...]
    held_out_errors: tuple[float, ...]
    test_error: float


class Retraining:
    """Trains with Adam, whose state lives on from one `run` to the next.

    Parameters
    ----------
    network : Network
        Gives the shapes.
    batch : int
        Images for each step; all of them if there are fewer.
    held_out : float
        Fraction of the training images that is not trained on but judges when to stop.
    augment : float
        Strength of the random deformations of the images, if they are planes; 0 for none.
    """

    def __init__(self, network: Network, dataset: Dataset, batch: int, held_out: float, augment: float,
                 seed: int) -> None:
        settle_torch()
        self.dataset = dataset
        (images, labels), self.held_out = split(dataset, held_out, seed)
        self.samples = Samples(images, labels, augment=augment)
        self.batch = min(batch, len(labels))
        self.generator = torch.Generator().manual_seed(seed)
        self.weights = [torch.from_numpy(layer.weight.copy()).requires_grad_() for layer in network.layers]
        self.biases = [torch.from_numpy(layer.bias.copy()).requires_grad_() for layer in network.layers]
        self.relus = [layer.relu for layer in network.layers]
        self.optimizer = torch.optim.Adam(self.weights + self.biases, fused=True)
        self.losses: list[float] = []
        self.errors: list[float] = []

    def run(self, network: Network, epochs: int, rate: Callable[[float], float],
            patience: int | None = None, done: Callable[[], object] = lambda: None) -> tuple[Network, LearningCurve]:
        """Trains the non-zero weights and the biases of ``network``.

        Parameters
        ----------
        epochs : int
            How many at most.
        rate : callable
            Learning rate as a function of progress, 0 to 1.
        patience : int, optional
            Stop when the held-out error has not fallen for so many epochs.
        done : callable
            Called after each epoch; `state` is complete then.
        """
        self._load(network)
        masks = [(weight != 0).float() for weight in self.weights]
        while len(self.losses) < epochs and not _flat(self.errors, patience):
            self.losses.append(self._epoch(masks, lambda step: rate((len(self.losses) + step) / epochs)))
            self.errors.append(error_percent(self._forward, *self.held_out))
            done()
        test_error = error_percent(self._forward, self.dataset.test_images, self.dataset.test_labels)
        curve = LearningCurve(tuple(self.losses), tuple(self.errors), test_error)
        self.losses, self.errors = [], []
        return self._trained(network), curve

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on after an epoch."""
        return {"parameters": [value.detach() for value in self.weights + self.biases],
                "optimizer": self.optimizer.state_dict(), "generator": self.generator.get_state(),
                "losses": self.losses, "errors": self.errors}

    @torch.no_grad()
    def restore(self, network: Network, state: dict[str, Any]) -> Network:
        """Takes up a `state`; returns the network to `run` next, which goes on after the last epoch."""
        for value, saved in zip(self.weights + self.biases, state["parameters"], strict=True):
            value.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.losses, self.errors = state["losses"], state["errors"]
        return self._trained(network)

    def _load(self, network: Network) -> None:
        with torch.no_grad():
            for layer, weight, bias in zip(network.layers, self.weights, self.biases, strict=True):
                weight.copy_(torch.from_numpy(layer.weight))
                bias.copy_(torch.from_numpy(layer.bias))

    def _trained(self, network: Network) -> Network:
        names = [layer.name for layer in network.layers]
        weights, biases = (
            {name: value.detach().numpy().copy() for name, value in zip(names, values, strict=True)}
            for values in (self.weights, self.biases))
        return network.with_weights(weights, biases)

    def _forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return logits(list(zip(self.weights, self.biases, self.relus, strict=True)), inputs)

    def _epoch(self, masks: list[torch.Tensor], rate: Callable[[float], float]) -> float:
        count = self.samples.batch_count(self.batch)
        total = 0.0
        for index, (inputs, labels) in enumerate(self.samples.batches(self.batch, self.generator)):
            loss = functional.cross_entropy(self._forward(inputs), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self._step(masks, rate(index / count))
            total += loss.item()
        if not math.isfinite(total):
            raise UserError("retraining diverged; use a lower learning rate")
        return total / count

    @torch.no_grad()
    def _step(self, masks: list[torch.Tensor], rate: float) -> None:
        for weight, mask in zip(self.weights, masks, strict=True):
            assert weight.grad is not None
            weight.grad *= mask
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        # Once more, since Adam's momentum still moves weights that were removed just now.
        for weight, mask in zip(self.weights, masks, strict=True):
            weight *= mask


def _flat(errors: list[float], patience: int | None) -> bool:
    if patience is None or len(errors) <= patience:
        return False
    return min(errors[-patience:]) >= min(errors[:-patience])
