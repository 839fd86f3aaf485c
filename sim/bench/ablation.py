# SPDX-License-Identifier: Apache-2.0
"""Ablation: the nine layers, each time without one mechanism, whose effect this measures."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from host.cycle_model.predict import predict
from host.decoding.decode import Decoded
from host.reporting.tables import geomean, text_table
from host.workloads.compile_layer import Options, compile_drawn
from host.workloads.drawn_layers import draw
from host.workloads.eie_layers import Layer

from .running import figures, simulate

__all__ = ["VARIANTS", "Variant", "ablation_figure", "ablation_table", "run_ablation"]


@dataclass(frozen=True)
class Variant:
    """An engine or a compiler without one mechanism.

    Attributes
    ----------
    missing : str
        The mechanism.
    instead : str
        Behaviour without it.
    change : callable
        The `Options` without it; then the variant runs in RTL.
    model : callable, optional
        Changes what the cycle model is told, where it would take another RTL.
    """

    missing: str
    instead: str
    change: Callable[[Options], Options] = lambda options: options
    model: Callable[[Decoded], Decoded] | None = None


def empty_slices_cost(decoded: Decoded) -> Decoded:
    """The image ``decoded`` with one entry, which is no weight, in every empty slice: an engine without early skip."""
    passes = []
    for one in decoded.passes:
        empty = one.lengths == 0
        taps = [np.insert(before, (np.cumsum(lengths) - lengths)[none], -1)
                for before, lengths, none in zip(one.taps, one.lengths, empty, strict=True)]
        passes.append(replace(one, lengths=np.maximum(one.lengths, 1), taps=taps))
    return replace(decoded, passes=passes)


def skips_cost(decoded: Decoded) -> Decoded:
    """The image ``decoded`` with weights in place of all skips and padding: an engine whose skips cost a cycle."""
    return replace(decoded, passes=[replace(one, taps=[np.zeros_like(taps) for taps in one.taps])
                                    for one in decoded.passes])


VARIANTS = (
    Variant("nothing", "the engine as it is"),
    Variant("early skip", "an empty slice goes through the queue and costs a cycle", model=empty_slices_cost),
    Variant("free skips", "a skip or padding always costs a cycle", model=skips_cost),
    Variant("deep queue", "queues of 16",
            change=lambda options: replace(options, config=replace(options.config, queue_depth=16))),
    Variant("balance", "rows go to the PEs in turn", change=lambda options: replace(options, balance=False)),
    Variant("row order", "rows of a PE stay in the order of their work",
            change=lambda options: replace(options, order=False)),
)


def run_ablation(layers: Sequence[Layer], options: Options, seeds: Sequence[int], vectors: int, *,
                 rtl: bool = True) -> dict[str, Any]:
    """Runs every variant on each layer with each seed.

    Parameters
    ----------
    layers : sequence of Layer
    options : Options
        Engine and compiler, of which each variant lacks a mechanism.
    seeds : sequence of int
        Each decides a layer's weights and activations.
    vectors : int
        Inputs of each layer, 1 or more.
    rtl : bool
        Simulate the RTL; otherwise cycles are those of the cycle model.

    Returns
    -------
    dict
        The content of ``eie-ablation.json``.

    Raises
    ------
    UserError
        If no engine holds a layer, or a simulation cannot be built or dies.
    """
    jobs = [(layer, seed) for layer in layers for seed in seeds]
    rows = []
    with tqdm(total=len(jobs) * len(VARIANTS), desc="variants", unit="run", disable=None) as progress:
        for layer, seed in jobs:
            network, acts = draw(layer, options.config, seed, vectors, uneven=options.uneven)
            for variant in VARIANTS:
                progress.set_postfix_str(f"{layer.name} without {variant.missing}")
                one = compile_drawn(network, acts, variant.change(options))
                if variant.model is not None:
                    one = replace(one, prediction=predict(variant.model(one.decoded), acts, one.outputs))
                simulated = simulate(one, seed=seed) if rtl and variant.model is None else None
                rows.append({"without": variant.missing, "cycles_from": "cycle model" if simulated is None else "rtl",
                             "seed": seed, **figures(layer, one, simulated)})
                progress.update()
    return {"uneven": options.uneven, "config": asdict(options.config), "rows": rows,
            "variants": [_summary(variant, rows) for variant in VARIANTS],
            "mismatches": sum(row["mismatches"] or 0 for row in rows),
            "counter_mismatches": sum(row["counter_mismatches"] or 0 for row in rows)}


def _summary(variant: Variant, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    mine = [row for row in rows if row["without"] == variant.missing]
    whole = [row for row in rows if row["without"] == VARIANTS[0].missing]
    names = list(dict.fromkeys(row["name"] for row in mine))
    return {
        "without": variant.missing, "instead": variant.instead, "cycles_from": mine[0]["cycles_from"],
        "geomean_ratio": geomean(row["ratio"] for row in mine), "worst_ratio": max(row["ratio"] for row in mine),
        "cycles_times": geomean(row["ratio"] for row in mine) / geomean(row["ratio"] for row in whole),
        "cycles_times_by_layer": {name: geomean(row["ratio"] for row in mine if row["name"] == name)
                                  / geomean(row["ratio"] for row in whole if row["name"] == name) for name in names},
        "geomean_bits_over_bound": geomean(row["bits_per_weight"] / row["bound_bits_per_weight"] for row in mine),
    }


def ablation_table(found: dict[str, Any]) -> str:
    """The figures ``found`` for a terminal."""
    variants = found["variants"]
    names = list(variants[0]["cycles_times_by_layer"])
    header = ["without", "cycles/ideal", "worst", "cycles x", *names, "bits/bound", "cycles from"]
    rows = [[one["without"], f"{one['geomean_ratio']:.3f}", f"{one['worst_ratio']:.3f}", f"{one['cycles_times']:.3f}",
             *(f"{one['cycles_times_by_layer'][name]:.2f}" for name in names), f"{one['geomean_bits_over_bound']:.3f}",
             one["cycles_from"]] for one in variants]
    notes = "\n".join(f"  without {one['without']}: {one['instead']}" for one in variants)
    return (f"{text_table(header, rows)}\n{notes}\n"
            "cycles x: cycles over those of the whole engine; the cycle model stands in where another RTL would be "
            "needed")


def ablation_figure(found: dict[str, Any]) -> Figure:
    """A bar for each mechanism, a dot for each layer, of the figures ``found``."""
    variants = found["variants"][1:][::-1]
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    names = list(variants[0]["cycles_times_by_layer"])
    places = np.arange(len(variants))
    axes.barh(places, [one["cycles_times"] - 1 for one in variants], left=1, color="#9bbcd9", label="geometric mean")
    for number, name in enumerate(names):
        axes.plot([one["cycles_times_by_layer"][name] for one in variants], places, linestyle="none",
                  marker="os^vD<>pP"[number % 9], markersize=5, label=name)
    axes.set_yticks(places, [f"{one['without']}{'*' if one['cycles_from'] != 'rtl' else ''}" for one in variants])
    axes.set_xlabel("cycles without it / with it        (* cycle model, the others RTL)")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
