# SPDX-License-Identifier: Apache-2.0
"""One layer at all densities, against a dense engine with the same number of PEs: up to which density does sparse
pay?"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from host.reporting.tables import shown, text_table
from host.workloads.compile_layer import Compiled, Options, compile_drawn
from host.workloads.drawn_layers import draw, draw_acts
from host.workloads.eie_layers import EIE_LAYERS, Layer
from rtl.config import EngineConfig
from rtl.layouts import job_layout

from .index_overhead import DENSITY, WEIGHT_BITS, index_overhead, overhead_table
from .running import figures, simulate

__all__ = [
    "ACT_DENSITIES",
    "ENERGY_PJ",
    "LAYER",
    "WEIGHT_DENSITIES",
    "crossing",
    "dense_energy",
    "density_figure",
    "density_table",
    "run_density",
    "sparse_energy",
]

WEIGHT_DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
ACT_DENSITIES = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0)

LAYER = EIE_LAYERS[2]
"""The layer whose size is taken: 4096 x 1000."""

ENERGY_PJ = {"add": 0.1, "register": 1.0, "multiply": 3.1, "sram": 5.0}
"""pJ of an operation of 32 bits in 45 nm (Han et al., NIPS 2015, table 1); memories in proportion to their width."""


def sparse_energy(one: Compiled, active: np.ndarray, counters: dict[str, float]) -> float:
    """Energy of an inference in pJ, from what was counted; drain and control, alike in both engines, left out.

    Parameters
    ----------
    one : Compiled
        A layer.
    active : bool array, shape ``[cols]``
        Which activations are not zero, in the order of the activation memory.
    counters : dict
        Counters of that inference.
    """
    config = one.config
    bits = config.act_word_bits * one.packed.input_words
    bits += counters["beats"] * config.pes * config.slice_word_bits
    jobs = 0
    for placed in one.packed.layers[0].passes:
        encoded = placed.encoded
        ends = np.cumsum(encoded.lengths, axis=1)
        begins = ends - encoded.lengths
        each = config.entries_per_word
        words = np.where(encoded.lengths > 0, (ends - 1) // each - begins // each + 1, 0)[:, active].sum()
        bits += int(words) * sum(config.plane_bits[:config.index_bits.index(encoded.index_bits) + 1])
        jobs += int((encoded.lengths[:, active] > 0).sum())
    macs = counters["useful_macs"]
    bits += 2 * macs * config.acc_bits
    # A job is written into and read from the queue, a register file; so is the codebook.
    registers = 2 * jobs * job_layout(config).size / 32 + macs
    return float(bits / 32 * ENERGY_PJ["sram"] + registers * ENERGY_PJ["register"]
                 + macs * (ENERGY_PJ["multiply"] + ENERGY_PJ["add"]))


def dense_energy(rows: int, cols: int, config: EngineConfig) -> float:
    """Energy of an inference of a dense engine in pJ: a lower bound, for the cheapest such engine.

    Every code is read once, without index, and goes through a codebook in registers; a PE sums up one row after the
    other in a register, and all PEs share each activation that is read.

    Parameters
    ----------
    rows, cols : int
        The layer's outputs and inputs.
    config : EngineConfig
        Gives the number of PEs and the widths.
    """
    macs = rows * cols
    bits = macs * config.code_bits + -(-rows // config.pes) * cols * config.act_bits
    return float(bits / 32 * ENERGY_PJ["sram"] + macs * (2 * ENERGY_PJ["register"] + ENERGY_PJ["multiply"]
                                                         + ENERGY_PJ["add"]))


def run_density(options: Options, *, layer: Layer = LAYER, weight_densities: Sequence[float] = WEIGHT_DENSITIES,
                act_densities: Sequence[float] = ACT_DENSITIES, vectors: int = 2, seed: int = 1,
                rtl: bool = True) -> dict[str, Any]:
    """Runs the layer at every pair of densities.

    Parameters
    ----------
    options : Options
    layer : Layer
        Gives the size.
    weight_densities, act_densities : sequence of float
        Shares that are not zero, above 0 and at most 1.
    vectors : int
        Inputs at each pair, 1 or more.
    seed : int
        Decides weights and activations.
    rtl : bool
        Simulate the RTL; otherwise cycles are those of the cycle model.

    Returns
    -------
    dict
        The content of ``density.json``.

    Raises
    ------
    UserError
        If no engine holds the layer, or a simulation cannot be built or dies.
    """
    cells, storage = [], []
    dense_cycles = layer.inputs * -(-layer.outputs // options.config.pes)
    joules = dense_energy(layer.outputs, layer.inputs, options.config)
    bias_bits = layer.outputs * options.config.acc_bits
    dense_bits = layer.outputs * layer.inputs * options.config.code_bits + bias_bits
    wrong = wrong_counters = 0
    with tqdm(weight_densities, desc="weight densities", disable=None) as progress:
        for density in progress:
            network, _ = draw(replace(layer, weight_density=density, act_density=max(act_densities)), options.config,
                              seed, 0)
            rng = np.random.default_rng(seed)
            acts = np.concatenate([draw_acts(rng, vectors, layer.inputs, share, options.config)
                                   for share in act_densities])
            one = compile_drawn(network, acts, options)
            simulated = simulate(one, seed=seed) if rtl else None
            row = figures(layer, one, simulated)
            wrong += row["mismatches"] or 0
            wrong_counters += row["counter_mismatches"] or 0
            bits = sum(one.packed.storage_bits.values())
            storage.append({"weight_density": density, "bits": bits, "over_dense": bits / dense_bits,
                            "over_dense_8_bits": bits / (layer.outputs * layer.inputs * 8 + bias_bits),
                            "index_bits": row["index_bits"], "passes": row["passes"]})
            counters = simulated.counters if simulated is not None else one.prediction.counters
            order = one.image.input_order
            for number, share in enumerate(act_densities):
                places = range(number * vectors, (number + 1) * vectors)
                cycles = float(np.mean([counters["cycles"][place] for place in places]))
                energy = float(np.mean([
                    sparse_energy(one, (order >= 0) & (acts[place][np.maximum(order, 0)] != 0),
                                  {name: float(values[place]) for name, values in counters.items()})
                    for place in places]))
                cells.append({"weight_density": density, "act_density": share, "cycles": cycles,
                              "speedup": dense_cycles / cycles, "energy_pj": energy,
                              "energy_gain": joules / energy})
    (drawn,) = draw(replace(layer, weight_density=DENSITY), options.config, seed, 0)[0].layers
    return {"config": asdict(options.config), "layer": [layer.inputs, layer.outputs],
            "index_overhead": {"weight_density": DENSITY, "weight_bits": WEIGHT_BITS,
                               "rows": index_overhead(drawn.codes)},
            "energy_pj": ENERGY_PJ, "cycles_from": "rtl" if rtl else "cycle model",
            "dense": {"cycles": dense_cycles, "bits": dense_bits, "energy_pj": joules}, "cells": cells,
            "storage": storage, "crossovers": _crossovers(cells, storage, act_densities),
            "mismatches": wrong, "counter_mismatches": wrong_counters}


def crossing(densities: Sequence[float], gains: Sequence[float]) -> float | None:
    """The density at which a gain falls to 1, on a straight line in logarithms.

    None if it stays above; the first density if it is below from the start and does not cross.

    Parameters
    ----------
    densities : sequence of float
        In ascending order.
    gains : sequence of float
        The gain at each density, above 0; 1 is no gain.
    """
    for (low, above), (high, below) in zip(list(zip(densities, gains, strict=True)),
                                           list(zip(densities, gains, strict=True))[1:], strict=False):
        if above >= 1 > below:
            part = np.log(above) / np.log(above / below)
            return float(low * (high / low) ** part)
    return None if gains[0] >= 1 else float(densities[0])


def _crossovers(cells: Sequence[dict[str, Any]], storage: Sequence[dict[str, Any]],
                act_densities: Sequence[float]) -> dict[str, Any]:
    """Weight densities from which on dense is better; None where it never is."""
    def of(name: str) -> dict[str, float | None]:
        found = {}
        for share in act_densities:
            mine = [cell for cell in cells if cell["act_density"] == share]
            found[f"{share:g}"] = crossing([cell["weight_density"] for cell in mine], [cell[name] for cell in mine])
        return found

    densities = [one["weight_density"] for one in storage]
    return {"cycles": of("speedup"), "energy": of("energy_gain"),
            "storage": crossing(densities, [1 / one["over_dense"] for one in storage]),
            "storage_8_bits": crossing(densities, [1 / one["over_dense_8_bits"] for one in storage])}


def density_table(found: dict[str, Any]) -> str:
    """The figures ``found`` for a terminal."""
    shares = list(dict.fromkeys(cell["act_density"] for cell in found["cells"]))

    def rows(name: str) -> list[list[str]]:
        return [[f"{one['weight_density']:.0%}", *(f"{cell[name]:.2f}" for cell in found["cells"]
                                                  if cell["weight_density"] == one["weight_density"]),
                 f"{one['over_dense']:.2f}", f"{one['over_dense_8_bits']:.2f}", str(one["index_bits"])]
                for one in found["storage"]]

    header = [*(f"acts {share:.0%}" for share in shares), "bits/dense", "bits/dense 8", "index"]
    crossovers = found["crossovers"]

    def line(name: str) -> str:
        return ", ".join(f"{shown(value, '.0%')} at {float(share):.0%}" for share, value in crossovers[name].items())

    inputs, outputs = found["layer"]
    overhead = found["index_overhead"]
    return (f"{inputs} x {outputs}, {found['config']['pes']} PEs, cycles from {found['cycles_from']}; dense: "
            f"{found['dense']['cycles']} cycles\n"
            f"dense cycles over sparse cycles:\n{text_table(['weights', *header], rows('speedup'))}\n"
            f"dense energy over sparse energy:\n{text_table(['weights', *header], rows('energy_gain'))}\n"
            f"weight density from which dense wins, at an activation density (- for never):\n"
            f"  cycles: {line('cycles')}\n  energy: {line('energy')}\n"
            f"  storage: {shown(crossovers['storage'], '.0%')} (against 8 bits a weight: "
            f"{shown(crossovers['storage_8_bits'], '.0%')})\n"
            f"index overhead on weights of {overhead['weight_bits']} bits at {overhead['weight_density']:.0%} as Han "
            f"et al. count it, and with the dummies that are needed:\n"
            f"{text_table(*overhead_table(overhead['rows']))}")


def density_figure(found: dict[str, Any]) -> Figure:
    """Speed-up over both densities in ``found``, with the lines on which sparse and dense are equal."""
    shares = np.array(list(dict.fromkeys(cell["act_density"] for cell in found["cells"])))
    densities = np.array([one["weight_density"] for one in found["storage"]])
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    grid = {name: np.array([cell[name] for cell in found["cells"]]).reshape(len(densities), len(shares)).T
            for name in ("speedup", "energy_gain")}
    filled = axes.contourf(densities, shares, np.log2(grid["speedup"]), levels=np.arange(-0.5, 7.5, 0.5), cmap="RdYlBu",
                           extend="both")
    bar = figure.colorbar(filled, ax=axes, ticks=range(8))
    bar.set_label("dense cycles / sparse cycles")
    bar.ax.set_yticklabels([f"{2.0 ** power:g}" for power in range(8)])
    for name, style in (("speedup", "solid"), ("energy_gain", "dashed")):
        if grid[name].min() < 1 < grid[name].max():
            axes.contour(densities, shares, np.log2(grid[name]), levels=[0], colors="black", linestyles=style)
    lines = [("equal cycles", "solid"), ("equal energy", "dashed"), ("equal storage", "dotted")]
    if found["crossovers"]["storage"] is not None:
        axes.axvline(found["crossovers"]["storage"], color="black", linestyle="dotted")
    for label, style in lines:
        axes.plot([], [], color="black", linestyle=style, label=label)
    axes.set_xscale("log")
    axes.set_xticks(densities, [f"{density:.0%}" for density in densities])
    axes.set_xlabel("weights that are not zero")
    axes.set_yticks(shares, [f"{share:.0%}" for share in shares])
    axes.set_ylabel("activations that are not zero")
    axes.legend(loc="lower left", fontsize=8)
    return figure
