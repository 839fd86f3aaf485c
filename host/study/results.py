# SPDX-License-Identifier: Apache-2.0
"""Rows of measured figures: means over the seeds, as JSON, as a table and as a page."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import mean, stdev
from typing import Any

from host.reporting.html_page import page, section, table
from host.reporting.number_text import number_text
from host.reporting.svg_charts import xy_chart
from host.reporting.tables import shown, text_table
from host.sensitivity import Scan
from host.study.measuring import Outcome
from host.study.methods import BASELINE
from host.study.queue import Job

__all__ = ["HEADER", "LAYER_HEADER", "Row", "layer_rows", "study_page", "study_rows", "study_table", "table_rows"]

Row = dict[str, Any]
"""A method at one setting, as in ``study.json``; `study_rows` has the keys."""

HEADER = ["method", "network", "parameters", "kept, %", "KiB", "where", "test error, %", "spread", "seeds", "seconds"]

LAYER_HEADER = ["method", "layer", "weights", "kept", "kept, %"]

SHOWN_LOSS = 5.0
"""Percentage points; the figure leaves out what loses more."""


def study_rows(network: str, jobs: Sequence[Job], measured: dict[str, Outcome]) -> list[Row]:
    """A row for each method and setting, in the order of ``jobs``.

    Parameters
    ----------
    network : str
        Its name.
    jobs : sequence of Job
    measured : dict
        The outcomes so far, by the key of their job; jobs without one are left out.

    Returns
    -------
    list of dict
        ``method``, ``setting``, ``network``; ``parameters``, ``kept`` (percent), ``bits``, ``test_error`` (percent)
        and ``seconds``, all means over the seeds; ``place`` of the bits, "chip" or "disk"; ``test_errors``, one for
        each of ``seeds``, and ``spread``, their standard deviation, None for a single seed; ``layers``, of methods that
        prune with retraining: each layer's ``weights`` and ``kept`` ones, means over the seeds that tell them.
    """
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        if job.key in measured:
            groups.setdefault(f"{job.method} {job.setting}", []).append(job)
    rows = []
    for group in groups.values():
        found = [measured[job.key] for job in group]
        errors = [one.test_error for one in found]
        rows.append({"method": group[0].method, "setting": group[0].setting, "network": network,
                     "parameters": mean(one.parameters for one in found),
                     "kept": 100 * mean(one.parameters / one.total for one in found),
                     "bits": mean(one.bits for one in found),
                     "place": " or ".join(sorted({one.place for one in found})),
                     "test_error": mean(errors), "test_errors": errors, "seeds": [job.seed for job in group],
                     "spread": stdev(errors) if len(errors) > 1 else None,
                     "seconds": mean(one.seconds for one in found), "layers": _layers(found)})
    return rows


def _layers(found: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    told = [one.weights for one in found if one.weights]
    return {layer: {"weights": mean(sum(one[layer]["before"]) for one in told),
                    "kept": mean(sum(one[layer]["after"]) for one in told)} for layer in (told[0] if told else {})}


def row_name(row: Row) -> str:
    """The method of ``row`` and its setting."""
    parts = [f"{name} {value:g}" if isinstance(value, int | float) else str(value)
             for name, value in row["setting"].items() if f"{name} {value}" != f"start {BASELINE}"]
    return ", ".join([row["method"], *parts])


def table_rows(rows: Sequence[Row]) -> list[list[str]]:
    """Texts of ``rows`` under `HEADER`."""
    return [[row_name(row), row["network"], number_text(row["parameters"]), f"{row['kept']:.2f}",
             f"{row['bits'] / 8192:,.1f}", row["place"], f"{row['test_error']:.2f}", shown(row["spread"], ".2f"),
             str(len(row["seeds"])), number_text(row["seconds"])] for row in rows]


def layer_rows(rows: Sequence[Row]) -> list[list[str]]:
    """Texts under `LAYER_HEADER`, as in Han et al., NIPS 2015, tables 3 and 4; of all ``rows`` that tell their layers.
    """
    return [[row_name(row), layer, number_text(one["weights"]), number_text(one["kept"]),
             f"{100 * one['kept'] / max(1, one['weights']):.2f}"]
            for row in rows for layer, one in row["layers"].items()]


def study_table(rows: Sequence[Row]) -> str:
    """The ``rows`` of a study for a terminal."""
    return text_table(HEADER, table_rows(rows))


def study_page(name: str, rows: Sequence[Row], scan: Scan, weights: dict[str, dict[str, list[float]]],
               note: str) -> str:
    """The page: figures as in Han et al., NIPS 2015, figures 5, 6 and 8, then the table.

    Parameters
    ----------
    name : str
        Name of the network.
    rows : sequence of Row
        Result of `study_rows`.
    scan : Scan
        Growth of the error as each layer is pruned alone (`host.sensitivity.scan`).
    weights : dict
        Result of `host.study.measuring.distributions`.
    note : str
        Sentence about the measurement.
    """
    layers = [(layer.name, [(100 * point.density, point.error - scan.dense_error) for point in layer.points])
              for layer in scan.layers]
    shapes = [_distribution(layer, one) for layer, one in weights.items()]
    return page(f"{name}: methods compared", [
        f"<header><h1>{name}: methods compared</h1><p>{note}</p></header>",
        section("Accuracy loss against parameters kept", _losses(rows),
                "Percentage points of test error more than the dense network's, means over the seeds; losses above "
                f"{SHOWN_LOSS:g} points are left out (the table has them)."),
        section("Sensitivity of each layer", xy_chart(
            "sensitivity", "weights of the layer kept, %", "more held-out error, points", layers, logarithmic=True,
            highest=4 * SHOWN_LOSS),
            "One layer cut at a time, by magnitude and without retraining; points of held-out error lost, up to "
            f"{4 * SHOWN_LOSS:g}."),
        section("Weights before and after pruning", "".join(shapes),
                "Iterative pruning with retraining. Share of the weights that are not zero in each of 60 bins."),
        section("Weights kept in each layer", table([LAYER_HEADER, *layer_rows(rows)]),
                "Of the methods that prune with retraining, as in tables 3 and 4 of the paper; means over the seeds."),
        section("All rows", table([HEADER, *table_rows(rows)]),
                "Bits on the chip are those of the engine's memories, everything counted; on disk, float32. The spread "
                "is the standard deviation over the seeds. Seconds are those of all training, the dense network's "
                "included."),
    ])


def _losses(rows: Sequence[Row]) -> str:
    """A line for each method and each of its words, over the numbers of its settings."""
    dense = next((row["test_error"] for row in rows if row["method"] == BASELINE), 0.0)
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["method"] != BASELINE:
            words = {name: value for name, value in row["setting"].items() if isinstance(value, str)}
            lines.setdefault(row_name({**row, "setting": words}), []).append((row["kept"], row["test_error"] - dense))
    return xy_chart("accuracy loss", "parameters kept, %", "points of test error more than dense",
                    [(name, sorted(points)) for name, points in lines.items()], logarithmic=True, highest=SHOWN_LOSS)


def _distribution(layer: str, one: dict[str, list[float]]) -> str:
    edges = one["edges"]
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    series = [(f"{layer} {when}", [(x, 100 * count / max(1, sum(one[when])))
                                   for x, count in zip(middles, one[when], strict=True)])
              for when in ("before", "after")]
    return xy_chart(f"weights of {layer}", "weight", "% of the weights", series, markers=False)
