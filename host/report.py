# SPDX-License-Identifier: Apache-2.0
"""The report of a compilation: a page, a table for the terminal, and ``report.json``.

The dictionary, as `host.summary` makes it; a part whose keys are absent or None is left out::

    tool, network, source, preset, config_hash   str; what was compiled, by what, for which engine
    config            dict: the fields of `rtl.config.EngineConfig`
    seed, dataset     int; str or None
    steps             [{name: str, seconds: float, note: str, test_error: percent or None}], in their order
    notes             [str]: what the reader must know, such as "not pruned: packed as it is"
    test_error_dense, test_error_pruned, test_error_shared, test_error_engine   percent or None
    weights_total, weights_kept            int
    bits_per_weight, bound_bits_per_weight everything on the chip over weights kept; the least possible
    onchip_bytes, image_bytes, dense_bytes memory used on the chip, size of model.img, size as float32
    storage_bits      {purpose: bits}: everything on the chip by what it is for (`STORAGE` explains purposes)
    layers            [{name: str, rows, cols, weights_total, weights_kept: int, density: 0 to 1,
                        entries, skips: int (entries counts the skips, too), index_bits, length_bits,
                        passes: int, bits_per_weight, bound_bits_per_weight: float,
                        pe_entries: [int for each PE], pe_balance: maximum over mean of pe_entries,
                        codebook: [int], act_density: mean non-zero share of its inputs, useful_macs,
                        broadcasts, cycles: mean of an image, test_error: percent}]
    cycles_per_image  {predicted, ideal: useful multiplications / PEs, limit: as ideal, but no layer below
                       its broadcasts}, means over the verified images
    prune_history     [{round: int, density: 0 to 1, loss: float, held_out_error, test_error: percent}]

Within those, too, what is absent or None is left out or shown as a dash. Keys beyond these are kept in
``report.json`` and shown nowhere. Names come from the model file: what is not printable in them is shown as
an escape sequence, and the page escapes everything and forbids scripts and loading.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from host.errors import UserError

__all__ = ["STORAGE", "report_html", "report_text", "write_report"]

Report = dict[str, Any]

STORAGE = {
    "weights": "weight codes with their relative indices",
    "entries": "weight codes with their relative indices",
    "skips": "entries that only skip rows", "alignment": "unused ends of entry words",
    "slices": "slice lengths and base addresses", "biases": "biases", "codebooks": "codebooks",
    "program": "program",
}
"""What each purpose of ``storage_bits`` means; one that is not here is shown by its name."""

ABSENT = "-"
WIDTH = 720
LABELS = 150
"""Width of a chart, and of the labels left of its bars, in SVG user units."""

SERIES = 7
"""Colours that `STYLE` has, ``s0`` and up."""

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{title}</title>
<style>{style}</style>
</head>
<body>
"""

STYLE = """
:root { color-scheme: light; --ink: #1d2430; --quiet: #5a6472; --rule: #d8dce2; --paper: #ffffff;
  --s0: #0b5fa5; --s1: #c8620a; --s2: #1a8a63; --s3: #8a4fa8; --s4: #a3842a; --s5: #b23a48; --s6: #6b7480; }
@media screen and (prefers-color-scheme: dark) {
  :root { color-scheme: dark; --ink: #e6e9ee; --quiet: #9aa4b2; --rule: #39414d; --paper: #14181e;
    --s0: #5aa9e6; --s1: #f2994a; --s2: #4fc59a; --s3: #c48be0; --s4: #d9bc5c; --s5: #ee7885; --s6: #98a2ae; }
}
body { margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
p { margin: .3rem 0; color: var(--quiet); overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.4rem 0; }
.tile { flex: 1 1 9rem; border: 1px solid var(--rule); border-radius: 6px; padding: .6rem .8rem; }
.tile b { display: block; font-size: 1.5rem; font-weight: 600; }
.tile span { display: block; color: var(--quiet); font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
th { font-weight: 500; color: var(--quiet); vertical-align: bottom; }
th:first-child, td:first-child, .texts th, .texts td { text-align: left; overflow-wrap: anywhere;
  min-width: 5rem; }
.steps :last-child, .storage :last-child { text-align: left; }
.layers tr:last-child td, .storage tr:last-child td { font-weight: 600; }
svg { display: block; width: 100%; max-width: 45rem; height: auto; margin: .6rem 0; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .quiet { fill: var(--quiet); } svg .axis { stroke: var(--rule); }
.s0 { --series: var(--s0); } .s1 { --series: var(--s1); } .s2 { --series: var(--s2); }
.s3 { --series: var(--s3); } .s4 { --series: var(--s4); } .s5 { --series: var(--s5); }
.s6 { --series: var(--s6); }
svg .fill { fill: var(--series); } svg .line { stroke: var(--series); fill: none; stroke-width: 2; }
svg .line.s1 { stroke-dasharray: 6 3; }
.key { margin-right: 1.2em; white-space: nowrap; }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; background: var(--series); }
@media print { body { margin: 0; font-size: 11px; } svg, tr, .tile { break-inside: avoid; }
  .wide { overflow: visible; } table { font-size: .8em; } th, td { padding-right: .4rem; } }
* { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
"""


def report_html(report: Report) -> str:
    """The report as one page that needs neither scripts nor other files; see the module for its schema."""
    report = _plain(report)
    notes = "".join(f"<p>Note: {_safe(note)}</p>" for note in report.get("notes") or [])
    parts = [
        _heading(report), _tiles(report), notes,
        _section("Layers", _table(_layer_rows(report, terminal=False), "layers")),
        _section("Memory on the chip by purpose", _storage(report)),
        _section("Entries of each processing element", _balance(report),
                 "A bar for each PE, the dashed line their mean. Uneven bars cost cycles."),
        _section("Cycles of each layer", _cycles(report),
                 "Mean of an image. Ideal: useful multiplications over PEs; limit: at least the broadcasts."),
        _section("Accuracy at every step", _steps(report)),
        _section("Pruning", _pruning(report), "After each round, by the share of weights kept."),
        _section("Codebooks", _codebooks(report)),
        _section("Engine", _engine(report)),
    ]
    body = "\n".join(part for part in parts if part)
    head = HEAD.format(title=_safe(report.get("network") or "network"), style=STYLE)
    return f"{head}{body}\n</body>\n</html>\n"


def report_text(report: Report) -> str:
    """The report's main figures for a terminal, without a newline at the end."""
    report = _plain(report)
    named = [_printable(report[key]) for key in ("tool", "network", "preset", "dataset") if report.get(key)]
    lines = [", ".join(named)]
    rows = [[_cut(cell, 24) for cell in row] for row in _layer_rows(report, terminal=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    storage = _storage_bits(report)
    shares = [f"{name} {_share(bits / sum(storage.values()))}" for name, bits in storage.items()]
    figures = [*_figures(report), *([("memory by purpose", ", ".join(shares), "")] if shares else [])]
    lines += [f"{name + ':':<22}{value}{f' ({detail})' if detail else ''}" for name, value, detail in figures]
    lines += [f"note: {_printable(note)}" for note in report.get("notes") or []]
    return "\n".join(line.rstrip() for line in lines if line)


def write_report(directory: Path, report: Report) -> None:
    """Writes ``report.json`` and ``report.html``, each whole or not at all; makes the directory.

    In ``report.json`` a number that is not finite is null. Raises `UserError` where nothing can be written.
    """
    contents = {"report.json": json.dumps(_plain(report), indent=2, sort_keys=True, allow_nan=False) + "\n",
                "report.html": report_html(report)}
    for name, content in contents.items():
        path, part = directory / name, directory / f"{name}.part"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            part.write_text(content, encoding="utf-8", newline="\n")
            os.replace(part, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise UserError(f"report '{path}' cannot be written ({error.strerror}); free it or name another "
                            "output directory") from None


# Values -----------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """As JSON would bring it back; None for a number that is not finite."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _printable(value: object) -> str:
    """Without control characters, lone surrogates and marks that turn the direction of writing."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(value))


def _safe(value: object) -> str:
    return escape(_printable(value))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length - 3]}..."


def _number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def _hundredths(value: float) -> str:
    return _number(value, 2)


def _share(value: float) -> str:
    return f"{100 * value:.2f}%"


def _error(percent: float) -> str:
    return f"{percent:.2f}%"


def _kib(count: float) -> str:
    return f"{count / 1024:,.1f} KiB"


def _show(value: Any, form: Callable[[Any], str], text: str = "{}", absent: str = ABSENT) -> str:
    return absent if value is None else text.format(form(value))


def _ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under else None


def _layers(report: Report) -> list[Report]:
    """The layers, with ``ideal`` and ``limit`` cycles where they are known."""
    layers = []
    for layer in report.get("layers") or []:
        pes = (report.get("config") or {}).get("pes") or len(layer.get("pe_entries") or [])
        ideal, broadcasts = _ratio(layer.get("useful_macs"), pes), layer.get("broadcasts")
        limit = None if ideal is None or broadcasts is None else max(ideal, broadcasts)
        layers.append({**layer, "ideal": ideal, "limit": limit})
    return layers


def _storage_bits(report: Report) -> dict[str, int]:
    return {_printable(name): bits for name, bits in (report.get("storage_bits") or {}).items() if bits}


def _figures(report: Report) -> list[tuple[str, str, str]]:
    """The figures of the whole network: name, value and what it compares with (or an empty text)."""
    get, cycles = report.get, report.get("cycles_per_image") or {}
    errors = [_show(get(f"test_error_{stage}"), _error, f"{stage} {{}}", "")
              for stage in ("dense", "pruned", "shared")]
    smaller = [_show(_ratio(get("dense_bytes"), get("onchip_bytes")), "{:.1f}".format, "{} times less", ""),
               _show(get("dense_bytes"), _kib, "dense float32 {}", "")]
    times_ideal = _ratio(cycles.get("predicted"), cycles.get("ideal"))
    compared = [_show(times_ideal, _hundredths, "{} times the ideal", ""),
                _show(cycles.get("ideal"), _number, "ideal {}", ""),
                _show(cycles.get("limit"), _number, "limit {}", "")]
    figures = [
        ("weights kept", _show(_ratio(get("weights_kept"), get("weights_total")), _share),
         [f"{_show(get('weights_kept'), _number)} of {_show(get('weights_total'), _number)}"]),
        ("test error", _show(get("test_error_engine"), _error), errors),
        ("on the chip", _show(get("onchip_bytes"), _kib), smaller),
        ("bits per weight kept", _show(get("bits_per_weight"), _hundredths),
         [_show(get("bound_bits_per_weight"), _hundredths, "bound of code and position {}", "")]),
        ("memory image", _show(get("image_bytes"), _number, "{} bytes"), []),
        ("cycles per image", _show(cycles.get("predicted"), _number), compared),
    ]
    return [(name, value, ", ".join(filter(None, details)))
            for name, value, details in figures if value != ABSENT]


# Tables -----------------------------------------------------------------------------------------------

LAYER_COLUMNS: list[tuple[str, str, Callable[[Any], str], bool]] = [
    ("layer", "name", _printable, True),
    ("outputs", "rows", _number, True), ("inputs", "cols", _number, True),
    ("kept", "weights_kept", _number, True), ("density", "density", _share, True),
    ("entries", "entries", _number, False), ("skips", "skips", _number, False),
    ("index bits", "index_bits", _number, False), ("length bits", "length_bits", _number, False),
    ("passes", "passes", _number, False), ("bits/weight", "bits_per_weight", _hundredths, True),
    ("bound", "bound_bits_per_weight", _hundredths, True),
    ("PE balance", "pe_balance", _hundredths, True),
    ("active inputs", "act_density", _share, False), ("cycles", "cycles", _number, True),
    ("limit", "limit", _number, False), ("ideal", "ideal", _number, True),
    ("test error", "test_error", _error, False),
]
"""Title, key of the layer, how to show it, and whether it fits into a terminal."""


def _layer_rows(report: Report, *, terminal: bool) -> list[list[str]]:
    """Titles, then a row for each layer, then the network's; without columns that no layer fills."""
    layers, cycles = _layers(report), report.get("cycles_per_image") or {}
    columns = [column for column in LAYER_COLUMNS if (column[3] or not terminal)
               and any(layer.get(column[1]) is not None for layer in layers)]
    if not columns:
        return []
    whole = {"name": "total", "weights_kept": report.get("weights_kept"),
             "density": _ratio(report.get("weights_kept"), report.get("weights_total")),
             "bits_per_weight": report.get("bits_per_weight"), "cycles": cycles.get("predicted"),
             "bound_bits_per_weight": report.get("bound_bits_per_weight"), "limit": cycles.get("limit"),
             "ideal": cycles.get("ideal")}
    return [[title for title, *_ in columns],
            *([_show(layer.get(key), form) for _, key, form, _ in columns] for layer in layers),
            [_show(whole.get(key), form, absent="") for _, key, form, _ in columns]]


def _table(rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """The first row holds the titles. Cells are texts that are not escaped yet."""
    if len(rows) < 2:
        return ""
    lines = [f"<tr>{''.join(f'<{tag}>{_safe(cell)}</{tag}>' for cell in row)}</tr>"
             for tag, row in zip(["th"] + ["td"] * len(rows), rows, strict=False)]
    return f'<div class="wide"><table class="{kind}">{"".join(lines)}</table></div>'


def _section(title: str, content: str, caption: str = "") -> str:
    note = f"<p>{caption}</p>" if caption else ""
    return f"<section><h2>{title}</h2>{note}{content}</section>" if content else ""


def _heading(report: Report) -> str:
    made = [f"{key} {_safe(report[key])}" for key in ("source", "dataset", "preset", "seed")
            if report.get(key) is not None]
    made += [f"made by {_safe(report['tool'])}"] if report.get("tool") else []
    return f"<header><h1>{_safe(report.get('network') or 'network')}</h1><p>{', '.join(made)}</p></header>"


def _tiles(report: Report) -> str:
    tiles = [f'<div class="tile"><span>{name}</span><b>{value}</b><span>{detail}</span></div>'
             for name, value, detail in _figures(report)]
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _steps(report: Report) -> str:
    steps = report.get("steps") or []
    measured = [step for step in steps if step.get("test_error") is not None]
    chart = _lines([_printable(step.get("name", "")) for step in measured],
                   [("test error, %", [step["test_error"] for step in measured])])
    rows = [[_printable(step.get("name", "")), _show(step.get("seconds"), _hundredths),
             _show(step.get("test_error"), _error), _printable(step.get("note", ""))] for step in steps]
    return chart + _table([["step", "seconds", "test error", ""], *rows], "steps")


def _codebooks(report: Report) -> str:
    rows = [[_printable(layer.get("name", "")), " ".join(map(str, layer["codebook"]))]
            for layer in _layers(report) if layer.get("codebook")]
    return _table([["layer", "weights by code"], *rows], "texts")


def _engine(report: Report) -> str:
    fields = {**(report.get("config") or {}), "configuration hash": report.get("config_hash")}
    rows = [[key, str(value)] for key, value in fields.items() if value is not None]
    return _table([["field", "value"], *rows], "texts")


# Charts -----------------------------------------------------------------------------------------------


def _svg(height: float, label: str, content: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{_safe(label)}">{content}</svg>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{_safe(text)}</text>'


def _rectangle(x: float, y: float, width: float, height: float, series: int, tip: str) -> str:
    return (f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(0, width):.2f}" height="{max(0, height):.2f}" '
            f'class="fill s{series % SERIES}"><title>{_safe(tip)}</title></rect>')


def _legend(names: Sequence[str]) -> str:
    keys = [f'<span class="key s{number % SERIES}"><i></i>{_safe(name)}</span>'
            for number, name in enumerate(names)]
    return f'<p class="legend">{"".join(keys)}</p>'


def _storage(report: Report) -> str:
    """One bar, stacked by purpose, and the figures beneath."""
    storage, kept = _storage_bits(report), report.get("weights_kept")
    total = sum(storage.values())
    bar, x = "", 0.0
    rows = [["purpose", "KiB", "share", "bits per weight kept", ""]]
    for number, (name, bits) in enumerate(storage.items()):
        share = bits / total
        bar += _rectangle(x, 0, WIDTH * share, 34, number, f"{name}: {_share(share)}")
        x += WIDTH * share
        rows.append([name, _hundredths(bits / 8192), _share(share), _show(_ratio(bits, kept), _hundredths),
                     STORAGE.get(name, "")])
    rows.append(["total", _hundredths(total / 8192), "", _show(_ratio(total, kept), _hundredths), ""])
    chart = _svg(34, "memory by purpose", bar) + _legend(list(storage))
    return chart + _table(rows, "storage") if storage else ""


def _balance(report: Report) -> str:
    """For each layer a bar for each PE, from zero, and a line at their mean."""
    content, height = "", 56
    layers = [layer for layer in _layers(report) if layer.get("pe_entries")]
    for number, layer in enumerate(layers):
        entries, base = layer["pe_entries"], number * (height + 12) + height
        top, mean = max(1, *entries), sum(entries) / len(entries)
        pitch = (WIDTH - LABELS) / len(entries)
        content += _text(0, base - 30, _cut(_printable(layer.get("name", "")), 20))
        content += _text(0, base - 14, f"{min(entries):,} to {max(entries):,}", "quiet")
        for pe, count in enumerate(entries):
            tall = height * count / top
            x = LABELS + pe * pitch
            content += _rectangle(x, base - tall, 0.8 * pitch, tall, 0, f"PE {pe}: {count:,}")
        y = base - height * mean / top
        content += f'<line x1="{LABELS}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" class="line s1"/>'
    return _svg(len(layers) * (height + 12), "entries of each PE", content) if layers else ""


def _cycles(report: Report) -> str:
    """For each layer its cycles, their limit and the ideal, one bar beneath the other."""
    kinds = ("cycles", "limit", "ideal")
    layers = [layer for layer in _layers(report) if layer.get("cycles") is not None]
    longest = max([1.0, *(layer[kind] for layer in layers for kind in kinds if layer[kind] is not None)])
    content, y = "", 0
    for layer in layers:
        content += _text(0, y + 25, _cut(_printable(layer.get("name", "")), 20))
        for number, kind in enumerate(kinds):
            if layer[kind] is not None:
                width = (WIDTH - LABELS - 70) * layer[kind] / longest
                content += _rectangle(LABELS, y, width, 11, number, f"{kind}: {_number(layer[kind])}")
                content += _text(LABELS + width + 6, y + 10, _number(layer[kind]), "quiet")
            y += 13
        y += 12
    return _svg(y, "cycles of each layer", content) + _legend(kinds) if layers else ""


def _pruning(report: Report) -> str:
    rounds = report.get("prune_history") or []
    rows = [[str(one.get("round", number)), _show(one.get("density"), _share),
             _show(one.get("loss"), "{:.4f}".format), _show(one.get("held_out_error"), _error),
             _show(one.get("test_error"), _error)] for number, one in enumerate(rounds, start=1)]
    series = [(name, [one.get(key) for one in rounds])
              for name, key in (("held-out error, %", "held_out_error"), ("test error, %", "test_error"))]
    chart = _lines([row[1] for row in rows], [one for one in series if set(one[1]) != {None}])
    return chart + _table([["round", "kept", "loss", "held-out error", "test error"], *rows])


def _lines(labels: Sequence[str], series: Sequence[tuple[str, list[float | None]]]) -> str:
    """Points at even distances, joined, from zero up; each has its value beside it. Needs two points."""
    if len(labels) < 2 or not series:
        return ""
    left, right, top, bottom = 62, WIDTH - 62, 28, 170
    highest = max([value for _, values in series for value in values if value is not None]) or 1.0
    step = (right - left) / (len(labels) - 1)
    every = -(-len(labels) // 9)  # so that neighbouring texts do not overlap
    content = f'<line x1="{left - 20}" x2="{right + 20}" y1="{bottom}" y2="{bottom}" class="axis"/>'
    for place in range(len(labels) - 1, -1, -every):
        content += _text(left + place * step, bottom + 18, _cut(labels[place], 20), "quiet", "middle")
    for number, (name, values) in enumerate(series):
        points = [(place, left + place * step, bottom - (bottom - top) * value / highest, value)
                  for place, value in enumerate(values) if value is not None]
        joined = " ".join(f"{x:.1f},{y:.1f}" for _, x, y, _ in points)
        content += f'<polyline points="{joined}" class="line s{number}"/>'
        for place, x, y, value in points:
            tip = f"{name} {labels[place]}: {value:.2f}"
            content += (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="fill s{number}">'
                        f'<title>{_safe(tip)}</title></circle>')
            if (len(labels) - 1 - place) % every == 0:
                content += _text(x, y - 9 if number == 0 else y + 18, f"{value:.2f}", "", "middle")
    return _svg(bottom + 26, "error", content) + _legend([name for name, _ in series])
