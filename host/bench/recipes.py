# SPDX-License-Identifier: Apache-2.0
"""Compares recipes of pruning on one model, at equal numbers of epochs; ``python -m host.bench recipes``."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from host.compression.prune import prune
from host.compression.recipe import read_recipe, with_amount
from host.datasets import Dataset
from host.network.layers import Network
from host.reporting.tables import text_table

__all__ = ["compare_recipes", "recipes_table"]


def compare_recipes(network: Network, dataset: Dataset, names: Sequence[str], density: float,
                    seeds: int = 1) -> dict[str, Any]:
    """Prunes with each recipe and each of the seeds 0, 1 and so on.

    Errors are those of the held-out training images, so that choosing by them leaves the test images untouched.

    Parameters
    ----------
    network : Network
        The dense network.
    dataset : Dataset
    names : sequence of str
        Recipes, as `host.compression.recipe.read_recipe` takes them.
    density : float
        Share of the weights that is kept, above 0 and at most 1.
    seeds : int
        Number of seeds, 1 or more.

    Returns
    -------
    dict
        The content of ``recipes.json``: ``density``, and ``recipes``: for each, the best first, ``name``,
        ``held_out_errors`` (percent, one for each seed), ``held_out_error`` (their mean), ``weights_kept``, ``epochs``,
        ``iterations`` and ``seconds`` of training (means).

    Raises
    ------
    UserError
        For an unknown recipe, and as `host.compression.prune.prune`.
    """
    dataset.require_classes("a comparison of recipes")
    settings = {name: with_amount(read_recipe(name), density=density) for name in names}
    found = []
    for name, one in settings.items():
        results = [prune(network, dataset, one, seed) for seed in range(seeds)]
        errors = [result.history[-1].held_out_errors[-1] for result in results]
        rounds = [record for result in results for record in result.history]
        found.append({"name": name, "held_out_errors": errors, "held_out_error": mean(errors),
                      "weights_kept": mean(result.network.weights_kept for result in results),
                      "epochs": sum(len(record.losses) for record in rounds) / seeds,
                      "iterations": sum(record.iterations for record in rounds) / seeds,
                      "seconds": sum(record.seconds for record in rounds) / seeds})
    return {"density": density, "recipes": sorted(found, key=lambda one: one["held_out_error"])}


def recipes_table(found: dict[str, Any]) -> str:
    """The figures ``found`` for a terminal."""
    header = ["recipe", "held-out error, %", "by seed", "weights kept", "epochs", "iterations", "seconds"]
    return text_table(header, [
        [one["name"], f"{one['held_out_error']:.2f}", " ".join(f"{error:.2f}" for error in one["held_out_errors"]),
         *(f"{one[key]:,.0f}" for key in ("weights_kept", "epochs", "iterations", "seconds"))]
        for one in found["recipes"]])
