# SPDX-License-Identifier: Apache-2.0
"""Seconds, not operations: one input vector on the engine at a board's clock and in this machine's libraries."""

import importlib.metadata
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from host.bench.jobs import Baseline, Job
from host.bench.libraries import Method, exact_acts, methods_for, scipy_sparse
from host.bench.timing import Timed, time_side_by_side
from host.network.layers import Linear, Network
from host.reporting.tables import geomean, text_table
from host.workloads.eie_layers import PUBLISHED_US, Published
from rtl.numbers import Activation

__all__ = ["run_seconds", "seconds_figure", "seconds_table"]

PUBLISHED_IN = ('published, Han et al., "EIE" (ISCA 2016), table IV, batch 1, microseconds: EIE (64 PEs, 800 MHz), '
                "Core i7-5930K with MKL, Titan X with cuBLAS and cuSPARSE")

RATIOS = ("dense", "sparse", "best", "cut")
"""Methods that the engine's seconds are compared with; "best" is of all methods but those of the kind ``cut``."""


def run_seconds(jobs: Iterable[Job], count: int, baseline: Baseline, *, device: str = "cpu", threads: int = 1,
                repeats: int = 30) -> dict[str, Any]:
    """Times each network in each library, and computes the engine's time.

    Sets torch's number of threads.

    Parameters
    ----------
    jobs : iterable of Job
    count : int
        Number of jobs, for the progress bar.
    baseline : Baseline
        Gives the board's name and the highest clock of its engine.
    device : str
        ``cpu``, or ``cuda`` for the GPU as well.
    threads : int
        Threads of torch on the processor, 1 or more.
    repeats : int
        Measurements of each network in each library, 1 or more.

    Returns
    -------
    dict
        The contents of ``seconds.json``. The engine's seconds are predicted cycles over the baseline's highest clock.

    Raises
    ------
    UserError
        If there is no such device.
    RuntimeError
        If a method computes something else.
    """
    methods = methods_for(device)
    torch.set_num_threads(threads)
    weight = Linear("one weight", np.ones((1, 1), np.float32), np.zeros(1, np.float32), Activation.IDENTITY)
    one = Network("one weight", (weight,))
    with torch.inference_mode():
        least = _time_methods(methods, one, np.ones(1), repeats)
        rows = [_row(job, baseline, _time_methods(methods, job.network, job.vector, repeats))
                for job in tqdm(jobs, total=count, desc="layers", unit="layer", disable=None)]
    return {
        "board": baseline.board, "fmax_mhz": baseline.fmax_mhz, "preset": baseline.preset, "pes": baseline.config.pes,
        "config_hash": baseline.config.hash.hex(), "processor": _processor(), "device": device,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None, "threads": threads, "repeats": repeats,
        "batch": 1, "caches": "warm", "torch": torch.__version__,
        "scipy": importlib.metadata.version("scipy") if scipy_sparse() else None,
        "call_seconds": {name: found["seconds"] for name, found in least.items()}, "rows": rows,
        "geomean_over_engine": {name: geomean(row["over_engine"][name] for row in rows)
                                for name in RATIOS},
    }


def _time_methods(methods: Sequence[Method], network: Network, vector: np.ndarray,
                  repeats: int) -> dict[str, dict[str, Any]]:
    acts = exact_acts(network, vector)
    timed, errors = {}, {}
    for method in methods:
        call = method.prepare(network, acts)
        outputs = torch.as_tensor(call()).cpu().numpy().reshape(-1)
        errors[method.name] = float(np.abs(outputs - acts[-1]).max() / max(np.abs(acts[-1]).max(), 1e-30))
        if not errors[method.name] <= method.tolerance:
            raise RuntimeError(f"{method.name} computes '{network.name}' wrong: an error of {errors[method.name]:.2g} "
                               f"of the greatest output, more than {method.tolerance}")
        timed[method.name] = Timed(call, method.seconds)
    timings = time_side_by_side(timed, repeats)
    return {method.name: {"kind": method.kind, "seconds": timings[method.name].median,
                          "quartiles": timings[method.name].quartiles, "least_seconds": timings[method.name].least,
                          "calls_per_block": timings[method.name].calls, "error": errors[method.name]}
            for method in methods}


def _row(job: Job, baseline: Baseline, methods: dict[str, dict[str, Any]]) -> dict[str, Any]:
    engine = job.cycles / (baseline.fmax_mhz * 1e6)
    published = PUBLISHED_US.get(job.name)
    return {
        "name": job.name, "sizes": [job.network.inputs, *(layer.rows for layer in job.network.layers)],
        "weights_total": job.network.weights_total, "weights_kept": job.network.weights_kept,
        "act_density": job.act_density, "cycles": job.cycles, "engine_seconds": engine, "enlarged": job.enlarged,
        "methods": methods,
        "over_engine": {
            "dense": methods["torch dense"]["seconds"] / engine,
            "sparse": min(found["seconds"] for found in methods.values() if found["kind"] == "sparse") / engine,
            "best": min(found["seconds"] for found in methods.values() if found["kind"] != "cut") / engine,
            "cut": methods["torch dense, cut"]["seconds"] / engine},
        "published_us": published and published._asdict(),
    }


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def seconds_table(found: dict[str, Any]) -> str:
    """The figures ``found`` for a terminal, in microseconds."""
    rows = found["rows"]
    names = list(found["call_seconds"])
    header = ["layer", "size", "kept", "acts", *names, "cycles", "engine", *(f"{name}/engine" for name in RATIOS)]
    body = [[row["name"] + ("*" if row["enlarged"] else ""), " x ".join(map(str, row["sizes"])),
             f"{row['weights_kept'] / row['weights_total']:.1%}", f"{row['act_density']:.0%}",
             *(_microseconds(row["methods"][name]["seconds"]) for name in names), f"{row['cycles']:.0f}",
             _microseconds(row["engine_seconds"]), *(f"{row['over_engine'][name]:.2f}" for name in RATIOS)]
            for row in rows]
    threads = "1 thread" if found["threads"] == 1 else f"{found['threads']} threads"
    call = ", ".join(f"{name} {_microseconds(seconds)}" for name, seconds in found["call_seconds"].items())
    means = ", ".join(f"{name} {found['geomean_over_engine'][name]:.2f}" for name in RATIOS)
    lines = [
        f"{found['processor']}, {threads}" + (f"; {found['gpu']}" if found["gpu"] else "")
        + f"; torch {found['torch']}, scipy {found['scipy'] or 'not installed'}",
        (f"engine: {found['pes']} PEs ({found['preset']}) at {found['fmax_mhz']} MHz, placed and routed for "
         f"{found['board']}; predicted cycles from start to last output, without the link"),
        f"microseconds for one vector, medians of {found['repeats']} blocks of calls that take turns, caches warm",
        text_table(header, body),
        ("dense: torch's; sparse: the best sparse library; best: of all, on the network as it is; cut: torch's dense "
         f"without dead neurons and unused inputs. Geometric means: {means}"),
        f"a call with one weight takes: {call}"]
    enlarged = [f"{row['name']} {', '.join(f'{name} {value}' for name, value in row['enlarged'].items())}"
                for row in rows if row["enlarged"]]
    if enlarged:
        lines += [f"* the board's engine lacks the memory; it was given more: {'; '.join(enlarged)}"]
    published = [[row["name"], *(f"{value:g}" for value in row["published_us"].values())] for row in rows
                 if row["published_us"]]
    if published:
        lines += ["", PUBLISHED_IN,
                  text_table(["layer", *(name.replace("_", " ") for name in Published._fields)], published)]
    return "\n".join(lines)


def seconds_figure(found: dict[str, Any]) -> Figure:
    """Bars for each network in ``found``: the engine, each method, and EIE as published, on a logarithmic axis."""
    rows = found["rows"]
    series = [(f"engine, {found['board']}", [row["engine_seconds"] * 1e6 for row in rows])]
    series += [(name, [row["methods"][name]["seconds"] * 1e6 for row in rows]) for name in found["call_seconds"]]
    if any(row["published_us"] for row in rows):
        series.append(("EIE, published", [row["published_us"]["eie"] if row["published_us"] else np.nan
                                          for row in rows]))
    figure = Figure(figsize=(max(5.0, 1.1 * len(rows) + 1.5), 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.85 / len(series)
    for number, (name, values) in enumerate(series):
        axes.bar(np.arange(len(rows)) + (number - (len(series) - 1) / 2) * width, values, width, label=name)
    axes.set_yscale("log")
    axes.set_xticks(range(len(rows)), [row["name"] + ("*" if row["enlarged"] else "") for row in rows])
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylabel("microseconds for one vector")
    axes.legend(fontsize=8, ncols=3)
    return figure


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.3g}" if seconds < 1e-4 else f"{seconds * 1e6:.0f}"
