# SPDX-License-Identifier: Apache-2.0
"""Prunes a trained network: remove the weights that matter least, retrain the rest, and again.

After S. Han, J. Pool, J. Tran, W. Dally, "Learning both Weights and Connections for Efficient Neural
Networks", NIPS 2015, section 3: the surviving weights keep their values, removed ones stay removed, and
neurons that have lost all inputs or all outputs go too. `host.compression.recipe` has the options, docs/pruning.md says
what was tried and measured.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from host.compression.layer_densities import round_keep, targets
from host.compression.prune_for_cycles import activity, keep_worthy
from host.compression.recipe import PruneSettings
from host.compression.retrain import Retraining
from host.compression.saliency import choose, saliencies
from host.datasets import Dataset
from host.network.dead_neurons import (
    drop_dead_neurons,
    keep_neurons,
    living_neurons,
    put_back,
    silence_dead_neurons,
    take_neurons,
)
from host.network.layers import Network
from host.training.checkpoint import Checkpoint
from host.training.optimiser import one_cycle
from nonzero.errors import UserError

__all__ = ["PruneResult", "PruneRound", "prune"]


@dataclass(frozen=True)
class PruneRound:
    """Results of one round.

    Attributes
    ----------
    density : float
        Kept fraction of all weights.
    kept : dict
        Kept weights by layer name.
    trained : tuple of str
        Names of the layers that were pruned and retrained; the others were frozen.
    losses, held_out_errors : tuple of float
        The learning curve: mean training loss and held-out error, for each epoch.
    iterations : int
        Steps of the optimiser.
    seconds : float
        Wall-clock time of the retraining.
    """

    density: float
    kept: dict[str, int]
    trained: tuple[str, ...] = ()
    losses: tuple[float, ...] = ()
    held_out_errors: tuple[float, ...] = ()
    iterations: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class PruneResult:
    """The pruned network, and what happened in each round.

    Attributes
    ----------
    network : Network
        Without dead neurons; a weight of 0 is pruned.
    history : tuple of PruneRound
    whole : Network
        The pruned network with its dead neurons.
    """

    network: Network
    history: tuple[PruneRound, ...]
    whole: Network


def prune(network: Network, dataset: Dataset | None, settings: PruneSettings, seed: int = 0,
          checkpoint: Path | None = None) -> PruneResult:
    """Prunes and, with a dataset, retrains; without one it only removes weights, in one round, by magnitude.

    The same inputs give the same bits on one machine. Zero weights of ``network`` stay zero. The test images
    are not looked at; what ends a round is the held-out part of the training images (`host.training.samples.split`).

    Parameters
    ----------
    network : Network
        The dense network; it is not changed.
    dataset : Dataset, optional
        Training images and labels; None: no retraining.
    settings : PruneSettings
    seed : int
        Decides batches, deformations, dropout and weights that are reset.
    checkpoint : Path, optional
        Written after each epoch. The same call goes on from it, if it is there.

    Raises
    ------
    UserError
        For settings out of range, or a dataset that does not fit the network.
    """
    settings.check(network)
    if dataset is None:
        if settings.broadcasts is not None:
            raise UserError("broadcasts needs --data: training images show how often neurons are active; give it or "
                            "leave out broadcasts")
        return _prune_blindly(network, settings)
    dataset.require(network.inputs, network.outputs)
    return _Pruning(network, dataset, settings, seed, checkpoint).run()


def _prune_blindly(network: Network, settings: PruneSettings) -> PruneResult:
    """Prunes without data. Magnitudes cannot be compared between layers, so the allocation "global" becomes
    "erdos-renyi".
    """
    allocation = "erdos-renyi" if settings.everywhere else settings.allocation
    settings = replace(settings, rounds=1, criterion="magnitude", allocation=allocation)
    network, saliency = _weighed(network, settings, np.zeros(0), np.zeros(0), 0, first=True)
    keep = round_keep(network, targets(network, settings), settings, 0)
    pruned = silence_dead_neurons(_masked(network, _masks(network, saliency, keep, settings, _names(network))))
    return PruneResult(drop_dead_neurons(pruned), (_round_record(pruned),), pruned)


class _Pruning:
    """Pruning with retraining: a round for each pair of a group of layers and an index in its schedule."""

    def __init__(self, network: Network, dataset: Dataset, settings: PruneSettings, seed: int,
                 checkpoint: Path | None) -> None:
        self.settings, self.seed = settings, seed
        self.final = targets(network, settings)
        self.retraining = Retraining(network, dataset, settings, seed)
        self.rounds = [(group, index) for group in settings.freeze or (_names(network),)
                       for index in range(settings.rounds)]
        self.history: list[PruneRound] = []
        self.checkpoint = Checkpoint(checkpoint, network, dataset, settings, seed)

    def run(self) -> PruneResult:
        settings = self.settings
        under_way = self._take_up()
        epochs = len(self.rounds) // settings.rounds * ((settings.rounds - 1) * settings.round_epochs
                                                        + settings.final_epochs)
        with tqdm(total=epochs, desc="pruning", unit="epoch", disable=None) as progress:
            def after_epoch() -> None:
                progress.update()
                self.checkpoint.save({"history": [asdict(one) for one in self.history],
                                      "retraining": self.retraining.state()})
            for names, index in self.rounds[len(self.history):]:
                if under_way:
                    self.retraining.freeze(names)
                    under_way = False
                else:
                    self._cut(names, index)
                self._retrain(index == settings.rounds - 1, after_epoch)
                self.history.append(_round_record(self.retraining.network(), trained=names, **{
                    key: tuple(value) if isinstance(value, list) else value
                    for key, value in self.retraining.curve.items()}))
        whole = self.retraining.network()
        return PruneResult(drop_dead_neurons(whole), tuple(self.history), whole)

    def _take_up(self) -> bool:
        """Whether a checkpoint was taken up; it was written in the midst of a round."""
        state = self.checkpoint.load()
        if state is not None:
            self.history = [PruneRound(**one) for one in state["history"]]
            self.retraining.restore(state["retraining"])
        return state is not None

    def _cut(self, names: tuple[str, ...], index: int) -> None:
        settings, retraining = self.settings, self.retraining
        network, saliency = _weighed(retraining.network(), settings, retraining.images, retraining.labels,
                                     settings.rounds - index, first=not self.history)
        masks = _masks(network, saliency, round_keep(network, self.final, settings, index), settings, names)
        network = _masked(network, masks)
        if settings.survivors == "reset":
            network = _reset(network, names, self.seed + len(self.history))
        retraining.begin(silence_dead_neurons(network), names)

    def _retrain(self, last: bool, after_epoch: Callable[[], None]) -> None:
        settings = self.settings
        rate = (settings.final_learning_rate if last else settings.learning_rate) / settings.rate_divisor
        if last and settings.final_rate == "one-cycle":
            self.retraining.run(settings.final_epochs, lambda progress: one_cycle(rate, progress, warm_up=0.05), None,
                                after_epoch)
        else:
            self.retraining.run(settings.final_epochs if last else settings.round_epochs, lambda _: rate,
                                settings.patience, after_epoch)


def _weighed(network: Network, settings: PruneSettings, images: np.ndarray, labels: np.ndarray, rounds: int, *,
             first: bool) -> tuple[Network, list[np.ndarray]]:
    """The network without the neurons and inputs that are too many, and its weights' saliencies.

    ``rounds`` are to come, this one included; neurons by number go before the first cut.
    """
    if not settings.whole:
        return network, saliencies(settings.criterion, network, images, labels)
    if first:
        saliency = saliencies(settings.criterion, network, images, labels)
        network = keep_neurons(network, saliency, settings.neurons or {})
    rows = living_neurons(network)
    saliency = put_back(network, rows, saliencies(settings.criterion, take_neurons(network, rows), images, labels))
    if settings.broadcasts is None:
        return network, saliency
    network = keep_worthy(network, saliency, activity(network, images), settings.broadcasts, rounds)
    return network, [np.where(layer.weight, values, 0) for layer, values in zip(network.layers, saliency, strict=True)]


def _names(network: Network) -> tuple[str, ...]:
    """Names of the layers that are trained."""
    return tuple(layer.name for layer in network.layers if not layer.fixed)


def _masks(network: Network, saliency: list[np.ndarray], keep: dict[str, float], settings: PruneSettings,
           names: tuple[str, ...]) -> list[np.ndarray]:
    """Masks of the weights that stay. In layers other than those of `names` they are the weights that are there now."""
    fixed = sum(layer.weight.size for layer in network.layers if layer.fixed)
    if settings.everywhere:
        saliency = [np.full_like(one, np.inf) if layer.fixed else one
                    for one, layer in zip(saliency, network.layers, strict=True)]
        share = next(keep[layer.name] for layer in network.layers if not layer.fixed)
        counts: list[int] | int = fixed + round(share * (network.weights_total - fixed))
    else:
        counts = [round(keep[layer.name] * layer.weight.size) if layer.name in names else layer.weight.size
                  for layer in network.layers]
    return [mask & (layer.weight != 0) for mask, layer in zip(choose(saliency, counts), network.layers, strict=True)]


def _masked(network: Network, masks: list[np.ndarray]) -> Network:
    return replace(network, layers=tuple(replace(layer, weight=np.where(mask, layer.weight, np.float32(0)))
                                         for layer, mask in zip(network.layers, masks, strict=True)))


def _reset(network: Network, names: tuple[str, ...], seed: int) -> Network:
    """New random weights where there are weights, as for a network that is to be trained from scratch."""
    generator = np.random.default_rng(seed)
    layers = []
    for layer in network.layers:
        spread = np.sqrt(2 / max(1, layer.weights_kept / layer.rows))
        drawn = generator.normal(0, spread, layer.weight.shape).astype(np.float32)
        layers.append(replace(layer, weight=np.where(layer.weight != 0, drawn, np.float32(0)))
                      if layer.name in names else layer)
    return replace(network, layers=tuple(layers))


def _round_record(network: Network, **curve: object) -> PruneRound:
    return PruneRound(network.weights_kept / network.weights_total,
                      {layer.name: layer.weights_kept for layer in network.layers}, **curve)  # type: ignore[arg-type]
