# SPDX-License-Identifier: Apache-2.0
"""Prunes a trained network: remove the smallest weights, retrain the rest, and again.

After S. Han, J. Pool, J. Tran, W. Dally, "Learning both Weights and Connections for Efficient Neural
Networks", NIPS 2015, section 3: the surviving weights keep their values, removed ones stay removed, and
neurons that have lost all inputs or all outputs go too. docs/pruning.md says what was tried and measured.
"""

import hashlib
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from host.datasets import Dataset
from host.errors import UserError
from host.graph import Linear, Network
from host.learning import one_cycle
from host.resuming import fingerprint, read_state, write_state
from host.retraining import Retraining

__all__ = ["PruneResult", "PruneRound", "PruneSettings", "prune", "remove_dead_neurons", "spread_density"]


@dataclass(frozen=True)
class PruneSettings:
    """How far and how to prune. Exactly one of `density`, `keep` and `quality` says how far.

    Attributes
    ----------
    density : float, optional
        Kept fraction of all weights, above 0 and at most 1; `spread_density` shares it out over the layers.
    keep : dict, optional
        Kept fraction of each layer's weights by layer name; a layer that is not named keeps all.
    quality : float, optional
        Removes weights whose magnitude is below ``quality`` times the standard deviation of the non-zero
        weights of their layer (Han et al., section 3.5). Typically 0.5 to 3.
    rounds : int
        Steps from `first_density` to the final density, each followed by retraining.
    first_density : float
        Density of a layer after the first round, where the final one is lower.
    round_epochs, final_epochs : int
        Epochs of retraining after each round but the last, and after the last.
    patience : int
        A round but the last ends when the held-out error has not fallen for so many epochs.
    learning_rate, final_learning_rate : float
        Adam's learning rate in the rounds, and the peak of its one-cycle schedule in the last.
    batch : int
        Images for each step.
    held_out : float
        Fraction of the training images that is not trained on; only it, never the test images, ends a round.
    augment : float
        Strength of the random deformations of the training images (`host.augment`), 0 for none. A sparse
        network has less room to learn them than a dense one.
    """

    density: float | None = None
    keep: dict[str, float] | None = None
    quality: float | None = None
    rounds: int = 20
    first_density: float = 0.25
    round_epochs: int = 1
    final_epochs: int = 16
    patience: int = 1
    learning_rate: float = 1e-3
    final_learning_rate: float = 3e-3
    batch: int = 256
    held_out: float = 0.05
    augment: float = 0.7

    def check(self, network: Network) -> None:
        """Raises `UserError` with every setting that is out of range for this network."""
        problems = _amount_problems(self, network)
        for name in ("rounds", "round_epochs", "final_epochs", "patience", "batch"):
            if not 1 <= getattr(self, name) <= 100_000:
                problems.append(f"{name} must be 1 to 100000, not {getattr(self, name)}")
        for name in ("first_density", "learning_rate", "final_learning_rate"):
            if not 0 < getattr(self, name) <= 1:
                problems.append(f"{name} must be above 0 and at most 1, not {getattr(self, name)}")
        if not 0 <= self.augment <= 4:
            problems.append(f"augment must be 0 to 4, not {self.augment}")
        if not 0 < self.held_out <= 0.5:
            problems.append(f"held_out must be above 0 and at most 0.5, not {self.held_out}")
        if problems:
            raise UserError(problems)


def _amount_problems(settings: PruneSettings, network: Network) -> list[str]:
    given = [name for name in ("density", "keep", "quality") if getattr(settings, name) is not None]
    if len(given) != 1:
        return [f"give one of density, keep and quality, not {' and '.join(given) or 'none'}"]
    names = [layer.name for layer in network.layers]
    problems = [f"keep names a layer '{name}', but the network has {', '.join(names)}"
                for name in settings.keep or {} if name not in names]
    problems += [f"keep of layer '{name}' must be above 0 and at most 1, not {fraction}"
                 for name, fraction in (settings.keep or {}).items() if not 0 < fraction <= 1]
    if settings.density is not None and not 0 < settings.density <= 1:
        problems.append(f"density must be above 0 and at most 1, not {settings.density}")
    if settings.quality is not None and not 0 <= settings.quality < math.inf:
        problems.append(f"quality must be 0 or more, not {settings.quality}")
    return problems


@dataclass(frozen=True)
class PruneRound:
    """What one round did.

    Attributes
    ----------
    density : float
        Kept fraction of all weights.
    kept : dict
        Kept weights by layer name.
    losses, held_out_errors : tuple of float
        The learning curve: mean training loss and held-out error in percent, for each epoch.
    test_error : float or None
        In percent, after the round; None without a dataset. Nothing is chosen by it.
    """

    density: float
    kept: dict[str, int]
    losses: tuple[float, ...] = ()
    held_out_errors: tuple[float, ...] = ()
    test_error: float | None = None


@dataclass(frozen=True)
class PruneResult:
    """The pruned network (float32, zeros are pruned) and what happened in each round."""

    network: Network
    history: tuple[PruneRound, ...]


def spread_density(network: Network, density: float) -> dict[str, float]:
    """Shares an overall density out over the layers: the Erdos-Renyi rule.

    A layer's density is proportional to ``(rows + cols) / (rows * cols)``, at most 1, so that wide layers,
    which tolerate it best, lose most. D. Mocanu et al., Nature Communications 9:2383 (2018), "Methods";
    U. Evci et al., "Rigging the Lottery", ICML 2020, section 3.
    """
    wanted = density * network.weights_total
    keep: dict[str, float] = {}
    left = {layer.name: layer for layer in network.layers}
    while left:
        factor = wanted / sum(layer.rows + layer.cols for layer in left.values())
        full = [name for name, layer in left.items()
                if factor * (layer.rows + layer.cols) >= layer.weight.size]
        if not full:
            return keep | {name: factor * (layer.rows + layer.cols) / layer.weight.size
                           for name, layer in left.items()}
        for name in full:
            keep[name] = 1.0
            wanted -= left.pop(name).weight.size
    return keep


def remove_dead_neurons(network: Network) -> Network:
    """Zeroes every connection of a neuron without inputs or without outputs (Han et al., section 3.4).

    A neuron without inputs has a constant output; it moves into the biases of the next layer, so the
    network computes the same function. Shapes stay.
    """
    layers = [replace(layer, weight=layer.weight.copy(), bias=layer.bias.copy()) for layer in network.layers]
    changed = True
    while changed:
        changed = False
        for layer, following in pairwise(layers):
            silent = ~layer.weight.any(axis=1) & ((layer.bias != 0) | following.weight.any(axis=0))
            constant = np.where(silent, np.maximum(layer.bias, 0) if layer.relu else layer.bias, 0)
            following.bias[:] += following.weight @ constant.astype(np.float32)
            unheard = ~following.weight.any(axis=0) & (layer.weight.any(axis=1) | (layer.bias != 0))
            following.weight[:, silent] = 0
            layer.weight[unheard] = 0
            layer.bias[silent | unheard] = 0
            changed |= bool(silent.any() or unheard.any())
    return replace(network, layers=tuple(layers))


def prune(network: Network, dataset: Dataset | None, settings: PruneSettings, seed: int = 0,
          checkpoint: Path | None = None) -> PruneResult:
    """Prunes and, with a dataset, retrains; without one it only removes weights, in one round.

    The same inputs give the same bits on one machine. Zero weights of ``network`` stay zero.

    Parameters
    ----------
    checkpoint : Path, optional
        Written after each epoch of retraining; taken up if it is of the same inputs, else replaced.

    Raises
    ------
    UserError
        For settings out of range, or a dataset that does not fit the network.
    """
    settings.check(network)
    if dataset is None:
        pruned = remove_dead_neurons(_cut(network, _targets(network, settings)))
        return PruneResult(pruned, (_round_record(pruned),))
    dataset.require(network.inputs, network.outputs)
    retraining = Retraining(network, dataset, settings.batch, settings.held_out, settings.augment, seed)
    targets = _targets(network, settings)
    history: list[PruneRound] = []
    identity = _identity(network, dataset, settings, seed)
    state = _read(checkpoint, identity) if checkpoint else None
    if state:
        network = retraining.restore(network, state["retraining"])
        history = [PruneRound(**record) for record in state["history"]]

    def done() -> None:
        progress.update()
        if checkpoint:
            write_state(checkpoint, {"identity": identity, "history": [asdict(record) for record in history],
                                     "retraining": retraining.state()})
    epochs = (settings.rounds - 1) * settings.round_epochs + settings.final_epochs
    before = sum(len(record.losses) for record in history) + len(retraining.losses)
    with tqdm(total=epochs, desc="pruning", initial=before, unit="epoch", disable=None) as progress:
        for index in range(len(history), settings.rounds):
            if not retraining.losses:
                network = remove_dead_neurons(_cut(network, _on_the_way(targets, settings, index)))
            if index < settings.rounds - 1:
                network, curve = retraining.run(network, settings.round_epochs,
                                                _constant(settings.learning_rate), settings.patience, done)
            else:
                network, curve = retraining.run(network, settings.final_epochs,
                                                _cycle(settings.final_learning_rate), done=done)
            history.append(replace(_round_record(network), losses=curve.losses,
                                   held_out_errors=curve.held_out_errors, test_error=curve.test_error))
    return PruneResult(network, tuple(history))


def _identity(network: Network, dataset: Dataset, settings: PruneSettings, seed: int) -> str:
    """Hash of all that decides the result."""
    digest = hashlib.sha256(f"{settings} {seed} {fingerprint(dataset)}".encode())
    for layer in network.layers:
        digest.update(f"{layer.name} {layer.relu}".encode() + layer.weight.tobytes() + layer.bias.tobytes())
    return digest.hexdigest()


def _read(checkpoint: Path, identity: str) -> dict[str, Any] | None:
    """What there is to go on from; None for no checkpoint, a damaged one or one of other inputs."""
    with suppress(Exception):  # read_state raises whatever the damaged part happens to raise
        state = read_state(checkpoint)
        if state["identity"] == identity:
            return state
    return None


def _constant(rate: float) -> Callable[[float], float]:
    return lambda _: rate


def _cycle(peak: float) -> Callable[[float], float]:
    return lambda progress: one_cycle(peak, progress, warm_up=0.05)


def _targets(network: Network, settings: PruneSettings) -> dict[str, float]:
    """The density at which each layer ends."""
    if settings.density is not None:
        return spread_density(network, settings.density)
    if settings.keep is not None:
        return {layer.name: settings.keep.get(layer.name, 1.0) for layer in network.layers}
    return {layer.name: _density_above(layer.weight, settings.quality or 0.0) for layer in network.layers}


def _density_above(weight: np.ndarray, quality: float) -> float:
    alive = weight[weight != 0]
    threshold = quality * alive.std(dtype=np.float64) if alive.size else 0.0
    return float(np.count_nonzero(np.abs(alive) >= threshold) / weight.size)


def _on_the_way(targets: dict[str, float], settings: PruneSettings, index: int) -> dict[str, float]:
    """Densities for round ``index``: equal ratios from round to round."""
    left = 1 - (index + 1) / settings.rounds
    return {name: target * max(1.0, settings.first_density / max(target, 1e-9)) ** left
            for name, target in targets.items()}


def _cut(network: Network, keep: dict[str, float]) -> Network:
    """Keeps the greatest weights of each layer: round(keep * size) of them."""
    def cut(layer: Linear) -> Linear:
        magnitudes = np.abs(layer.weight).ravel()
        removed = magnitudes.size - round(keep[layer.name] * magnitudes.size)
        weight = layer.weight.copy().ravel()
        # A stable sort, so that among equal magnitudes the choice is always the same.
        weight[np.argsort(magnitudes, kind="stable")[:removed]] = 0
        return replace(layer, weight=weight.reshape(layer.weight.shape))
    return replace(network, layers=tuple(cut(layer) for layer in network.layers))


def _round_record(network: Network) -> PruneRound:
    return PruneRound(network.weights_kept / network.weights_total,
                      {layer.name: layer.weights_kept for layer in network.layers})
