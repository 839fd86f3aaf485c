# SPDX-License-Identifier: Apache-2.0
"""The methods that are compared, each with the settings it is tried at.

A method is a function of the subject, a setting and a seed. It works on `host.network.layers.Network` or on the torch
module of `host.network.zoo`, and leaves layers of kinds that it does not know as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from host.compression.kmeans import INITIALISATIONS
from host.compression.prune import prune
from host.compression.recipe import DEFAULT, HAN, MAGNITUDE, PruneSettings
from host.compression.share_weights import ShareSettings, share_weights
from host.compression.shared_network import SharedNetwork
from host.network.layers import Network
from host.network.zoo import build
from host.study.fastfood import fry
from host.study.low_rank import biclustered, factored
from host.study.measuring import Outcome, distributions, engine, on_disk, on_engine
from host.study.subject import STARTS, Subject
from host.train import TrainSettings, train

__all__ = ["BASELINE", "METHODS", "PAPER_KEEP", "Method", "Setting", "methods_for"]

Setting = dict[str, Any]
"""Options of a method: words and numbers."""

CUTS = (0.5, 0.3, 0.2, 0.1, 0.08, 0.05, 0.03)
"""Shares of the weights to keep where nothing is retrained."""

KEPT = (0.2, 0.08, 0.03)
"""Shares of the weights to keep where the rest is retrained."""

PAPER_KEEP = {"lenet-300-100": {"fc1": 0.08, "fc2": 0.09, "fc3": 0.26},
              "lenet-5": {"conv1": 0.66, "conv2": 0.12, "fc1": 0.08, "fc2": 0.19}}
"""Share of each layer that Han et al., NIPS 2015, tables 3 and 4, keep: 8.2% and 8.4% in all."""

BASELINE = "dense"


@dataclass(frozen=True)
class Method:
    """A way to compress.

    Attributes
    ----------
    run : callable
        Measures one setting with one seed.
    settings : tuple of dict
        Settings that it is tried with.
    quick : tuple of dict
        The same for a quick run.
    convolutions : bool
        Whether it is for networks with convolutions alone.
    """

    name: str
    run: Callable[[Subject, Setting, int], Outcome]
    settings: tuple[Setting, ...]
    quick: tuple[Setting, ...]
    convolutions: bool = False


def _dense(subject: Subject, setting: Setting, seed: int) -> Outcome:
    network, seconds = subject.dense(setting["start"], seed)
    return on_disk(subject, network, network.weights_total, seconds)


def _cut(subject: Subject, setting: Setting, seed: int) -> Outcome:
    network, seconds = subject.dense(setting["start"], seed)
    cut = prune(network, None, replace(MAGNITUDE, density=setting["kept"])).network
    return on_engine(subject, cut, network.weights_total, seconds)


def _prune(subject: Subject, setting: Setting, seed: int, settings: PruneSettings, start: str = "dense") -> Outcome:
    """Prunes with retraining, to ``setting["kept"]`` where the settings name no amount themselves."""
    dense, dense_seconds = subject.dense(start, seed)
    if settings.keep is None:
        settings = replace(settings, density=setting["kept"])
    network, seconds = subject.retrain(dense, settings, seed)
    outcome = on_engine(subject, network, dense.weights_total, dense_seconds + seconds)
    return replace(outcome, weights=distributions(dense, network))


def _one_shot(subject: Subject, setting: Setting, seed: int) -> Outcome:
    start = setting["start"]
    settings = replace(_once(subject), penalty=STARTS[start].penalty, penalty_strength=STARTS[start].penalty_strength)
    return _prune(subject, setting, seed, settings, start)


def _once(subject: Subject) -> PruneSettings:
    return replace(MAGNITUDE, rounds=1, final_epochs=subject.effort.retraining)


def _rounds(subject: Subject, base: PruneSettings) -> PruneSettings:
    """Several cuts, in the same number of epochs as one."""
    effort = subject.effort
    return replace(base, rounds=effort.rounds, final_epochs=effort.retraining - effort.rounds + 1)


def _iterative(subject: Subject, setting: Setting, seed: int) -> Outcome:
    return _prune(subject, setting, seed, _rounds(subject, MAGNITUDE))


def _by_saliency(subject: Subject, setting: Setting, seed: int) -> Outcome:
    return _prune(subject, setting, seed, replace(_rounds(subject, DEFAULT), criterion=setting["saliency"]))


def _paper(subject: Subject, setting: Setting, seed: int) -> Outcome:
    """Han et al. alone: magnitude, L2, dropout, a tenth of the rate, neither deformations nor distillation.

    A sparse network needs less of a penalty than a dense one: a tenth. The last round's rate falls to 0.
    """
    bare = STARTS["bare"]
    rounds = min(5, subject.effort.retraining)
    each = max(1, subject.effort.retraining // rounds)
    settings = replace(HAN, schedule="geometric", rounds=rounds, round_epochs=each, final_epochs=7 * each,
                       learning_rate=bare.final_learning_rate, final_learning_rate=bare.final_learning_rate,
                       final_rate="one-cycle", dropout=bare.dropout, batch=bare.batch,
                       penalty_strength=bare.penalty_strength / 10, keep=_paper_keep(subject, setting["kept"]))
    return _prune(subject, setting, seed, settings, "bare")


def _paper_keep(subject: Subject, kept: float) -> dict[str, float] | None:
    """The paper's densities of the layers, scaled so that this share of all weights is kept; None for another
    network."""
    shares = PAPER_KEEP.get(subject.name)
    if shares is None:
        return None
    network = subject.start(0)
    overall = sum(shares[layer.name] * layer.weight.size for layer in network.layers) / network.weights_total
    return {name: min(1.0, share * kept / overall) for name, share in shares.items()}


def _share(subject: Subject, network: Network, total: int, seconds: float, setting: Setting, seed: int) -> Outcome:
    code_bits = max(4, setting["bits"])
    how = ShareSettings(setting["first"], setting["bits"], subject.effort.sharing)
    shared: SharedNetwork = share_weights(network, engine(code_bits, direct=False), subject.dataset, how, seed)
    return on_engine(subject, shared, total, seconds + shared.seconds, code_bits)


def _low_bits(subject: Subject, setting: Setting, seed: int) -> Outcome:
    network, seconds = subject.dense("dense", seed)
    return _share(subject, network, network.weights_total, seconds, setting, seed)


def _prune_and_share(subject: Subject, setting: Setting, seed: int) -> Outcome:
    """The project's own way: `host.compile` without options, at this density."""
    effort, (dense, dense_seconds) = subject.effort, subject.dense("dense", seed)
    settings = replace(DEFAULT, density=setting["kept"], rounds=min(DEFAULT.rounds, effort.retraining),
                       final_epochs=min(DEFAULT.final_epochs, effort.retraining))
    network, seconds = subject.retrain(dense, settings, seed)
    return _share(subject, network, dense.weights_total, dense_seconds + seconds, setting, seed)


def _svd(subject: Subject, setting: Setting, seed: int) -> Outcome:
    dense, dense_seconds = subject.dense("dense", seed)
    settings = replace(_once(subject), density=1.0)
    network, seconds = subject.retrain(factored(dense, setting["kept"]), settings, seed)
    return on_engine(subject, network, dense.weights_total, dense_seconds + seconds)


def _bicluster(subject: Subject, setting: Setting, seed: int) -> Outcome:
    """Factors the convolutions as `biclustered`, and the fully connected layers as `_svd`."""
    dense, dense_seconds = subject.dense("dense", seed)
    small = factored(biclustered(dense, setting["kept"], setting["clusters"], seed), setting["kept"])
    network, seconds = subject.retrain(small, replace(_once(subject), density=1.0), seed)
    return on_engine(subject, network, dense.weights_total, dense_seconds + seconds)


def _fastfood(subject: Subject, setting: Setting, seed: int) -> Outcome:
    settings = TrainSettings(subject.name, subject.effort.epochs, seed=seed)
    model, curve = train(settings, subject.dataset, make=lambda: fry(build(subject.name), setting["layers"]))
    return on_disk(subject, model.eval(), subject.start(seed).weights_total, sum(one["seconds"] for one in curve))


def _each(**options: Sequence[Any]) -> tuple[Setting, ...]:
    """Every combination of the options' values."""
    found: list[Setting] = [{}]
    for name, values in options.items():
        found = [{**one, name: value} for one in found for value in values]
    return tuple(found)


METHODS = {method.name: method for method in (
    Method(BASELINE, _dense, _each(start=["dense", "l1", "l2", "bare"]), _each(start=["dense"])),
    Method("cut", _cut, _each(start=["dense", "l1", "l2"], kept=CUTS), _each(start=["dense"], kept=[0.2, 0.08])),
    Method("one-shot", _one_shot, _each(start=["dense", "l1", "l2"], kept=KEPT), _each(start=["dense"], kept=[0.08])),
    Method("iterative", _iterative, _each(kept=KEPT), _each(kept=[0.08])),
    Method("saliency", _by_saliency, _each(saliency=["obd", "fisher"], kept=KEPT[1:]),
           _each(saliency=["obd"], kept=[0.08])),
    Method("paper", _paper, _each(kept=[0.08]), _each(kept=[0.08])),
    Method("svd", _svd, _each(kept=[0.2, 0.1, 0.05]), _each(kept=[0.1])),
    Method("bicluster", _bicluster, _each(clusters=[2], kept=[0.4, 0.2, 0.1]) + _each(clusters=[1, 4], kept=[0.2]),
           _each(clusters=[2], kept=[0.2]), convolutions=True),
    Method("fastfood", _fastfood, _each(layers=[1, 2]), _each(layers=[2])),
    Method("low bits", _low_bits,
           _each(first=["linear"], bits=range(2, 9)) + _each(first=INITIALISATIONS[1:], bits=[4]),
           _each(first=["linear"], bits=[4])),
    Method("prune and share", _prune_and_share,
           _each(first=["linear"], bits=[4], kept=[*KEPT[1:], 0.017])
           + _each(first=["linear"], bits=[2, 3], kept=[0.03]),
           _each(first=["linear"], bits=[4], kept=[0.08])),
)}
"""The methods by name; the others are compared with the first."""


def methods_for(network: Network) -> list[Method]:
    """The methods of `METHODS` that apply to ``network``."""
    convolutions = any(layer.geometry for layer in network.layers)
    return [method for method in METHODS.values() if convolutions or not method.convolutions]
