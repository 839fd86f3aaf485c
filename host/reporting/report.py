# SPDX-License-Identifier: Apache-2.0
"""The report of a compilation: a page, a table for the terminal, and ``report.json``.

The dictionary, as `host.reporting.compile_report` makes it; a part whose keys are absent or None is left out::

    tool, network, source, preset, config_hash   str; what was compiled, by what, for which engine
    config            dict: the fields of `rtl.config.EngineConfig`
    seed, dataset     int; str or None
    metric            "error" for the percentage of images that are not told their class, "mse" for the mean squared
                      error of values: what every key with error in it holds; "error" if it is absent
    steps             [{name: str, seconds: float, note: str, test_error: metric or None}], in their order
    notes             [str]: what the reader must know, such as "calibrated on uniform noise"
    test_error_dense, test_error_pruned, test_error_shared, test_error_engine   metric or None
    test_metrics      {dense, pruned, shared, engine: {error, mse, r2, auc: float}}, those that there are
                      (`host.training.metrics`)
    weights_total, weights_kept            int
    bits_per_weight, bound_bits_per_weight everything on the chip over weights kept; the least possible
    onchip_bytes, image_bytes, dense_bytes memory used on the chip, size of model.img, size as float32
    disk_bytes        what Huffman codes of the layers' streams, and the rest as it is, would take
    storage_bits      {purpose: bits}: everything on the chip by what it is for (`STORAGE` explains purposes)
    layers            [{name: str, rows, cols, weights_total, weights_kept: int, density: 0 to 1,
                        entries, skips: int (entries counts the skips, too), index_bits,
                        passes: int, bits_per_weight, bound_bits_per_weight: float,
                        pe_entries: [int for each PE], pe_balance: maximum over mean of pe_entries,
                        streams: {codes, indices, lengths: as `host.reporting.entropy.Stream`}, codebook: [int],
                        act_density: mean non-zero share of its inputs, useful_macs, broadcasts,
                        cycles: mean of an image, test_error: percent}]
    cycles_per_image  {predicted, ideal: useful multiplications / PEs, limit: as ideal, but no layer below
                       its broadcasts}, means over the verified images
    rtl               {images, mismatches, cycle_mismatches: int, metric, test_error: metric or None,
                       test_metrics: {error, mse, r2, auc: float}, seconds: float, cycles_per_image, and with
                       predicted_, limit_ or ideal_ before it: means over the images}: a run on the simulated
                       engine, as `host.reporting.engine_run` makes it
    check             {reference: str, what the result was compared with, inputs: int,
                       agreement: share of them whose greatest output is the same, None where that says nothing,
                       relative_error: norm of the difference over that of the float outputs,
                       points: percentage points lost in all, worst: {step: str, layer: str or None},
                       steps: [{name, points, unit: what they are of, change: of the outputs, as relative_error}],
                       layers: [{name, snr_db: {step: signal-to-noise ratio of its outputs, None if nothing has
                       changed}, clipped: share of the float network's values beyond the integers' range}]}
    clipped_outputs   {number of an output: share of its values beyond its scale}, those of 1 % and more
    prune_history     [{round: int, density: 0 to 1, iterations: int, seconds, loss: float,
                        held_out_error: metric}]

Within those, too, what is absent or None is left out or shown as a dash. Keys beyond these are kept in
``report.json`` and shown nowhere. Names come from the model file: what is not printable in them is shown as
an escape sequence, and the page escapes everything and forbids scripts and loading.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from host.reporting.check_section import CAPTION, check_tables
from host.reporting.html_page import page, section, table
from host.reporting.number_text import (
    cut,
    error_text,
    hundredths_text,
    kib_text,
    number_text,
    plain,
    ratio,
    safe,
    share_text,
    show,
    tenths_text,
)
from host.reporting.report_values import Report, layers_of, main_figures, metric_of, rtl_figures, storage_bits
from host.reporting.svg_charts import balance_chart, bar_chart, line_chart, storage_chart
from nonzero.errors import printable
from nonzero.files import write_whole

__all__ = ["STORAGE", "report_html", "report_text", "write_report"]

STORAGE = {
    "weights": "weight codes with their relative indices",
    "entries": "weight codes with their relative indices",
    "skips": "entries that only skip rows", "alignment": "unused ends of entry words",
    "slices": "slice lengths and base addresses", "biases": "biases", "codebooks": "codebooks",
    "program": "program",
}
"""Description of each purpose of ``storage_bits``; one that is not here is shown by its name."""

def report_html(report: Report) -> str:
    """The ``report`` as one page that needs neither scripts nor other files; see the module for its schema."""
    report = plain(report)
    notes = "".join(f"<p>Note: {safe(note)}</p>" for note in report.get("notes") or [])
    parts = [
        _heading(report), _tiles(report), notes,
        section("Layers", table(_layer_rows(report, terminal=False), "layers")),
        section("Memory on the chip by purpose", _storage(report)),
        section("Entries of each processing element", balance_chart(layers_of(report)),
                 "A bar for each PE, the dashed line their mean. Uneven bars cost cycles."),
        section("Cycles of each layer", _cycles(report),
                 "Mean of an image. Ideal: useful multiplications over PEs; limit: at least the broadcasts."),
        section("Run in RTL", _rtl(report), "The simulated engine beside the golden model and the cycle model."),
        section("Accuracy at every step", _steps(report)),
        section("Beside floats", check_tables(report), CAPTION),
        section("Pruning", _pruning(report), "After each round, by the share of weights kept."),
        section("Codebooks", _codebooks(report)),
        section("Entropy", _entropy(report), "Codes, indices and slice lengths in Huffman codes, as for storage; "
                 "the engine reads fixed widths."),
        section("Engine", _engine(report)),
    ]
    return page(report.get("network") or "network", parts)


def report_text(report: Report) -> str:
    """The main figures of ``report`` for a terminal, without a newline at the end; see the module for its schema."""
    report = plain(report)
    named = [printable(report[key]) for key in ("tool", "network", "preset", "dataset") if report.get(key)]
    lines = [", ".join(named)]
    rows = [[cut(cell, 24) for cell in row] for row in _layer_rows(report, terminal=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    lines += [f"{name + ':':<22}{value}{f' ({detail})' if detail else ''}"
              for name, value, detail in main_figures(report)]
    storage = storage_bits(report)
    lines += ["memory by purpose:"] if storage else []
    lines += [f"  {cut(name, 18):<18}{kib_text(bits / 8):>11}{share_text(bits / sum(storage.values())):>9}"
              for name, bits in storage.items()]
    lines += [f"note: {printable(note)}" for note in report.get("notes") or []]
    return "\n".join(line.rstrip() for line in lines if line)


def write_report(directory: Path, report: Report) -> None:
    """Writes ``report.json`` and ``report.html``, each whole or not at all, into ``directory``, which need not exist.

    In ``report.json`` a number that is not finite is null. ``report`` is what `host.reporting.compile_report.summarize`
    returns. Raises `UserError` where nothing can be written.
    """
    contents = {"report.json": json.dumps(plain(report), indent=2, sort_keys=True, allow_nan=False) + "\n",
                "report.html": report_html(report)}
    for name, content in contents.items():
        write_whole(directory / name, content.encode())


LAYER_COLUMNS: list[tuple[str, str, Callable[[Any], str], bool]] = [
    ("layer", "name", printable, True),
    ("outputs", "rows", number_text, True), ("inputs", "cols", number_text, True),
    ("kept", "weights_kept", number_text, True), ("density", "density", share_text, True),
    ("entries", "entries", number_text, False), ("skips", "skips", number_text, False),
    ("index bits", "index_bits", number_text, False),
    ("passes", "passes", number_text, False), ("bits/weight", "bits_per_weight", hundredths_text, True),
    ("bound", "bound_bits_per_weight", hundredths_text, True),
    ("PE balance", "pe_balance", hundredths_text, True),
    ("active inputs", "act_density", share_text, False), ("cycles", "cycles", number_text, True),
    ("limit", "limit", number_text, False), ("ideal", "ideal", number_text, True),
    ("test error", "test_error", error_text, False),
]
"""Title, key of the layer, how to show it, and whether it fits into a terminal."""


def _layer_rows(report: Report, *, terminal: bool) -> list[list[str]]:
    """Titles, then a row for each layer, then the network's; without columns that no layer fills."""
    layers, cycles = layers_of(report), report.get("cycles_per_image") or {}
    columns = [column for column in LAYER_COLUMNS if (column[3] or not terminal)
               and any(layer.get(column[1]) is not None for layer in layers)]
    if not columns:
        return []
    whole = {"name": "total", "weights_kept": report.get("weights_kept"),
             "density": ratio(report.get("weights_kept"), report.get("weights_total")),
             "bits_per_weight": report.get("bits_per_weight"), "cycles": cycles.get("predicted"),
             "bound_bits_per_weight": report.get("bound_bits_per_weight"), "limit": cycles.get("limit"),
             "ideal": cycles.get("ideal")}
    return [[title for title, *_ in columns],
            *([show(layer.get(key), form) for _, key, form, _ in columns] for layer in layers),
            [show(whole.get(key), form, absent="") for _, key, form, _ in columns]]


def _heading(report: Report) -> str:
    made = [f"{key} {safe(report[key])}" for key in ("source", "dataset", "preset", "seed")
            if report.get(key) is not None]
    made += [f"made by {safe(report['tool'])}"] if report.get("tool") else []
    return f"<header><h1>{safe(report.get('network') or 'network')}</h1><p>{', '.join(made)}</p></header>"


def _tiles(report: Report) -> str:
    tiles = [f'<div class="tile"><span>{name}</span><b>{value}</b><span>{detail}</span></div>'
             for name, value, detail in main_figures(report)]
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _steps(report: Report) -> str:
    steps, metric = report.get("steps") or [], metric_of(report)
    measured = [step for step in steps if step.get("test_error") is not None]
    chart = line_chart([printable(step.get("name", "")) for step in measured],
                       [(f"test {metric.axis}", [step["test_error"] for step in measured])], metric.form)
    rows = [[printable(step.get("name", "")), show(step.get("seconds"), hundredths_text),
             show(step.get("test_error"), metric.text), printable(step.get("note", ""))] for step in steps]
    return chart + table([["step", "seconds", f"test {metric.title}", ""], *rows], "steps")


def _codebooks(report: Report) -> str:
    rows = [[printable(layer.get("name", "")), " ".join(map(str, layer["codebook"]))]
            for layer in layers_of(report) if layer.get("codebook")]
    return table([["layer", "weights by code"], *rows], "texts")


def _entropy(report: Report) -> str:
    rows = [[printable(layer.get("name", "")), kind, show(stream.get("symbols"), number_text),
             show(stream.get("entropy"), hundredths_text),
             show(ratio(stream.get("huffman_bits"), stream.get("symbols")), hundredths_text),
             show(ratio(stream.get("huffman_bits"), 8), number_text)]
            for layer in layers_of(report) for kind, stream in (layer.get("streams") or {}).items()]
    return table([["layer", "stream", "symbols", "entropy, bits", "Huffman code, bits", "bytes"], *rows])


def _engine(report: Report) -> str:
    fields = {**(report.get("config") or {}), "configuration hash": report.get("config_hash")}
    rows = [[key, str(value)] for key, value in fields.items() if value is not None]
    return table([["field", "value"], *rows], "texts")


def _storage(report: Report) -> str:
    storage, kept = storage_bits(report), report.get("weights_kept")
    total = sum(storage.values())
    rows = [["purpose", "KiB", "share", "bits per weight kept", ""],
            *([name, hundredths_text(bits / 8192), share_text(bits / total),
               show(ratio(bits, kept), hundredths_text), STORAGE.get(name, "")] for name, bits in storage.items()),
            ["total", hundredths_text(total / 8192), "", show(ratio(total, kept), hundredths_text), ""]]
    return storage_chart(storage) + table(rows, "storage") if storage else ""


def _cycles(report: Report) -> str:
    kinds = ("cycles", "limit", "ideal")
    return bar_chart("cycles of each layer", kinds,
                     [(printable(layer.get("name", "")), [layer[kind] for kind in kinds])
                      for layer in layers_of(report) if layer.get("cycles") is not None])


def _rtl(report: Report) -> str:
    rtl = report.get("rtl") or {}
    kinds = ("cycles", "limit", "ideal", "predicted")
    values = [rtl.get("cycles_per_image" if kind == "cycles" else f"{kind}_cycles_per_image") for kind in kinds]
    chart = bar_chart("cycles of an image in RTL", kinds, [("an image", values)]) if any(values) else ""
    return chart + table([["figure", "value"], *rtl_figures(rtl)])


def _pruning(report: Report) -> str:
    rounds, metric = report.get("prune_history") or [], metric_of(report)
    rows = [[str(one.get("round", number)), show(one.get("density"), share_text),
             show(one.get("iterations"), number_text), show(one.get("seconds"), tenths_text),
             show(one.get("loss"), "{:.4f}".format), show(one.get("held_out_error"), metric.text)]
            for number, one in enumerate(rounds, start=1)]
    errors = [one.get("held_out_error") for one in rounds]
    series = [(f"held-out {metric.axis}", errors)] if set(errors) != {None} else []
    chart = line_chart([row[1] for row in rows], series, metric.form)
    return chart + table([["round", "kept", "iterations", "seconds", "loss", f"held-out {metric.title}"], *rows])
