# SPDX-License-Identifier: Apache-2.0
"""Options of pruning: every rule of Han et al., NIPS 2015, as a named option, and the recipes made of them.

Section numbers are those of S. Han, J. Pool, J. Tran, W. Dally, "Learning both Weights and Connections for
Efficient Neural Networks", NIPS 2015, unless another source is named. docs/pruning.md compares the recipes.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from host.compression.saliency import CRITERIA
from host.network.layers import Network
from nonzero.errors import UserError
from nonzero.shipped import given_or_shipped
from nonzero.toml_files import read_toml

__all__ = ["LENET_300_100_DENSITY", "RECIPES", "PruneSettings", "read_recipe", "with_amount"]

DENSITY = 0.08
"""Share of the weights to keep where nothing else is asked for: what Han et al. keep of LeNet-300-100."""

LENET_300_100_DENSITY = 0.031
"""Share of the weights of LeNet-300-100 that demo and benches keep; docs/pruning.md says how it was found."""

CHOICES: dict[str, tuple[str, ...]] = {
    "allocation": ("erdos-renyi", "uniform", "global"), "criterion": tuple(CRITERIA),
    "schedule": ("geometric", "cubic", "greedy"), "survivors": ("keep", "reset"),
    "penalty": ("none", "l1", "l2"), "final_rate": ("one-cycle", "constant"),
}
"""The values of the options that are words."""


@dataclass(frozen=True)
class PruneSettings:
    """Options of pruning. Exactly one of `density`, `keep` and `quality` says how far.

    Attributes
    ----------
    density : float, optional
        Kept fraction of all weights, above 0 and at most 1; `allocation` shares it out over the layers.
    keep : dict, optional
        Kept fraction of each layer's weights by layer name; a layer that is not named keeps all.
    quality : float or dict, optional
        Removes weights whose magnitude is below ``quality`` times the standard deviation of the non-zero weights
        of their layer (section 4). One for all layers, or by layer name; a layer that
        is not named keeps all. Typically 0.5 to 3.
    allocation : str
        How a `density` is shared out: "erdos-renyi" (`host.compression.layer_densities.spread_density`),
        "uniform", or "global": one threshold of saliency over all layers, which may not be frozen by groups then.
    criterion : str
        The saliency by which weights are chosen: "magnitude" (section 3), "obd" or "fisher"
        (`host.compression.saliency`).
    schedule : str
        How the rounds reach the end: in "geometric" ratios; "cubic", fast first (M. Zhu, S. Gupta, arXiv
        1710.01878, section 3); or "greedy": each round prunes to the full amount at once, with `quality` anew
        by what the round before has left (section 3.4, "iterative pruning").
    rounds : int
        Steps to the final density, each followed by retraining (section 3.4).
    first_density : float
        Density from which the schedule starts, where the final one of a layer is lower.
    survivors : str
        "keep" the values of the weights that are left, or "reset" them at random (section 3.3: keeping is
        better).
    neurons : dict, optional
        How many neurons, or channels of a convolution, a hidden layer keeps, by layer name; the others go in the first
        cut, those of the least summed saliency, before the weights are chosen. A layer that is not named keeps all (not
        in the paper, which removes neurons only when they have lost all connections). With this option, even with an
        empty table, retraining leaves out dead neurons: it is faster, and its results differ by rounding alone.
    broadcasts : float, optional
        How many activations a mean image sends to the PEs when pruning is done, one in a cycle: inputs with weights and
        hidden neurons (pixels of a channel) that are not zero. Before each cut, the inputs and neurons of the least
        summed saliency for each broadcast go, whole, in equal ratios over the rounds
        (`host.compression.prune_for_cycles`; not in the paper). Needs data. Retraining leaves out what
        is dead, as with ``neurons``.
    freeze : tuple of tuple of str
        Groups of layer names that are pruned and retrained one after the other, all others being frozen
        (section 3.3, convolutions and fully connected layers); none: all layers at once.
    round_epochs, final_epochs : int
        Epochs of retraining after each round but the last, and after the last.
    patience : int
        Epochs without a lower held-out error after which a round ends: the learning curve is flat. Only
        a last round of the "one-cycle" rate runs to its end.
    learning_rate, final_learning_rate : float
        Adam's learning rate in the rounds, and in the last: the peak of its schedule, if it is "one-cycle".
    rate_divisor : float
        Divides both (section 4.1: retraining takes a tenth of the original learning rate, 4.2: a hundredth).
    final_rate : str
        "one-cycle" (`host.training.optimiser.one_cycle`) or "constant".
    penalty, penalty_strength : str, float
        On the weights in the loss (section 3.1): "l1", strength times the sum of magnitudes; "l2", strength / 2
        times the sum of squares; or "none".
    activity_penalty : float
        Times the sum of a mean image's hidden activations, added to the loss: fewer neurons are then active, each of
        which costs a broadcast (not in the paper; X. Glorot, A. Bordes, Y. Bengio, "Deep Sparse Rectifier Neural
        Networks", AISTATS 2011, section 3.2).
    dropout : float
        Rate of dropout of hidden neurons with which the dense network was trained; after each round every layer
        takes it times sqrt(connections left / connections before) (section 3.2).
    distill : float
        Share of the loss that compares with the dense network's outputs, at a temperature of 2, 0 to 1
        (G. Hinton et al., arXiv 1503.02531; not in the paper).
    batch : int
        Images for each step.
    augment : float
        Strength of the random augmentation of the training images (`host.training.augment`), 0 for none. A sparse
        network has less room to learn it than a dense one. The dataset says how images are augmented.
    """

    density: float | None = None
    keep: dict[str, float] | None = None
    quality: float | dict[str, float] | None = None
    allocation: str = "global"
    criterion: str = "obd"
    schedule: str = "geometric"
    rounds: int = 20
    first_density: float = 0.25
    survivors: str = "keep"
    neurons: dict[str, int] | None = None
    broadcasts: float | None = None
    freeze: tuple[tuple[str, ...], ...] = ()
    round_epochs: int = 1
    final_epochs: int = 16
    patience: int = 1
    learning_rate: float = 1e-3
    final_learning_rate: float = 3e-3
    rate_divisor: float = 1.0
    final_rate: str = "one-cycle"
    penalty: str = "none"
    penalty_strength: float = 1e-4
    activity_penalty: float = 0.0
    dropout: float = 0.0
    distill: float = 0.0
    batch: int = 256
    augment: float = 0.7

    @property
    def everywhere(self) -> bool:
        """Whether all layers' weights compete with each other."""
        return self.density is not None and self.allocation == "global"

    @property
    def whole(self) -> bool:
        """Whether whole neurons, channels or inputs are removed, before the weights are chosen."""
        return self.neurons is not None or self.broadcasts is not None

    def check(self, network: Network) -> None:
        """Raises `UserError` with every setting that is out of range for ``network``."""
        problems = _amount_problems(self, network) + _name_problems(self, network)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                problems.append(f"{name} must be one of {', '.join(allowed)}, not '{getattr(self, name)}'")
        for name in ("rounds", "round_epochs", "final_epochs", "patience", "batch"):
            if not 1 <= getattr(self, name) <= 100_000:
                problems.append(f"{name} must be 1 to 100000, not {getattr(self, name)}")
        for name in ("first_density", "learning_rate", "final_learning_rate"):
            if not 0 < getattr(self, name) <= 1:
                problems.append(f"{name} must be above 0 and at most 1, not {getattr(self, name)}")
        for name, low, high in (("augment", 0, 4), ("distill", 0, 1), ("penalty_strength", 0, 1),
                                ("activity_penalty", 0, 1),
                                ("rate_divisor", 1, 1e6), ("dropout", 0, 0.9)):
            if not low <= getattr(self, name) <= high:
                problems.append(f"{name} must be {low:g} to {high:g}, not {getattr(self, name)}")
        if self.everywhere and self.freeze:
            problems.append("allocation 'global' needs all layers at once; use another or leave out freeze")
        if problems:
            raise UserError(problems)


def _amount_problems(settings: PruneSettings, network: Network) -> list[str]:
    given = [name for name in ("density", "keep", "quality") if getattr(settings, name) is not None]
    if len(given) != 1:
        return [f"give one of density, keep and quality, not {' and '.join(given) or 'none'}"]
    problems = [f"keep of layer '{name}' must be above 0 and at most 1, not {fraction}"
                for name, fraction in (settings.keep or {}).items() if not 0 < fraction <= 1]
    if settings.density is not None and not 0 < settings.density <= 1:
        problems.append(f"density must be above 0 and at most 1, not {settings.density}")
    if settings.broadcasts is not None and not 1 <= settings.broadcasts < math.inf:
        problems.append(f"broadcasts must be 1 or more, not {settings.broadcasts}")
    qualities = settings.quality.values() if isinstance(settings.quality, dict) else [settings.quality or 0.0]
    problems += [f"quality must be 0 or more, not {quality}" for quality in qualities if not 0 <= quality < math.inf]
    return problems


def _name_problems(settings: PruneSettings, network: Network) -> list[str]:
    known = [layer.name for layer in network.layers]
    by_layer = settings.quality if isinstance(settings.quality, dict) else {}
    frozen = [name for group in settings.freeze for name in group]
    named = {"keep": settings.keep or {}, "quality": by_layer, "freeze": frozen}
    problems = [f"{option} names a layer '{name}', but the network has {', '.join(known)}"
                for option, names in named.items() for name in names if name not in known]
    hidden = {layer.name: layer.rows for layer in network.layers[:-1]}
    problems += [f"neurons names a layer '{name}', but the hidden layers are {', '.join(hidden) or 'none'}"
                 for name in settings.neurons or {} if name not in hidden]
    problems += [f"neurons of layer '{name}' must be 1 to {hidden[name]}, not {count}"
                 for name, count in (settings.neurons or {}).items() if not 1 <= count <= hidden.get(name, count)]
    if frozen and not problems and sorted(frozen) != sorted(known):
        problems.append(f"freeze must name each of the layers {', '.join(known)} in one group, not {frozen}")
    return problems


AMOUNTS = {"density": "a number", "keep": "a table of numbers by layer",
           "quality": "a number, or a table of numbers by layer", "neurons": "a table of whole numbers by layer",
           "broadcasts": "a number"}
"""Types of the options whose default is None."""

DEFAULT = PruneSettings()

MAGNITUDE = PruneSettings(criterion="magnitude", allocation="erdos-renyi")

HAN = replace(MAGNITUDE, schedule="greedy", rounds=1, final_epochs=35, patience=5, learning_rate=1e-3,
                    final_learning_rate=1e-3, rate_divisor=10, final_rate="constant", penalty="l2", augment=0)
"""One cut, then retraining at a tenth of the learning rate until the curve is flat, with L2."""

RECIPES: dict[str, PruneSettings] = {
    "default": DEFAULT,
    "han": HAN,
    "han-iterative": replace(HAN, schedule="geometric", rounds=5, round_epochs=5, final_epochs=15),
    "magnitude": MAGNITUDE,
    "obd-by-layer": replace(DEFAULT, allocation="erdos-renyi"),
    "fisher": replace(DEFAULT, criterion="fisher"),
    "cubic": replace(DEFAULT, schedule="cubic", first_density=1.0),
    "uniform": replace(MAGNITUDE, allocation="uniform"),
    "distilled": replace(DEFAULT, distill=0.5),
    "bare": replace(DEFAULT, augment=0.0),
}
"""Each takes 35 epochs at most, so that they compare at like cost (``python -m host.bench recipes``)."""


def with_amount(recipe: PruneSettings, density: float | None = None, keep: dict[str, float] | None = None,
                quality: float | dict[str, float] | None = None) -> PruneSettings:
    """The recipe with an amount of pruning: the one given here, else the recipe's own, else a density of `DENSITY`.

    Parameters
    ----------
    recipe : PruneSettings
    density, keep, quality : optional
        See `PruneSettings`; at most one of them is given.
    """
    if (density, keep, quality) != (None, None, None):
        return replace(recipe, density=density, keep=keep, quality=quality)
    if (recipe.density, recipe.keep, recipe.quality) != (None, None, None):
        return recipe
    return replace(recipe, density=DENSITY)


def read_recipe(name: str) -> PruneSettings:
    """The recipe of a name of `RECIPES`, or of a TOML file of the fields of `PruneSettings`.

    A file may name in ``recipe`` what it starts from. Raises `UserError` for an unknown name or field.
    """
    if name in RECIPES:
        return RECIPES[name]
    if not name.endswith(".toml"):
        raise UserError(f"recipe must be one of {', '.join(RECIPES)} or a .toml file, not '{name}'")
    found = read_toml("recipe", given_or_shipped(name))
    base = found.pop("recipe", "default")
    if not isinstance(base, str) or base not in RECIPES:
        raise UserError(f"recipe '{name}' must start from one of {', '.join(RECIPES)}, not '{base}'")
    problems = [problem for field, value in found.items() if (problem := _field_problem(field, value))]
    if problems:
        raise UserError([f"recipe '{name}': {problem}" for problem in problems])
    if "freeze" in found:
        found["freeze"] = tuple(map(tuple, found["freeze"]))
    return replace(RECIPES[base], **found)


def _field_problem(name: str, value: Any) -> str:
    if name not in (field.name for field in fields(PruneSettings)):
        return f"there is no field '{name}'"
    default = getattr(DEFAULT, name)
    if name in AMOUNTS:
        fits = ("table" in AMOUNTS[name] and _is_table(value)) or ("a number" in AMOUNTS[name] and _is_number(value))
        if fits and name == "neurons":
            fits = all(isinstance(one, int) for one in value.values())
        return "" if fits else f"{name} must be {AMOUNTS[name]}, not {value!r}"
    if name == "freeze":
        groups = isinstance(value, list) and all(isinstance(group, list) and all(isinstance(one, str) for one in group)
                                                 for group in value)
        return "" if groups else f"freeze must be a list of lists of layer names, not {value!r}"
    fits = _is_number(value) if isinstance(default, float) else type(value) is type(default)
    return "" if fits else f"{name} must be a {type(default).__name__} like {default!r}, not {value!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))
