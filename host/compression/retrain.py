# SPDX-License-Identifier: Apache-2.0
"""Retrains the weights that pruning has left; a removed weight stays removed."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from host.compression.recipe import PruneSettings
from host.datasets import Dataset
from host.network.dead_neurons import living_neurons, put_back, take_neurons, weight_places
from host.network.graph import sources
from host.network.layers import Network
from host.training.forward import Layers, TorchLayer, ends_of, error_of, logits, loss_of, tensors
from host.training.optimiser import settle_torch
from host.training.samples import Samples, split
from nonzero.errors import UserError

__all__ = ["Retraining", "flat"]

TEMPERATURE = 2.0
"""Temperature of distillation: both networks' outputs are divided by it."""


class Retraining:
    """Trains with Adam, whose state is kept from one round to the next.

    With the options ``neurons`` and ``broadcasts`` the network is trained without the channels and neurons that are
    dead, and without the inputs of a fully connected first layer that have no weights, which takes a fraction of the
    time; the gradients of the others differ by rounding alone.

    A round is `begin`, then `run`. The learning curve of the round under way is in `curve`: for each epoch the
    mean loss in ``losses`` and the held-out error (`host.training.forward.error_of`) in ``held_out_errors``, with
    ``iterations`` and wall-clock ``seconds`` in all.

    Parameters
    ----------
    dense : Network
        Gives the shapes, the connections before pruning, and what distillation compares with.
    dataset : Dataset
        Its training images are split into those that are trained on and those that are held out.
    settings : PruneSettings
    seed : int
        Decides batches, augmentation and dropout.
    """

    def __init__(self, dense: Network, dataset: Dataset, settings: PruneSettings, seed: int) -> None:
        settle_torch()
        self.dense, self.settings = dense, settings
        (images, labels), self.held_out = split(dataset)
        self.samples = Samples(images, labels, augment=settings.augment, augmentation=dataset.augmentation)
        self.images, self.labels = images, labels
        self.batch = min(settings.batch, len(labels))
        self.generator = torch.Generator().manual_seed(seed)
        self.teacher = tensors(dense)
        self.curve: dict[str, Any] = {}
        self._hold(dense, [np.arange(layer.rows) for layer in dense.layers], None)

    def begin(self, network: Network, names: Sequence[str]) -> None:
        """Takes up a network for a round, in which its zero weights stay zero.

        Parameters
        ----------
        network : Network
            The pruned network, with the shapes of ``dense``.
        names : sequence of str
            The layers to train; all others are frozen.
        """
        whole = self.settings.whole
        rows = living_neurons(network) if whole else self.rows
        inputs = self.used_inputs(network) if whole else None
        self._hold(network, rows, inputs, self.adam_state())
        self.freeze(names)
        self.curve = {"losses": [], "held_out_errors": [], "iterations": 0, "seconds": 0.0}

    def freeze(self, names: Sequence[str]) -> None:
        """From now on trains only the layers called ``names``."""
        self.optimizer.zero_grad()
        for layer, weight, bias in zip(self.dense.layers, self.weights, self.biases, strict=True):
            weight.requires_grad_(layer.name in names)
            bias.requires_grad_(layer.name in names)

    def run(self, epochs: int, rate: Callable[[float], float], patience: int | None,
            after_epoch: Callable[[], object]) -> None:
        """Trains to the end of the round, from wherever `curve` says it is.

        Parameters
        ----------
        epochs : int
            Largest number of epochs.
        rate : callable
            Learning rate as a function of progress, 0 to 1.
        patience : int or None
            Epochs without a lower held-out error after which training stops; None: never.
        after_epoch : callable
            Is called without arguments after each epoch.
        """
        curve = self.curve
        while len(curve["losses"]) < epochs and not flat(curve["held_out_errors"], patience):
            begin, done = time.perf_counter(), len(curve["losses"])
            loss = self._epoch(lambda step, done=done: rate((done + step) / epochs))  # type: ignore[misc]
            curve["losses"].append(loss)
            curve["held_out_errors"].append(error_of(self._forward_whole, *self.held_out))
            curve["iterations"] += self.samples.batch_count(self.batch)
            curve["seconds"] += time.perf_counter() - begin
            after_epoch()

    def network(self) -> Network:
        """The network as it is, in the shapes of the dense one."""
        weights = put_back(self.dense, self.rows, [weight.detach().numpy() for weight in self.weights], self.inputs)
        layers = []
        for layer, rows, weight, bias in zip(self.dense.layers, self.rows, weights, self.biases, strict=True):
            constant = np.zeros(layer.rows, np.float32)
            constant[rows] = bias.detach().numpy()
            layers.append(replace(layer, weight=weight, bias=constant))
        return replace(self.dense, layers=tuple(layers))

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs to continue with the same bits."""
        return {"weights": [weight.detach() for weight in self.weights],
                "biases": [bias.detach() for bias in self.biases], "masks": self.masks, "curve": self.curve,
                "rows": [torch.from_numpy(rows) for rows in self.rows],
                "inputs": None if self.inputs is None else torch.from_numpy(self.inputs),
                "optimizer": self.optimizer.state_dict(), "generator": self.generator.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from a ``state`` that `state` has returned."""
        self._hold(self.dense, [rows.numpy() for rows in state["rows"]],
                   None if state["inputs"] is None else state["inputs"].numpy())
        with torch.no_grad():
            for ours, saved in zip(self.weights + self.biases, state["weights"] + state["biases"], strict=True):
                ours.copy_(saved)
        self.masks, self.curve = state["masks"], state["curve"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])

    def used_inputs(self, network: Network) -> np.ndarray | None:
        """The inputs of ``network`` to train with; None for all, which distillation needs for the dense network."""
        first = network.layers[0]
        used = np.flatnonzero(first.weight.any(axis=0))
        return None if first.geometry or self.settings.distill or not used.size else used

    def _hold(self, network: Network, rows: list[np.ndarray], inputs: np.ndarray | None,
              known: Sequence[dict[str, torch.Tensor]] = ()) -> None:
        """Continues with only these neurons and inputs; ``known`` is Adam's state so far, if there is any."""
        small = take_neurons(network, rows, inputs)
        self.rows, self.inputs, self.places = rows, inputs, weight_places(network, rows, inputs)
        self.samples.want(inputs)
        self.geometries = [layer.geometry for layer in small.layers]
        self.weights = [torch.from_numpy(layer.weight).requires_grad_() for layer in small.layers]
        self.biases = [torch.from_numpy(layer.bias).requires_grad_() for layer in small.layers]
        self.masks = [(weight != 0).float() for weight in self.weights]
        self.optimizer = torch.optim.Adam(self.weights + self.biases, fused=True)
        for values, places, whole in zip(self.weights + self.biases, self.places + self.rows, known, strict=False):
            if whole:
                self.optimizer.state[values] = {key: value if value.dim() == 0 else value[torch.from_numpy(places)]
                                                for key, value in whole.items()}

    def adam_state(self) -> list[dict[str, torch.Tensor]]:
        """Adam's state of all weights, then of all biases, flat and in the sizes of the dense network."""
        sizes = [layer.weight.size for layer in self.dense.layers] + [layer.rows for layer in self.dense.layers]
        whole: list[dict[str, torch.Tensor]] = []
        for values, places, size in zip(self.weights + self.biases, self.places + self.rows, sizes, strict=True):
            whole.append({})
            for key, value in self.optimizer.state.get(values, {}).items():
                whole[-1][key] = value
                if value.dim():
                    whole[-1][key] = torch.zeros(size)
                    whole[-1][key][torch.from_numpy(places)] = value
        return whole

    def _layers(self) -> Layers:
        return [TorchLayer(weight, bias, layer.activation, geometry, *wires, *ends_of(layer))
                for weight, bias, layer, geometry, wires in zip(
                    self.weights, self.biases, self.dense.layers, self.geometries, sources(self.dense.layers),
                    strict=True)]

    def _forward_whole(self, inputs: torch.Tensor) -> torch.Tensor:
        """The outputs for inputs of which some may not be used."""
        return logits(self._layers(), inputs if self.inputs is None else inputs[:, torch.from_numpy(self.inputs)])

    def dropout_rates(self) -> list[float]:
        """Dropout rate of each hidden layer, scaled by its connections: Han et al., section 3.2."""
        return [self.settings.dropout * math.sqrt(float(mask.sum()) / max(1, layer.weights_kept))
                for mask, layer in zip(self.masks[:-1], self.dense.layers, strict=False)]

    def _epoch(self, rate: Callable[[float], float]) -> float:
        count = self.samples.batch_count(self.batch)
        dropout = self.dropout_rates() if self.settings.dropout else []
        total = 0.0
        for index, (inputs, labels) in enumerate(self.samples.batches(self.batch, self.generator)):
            hidden: list[torch.Tensor] | None = [] if self.settings.activity_penalty else None
            outputs = logits(self._layers(), inputs, dropout, self.generator, hidden)
            loss = loss_of(outputs, labels)
            if self.settings.distill:
                loss = torch.lerp(loss, self._distance(inputs, outputs), self.settings.distill)
            for acts in hidden or []:
                loss = loss + self.settings.activity_penalty * acts.abs().sum() / len(acts)
            self.optimizer.zero_grad()
            loss.backward()
            self._step(rate(index / count))
            total += loss.item()
        if not math.isfinite(total):
            raise UserError("retraining diverged; use a lower learning rate")
        return total / count

    def _distance(self, inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
        """Distance from the dense network's outputs: of classes by their chances, of targets by their squares."""
        with torch.no_grad():
            wanted = logits(self.teacher, inputs)
        if self.labels.dtype.kind == "f":
            return loss_of(outputs, wanted)
        wanted = functional.log_softmax(wanted / TEMPERATURE, 1)
        found = functional.log_softmax(outputs / TEMPERATURE, 1)
        return TEMPERATURE ** 2 * functional.kl_div(found, wanted, reduction="batchmean", log_target=True)

    @torch.no_grad()
    def _step(self, rate: float) -> None:
        strength = self.settings.penalty_strength
        for weight, mask in zip(self.weights, self.masks, strict=True):
            if weight.grad is None:
                continue
            if self.settings.penalty != "none":
                weight.grad += strength * (weight if self.settings.penalty == "l2" else weight.sign())
            weight.grad *= mask
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        # Adam's momentum still moves weights that were removed just now, so they are zeroed again.
        for weight, mask in zip(self.weights, self.masks, strict=True):
            weight *= mask


def flat(errors: Sequence[float], patience: int | None) -> bool:
    """Whether the least error is more than ``patience`` epochs old.

    Parameters
    ----------
    errors : sequence of float
        Error of each epoch so far, in any unit.
    patience : int or None
        Epochs, at least 1; None is never flat.
    """
    if patience is None or len(errors) <= patience:
        return False
    return min(errors[-patience:]) >= min(errors[:-patience])
