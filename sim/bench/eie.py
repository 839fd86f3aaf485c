# SPDX-License-Identifier: Apache-2.0
"""EIE's nine layers on this engine."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from host.reporting.tables import geomean, shown, text_table
from host.workloads.compile_layer import Options
from host.workloads.eie_layers import Layer

from .running import DEPTHS, run_layer

__all__ = ["eie_table", "run_eie", "summarize_rows"]


def run_eie(layers: Sequence[Layer], options: Options, seeds: Sequence[int], vectors: int, *,
            rtl: bool = True) -> dict[str, Any]:
    """Runs each layer with each seed.

    Parameters
    ----------
    layers : sequence of Layer
    options : Options
    seeds : sequence of int
        Each decides a layer's weights and activations.
    vectors : int
        Inputs of each layer, 1 or more.
    rtl : bool
        Simulate the RTL; otherwise cycles are those of the cycle model.

    Returns
    -------
    dict
        The content of ``eie.json``.

    Raises
    ------
    UserError
        If no engine holds a layer, or a simulation cannot be built or dies.
    """
    jobs = [(layer, seed) for layer in layers for seed in seeds]
    rows = []
    with tqdm(jobs, desc="layers", unit="layer", disable=None) as progress:
        for layer, seed in progress:
            progress.set_postfix_str(f"{layer.name}, seed {seed}")
            rows.append(run_layer(layer, options, seed, vectors, rtl=rtl))
    return {"uneven": options.uneven, "config": asdict(options.config), "config_hash": options.config.hash.hex(),
            "cycles_from": "rtl" if rtl else "cycle model", "rows": rows, **summarize_rows(rows)}


def summarize_rows(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of ``rows`` over layers and seeds, and the worst of them."""
    over_bound = [row["bits_per_weight"] / row["bound_bits_per_weight"] for row in rows]
    eie_over_bound = [row["eie_format_bits_per_weight"] / row["bound_bits_per_weight"] for row in rows]
    simulated = [row for row in rows if row["rtl_cycles"] is not None]
    seconds = sum(row["simulation_seconds"] for row in simulated)
    return {
        "geomean_ratio": geomean(row["ratio"] for row in rows), "worst_ratio": max(row["ratio"] for row in rows),
        "geomean_eie_ratio": geomean(row["eie_ratio"] for row in rows if row["eie_ratio"] is not None),
        "geomean_bits_over_bound": geomean(over_bound),
        "geomean_eie_format_over_bound": geomean(eie_over_bound),
        "mismatches": sum(row["mismatches"] for row in simulated),
        "counter_mismatches": sum(row["counter_mismatches"] for row in simulated),
        "inferences_simulated": sum(row["vectors"] for row in simulated),
        "cycles_simulated": sum(row["simulated_cycles"] for row in simulated),
        "cycles_per_second": sum(row["simulated_cycles"] for row in simulated) / seconds if seconds else None,
    }


def eie_table(found: dict[str, Any]) -> str:
    """The figures ``found`` for a terminal."""
    header = ["layer", "seed", "ideal", "RTL", "predicted", "ratio", "EIE", "wrong", "stalls", "imbalance",
              "bits/weight", "bound", "EIE's format", "index", "passes"]
    rows = [[row["name"], str(row["seed"]), f"{row['ideal_cycles']:.0f}", shown(row["rtl_cycles"], ".0f"),
             f"{row['predicted_cycles']:.0f}", f"{row['ratio']:.3f}", shown(row["eie_ratio"], ".2f"),
             shown(row["mismatches"], "d"), f"{row['queue_stalls']:.0f}", f"{row['imbalance']:.3f}",
             f"{row['bits_per_weight']:.2f}", f"{row['bound_bits_per_weight']:.2f}",
             f"{row['eie_format_bits_per_weight']:.2f}", str(row["index_bits"]), str(row["passes"])]
            for row in found["rows"]]
    config = found["config"]
    widths = ", ".join(map(str, config["index_bits"]))
    depths = ", ".join(f"{name} {max(row['depths'][name] for row in found['rows'])}" for name in DEPTHS)
    text = (f"{config['pes']} PEs, queues of {config['queue_depth']}, index widths {widths}; {depths}\n"
            f"{text_table(header, rows)}\n"
            f"cycles over ideal, from {found['cycles_from']}: geometric mean {found['geomean_ratio']:.3f}, worst "
            f"{found['worst_ratio']:.3f} (EIE as published: {found['geomean_eie_ratio']:.2f})\n"
            f"bits over bound: geometric mean {found['geomean_bits_over_bound']:.3f} (EIE's format: "
            f"{found['geomean_eie_format_over_bound']:.2f})")
    if found["inferences_simulated"]:
        text += (f"\nRTL: {found['inferences_simulated']} inferences, {found['mismatches']} differ from golden, "
                 f"{found['counter_mismatches']} counters from their prediction; "
                 f"{found['cycles_per_second']:.0f} simulated cycles a second")
    return text
