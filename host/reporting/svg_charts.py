# SPDX-License-Identifier: Apache-2.0
"""The charts of a report: SVG, with a text for every bar and point; an empty text if there is nothing to draw."""

import math
from collections.abc import Sequence

from host.reporting.number_text import cut, number_text, safe, share_text
from host.reporting.report_values import Report
from nonzero.errors import printable

__all__ = ["balance_chart", "bar_chart", "line_chart", "storage_chart", "xy_chart"]

WIDTH = 720
LABELS = 150
"""Width of a chart, and of the labels left of its bars, in SVG user units."""

SERIES = 7
"""Colours that `host.reporting.html_page.STYLE` has, ``s0`` and up."""


def storage_chart(storage: dict[str, int]) -> str:
    """One bar, stacked by purpose; ``storage`` are bits."""
    total = sum(storage.values())
    bar, x = "", 0.0
    for number, (name, bits) in enumerate(storage.items()):
        share = bits / total
        bar += _rectangle(x, 0, WIDTH * share, 34, number, f"{name}: {share_text(share)}")
        x += WIDTH * share
    return _svg(34, "memory by purpose", bar) + _legend(list(storage)) if storage else ""


def balance_chart(layers: Sequence[Report]) -> str:
    """For each of ``layers`` that has ``pe_entries`` a bar for each PE, from zero, and a line at their mean."""
    content, height = "", 56
    layers = [layer for layer in layers if layer.get("pe_entries")]
    for number, layer in enumerate(layers):
        entries, base = layer["pe_entries"], number * (height + 12) + height
        top, mean = max(1, *entries), sum(entries) / len(entries)
        pitch = (WIDTH - LABELS) / len(entries)
        content += _text(0, base - 30, cut(printable(layer.get("name", "")), 20))
        content += _text(0, base - 14, f"{min(entries):,} to {max(entries):,}", "quiet")
        for pe, count in enumerate(entries):
            tall = height * count / top
            x = LABELS + pe * pitch
            content += _rectangle(x, base - tall, 0.8 * pitch, tall, 0, f"PE {pe}: {count:,}")
        y = base - height * mean / top
        content += f'<line x1="{LABELS}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" class="line s1"/>'
    return _svg(len(layers) * (height + 12), "entries of each PE", content) if layers else ""


def bar_chart(label: str, kinds: Sequence[str], groups: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """Horizontal bars in groups: for each group its name and one bar for each kind.

    Parameters
    ----------
    label : str
        Description of the chart for readers that do not see it.
    kinds : sequence of str
        Names of a group's bars, for the legend.
    groups : sequence of (str, sequence of float or None)
        Name and values of each group, a value for each kind; None has no bar.
    """
    longest = max([1.0, *(value for _, values in groups for value in values if value is not None)])
    content, y = "", 0
    for name, values in groups:
        content += _text(0, y + 25, cut(name, 20))
        for number, (kind, value) in enumerate(zip(kinds, values, strict=True)):
            if value is not None:
                width = (WIDTH - LABELS - 70) * value / longest
                content += _rectangle(LABELS, y, width, 11, number, f"{kind}: {number_text(value)}")
                content += _text(LABELS + width + 6, y + 10, number_text(value), "quiet")
            y += 13
        y += 12
    return _svg(y, label, content) + _legend(kinds) if groups else ""


def line_chart(labels: Sequence[str], series: Sequence[tuple[str, list[float | None]]], form: str = "{:.2f}") -> str:
    """Points at even distances, joined, from zero up; each has its value beside it. Needs two points.

    Parameters
    ----------
    labels : sequence of str
        A label for each point.
    series : sequence of (str, list of float or None)
        Name of each line, and its values at the points. They are not negative; None has no point.
    form : str
        Format of a value.
    """
    if len(labels) < 2 or not series:
        return ""
    left, right, top, bottom = 62, WIDTH - 62, 28, 170
    highest = max([value for _, values in series for value in values if value is not None]) or 1.0
    step = (right - left) / (len(labels) - 1)
    every = -(-len(labels) // 9)  # so that neighbouring texts do not overlap
    content = f'<line x1="{left - 20}" x2="{right + 20}" y1="{bottom}" y2="{bottom}" class="axis"/>'
    for place in range(len(labels) - 1, -1, -every):
        content += _text(left + place * step, bottom + 18, cut(labels[place], 20), "quiet", "middle")
    for number, (name, values) in enumerate(series):
        points = [(place, left + place * step, bottom - (bottom - top) * value / highest, value)
                  for place, value in enumerate(values) if value is not None]
        joined = " ".join(f"{x:.1f},{y:.1f}" for _, x, y, _ in points)
        content += f'<polyline points="{joined}" class="line s{number}"/>'
        for place, x, y, value in points:
            tip = f"{name} {labels[place]}: {form.format(value)}"
            content += (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="fill s{number}">'
                        f'<title>{safe(tip)}</title></circle>')
            if (len(labels) - 1 - place) % every == 0:
                content += _text(x, y - 9 if number == 0 else y + 18, form.format(value), "", "middle")
    return _svg(bottom + 26, "error", content) + _legend([name for name, _ in series])


def xy_chart(label: str, x_name: str, y_name: str, series: Sequence[tuple[str, Sequence[tuple[float, float]]]], *,
             logarithmic: bool = False, markers: bool = True, highest: float = math.inf) -> str:
    """Lines through points ``(x, y)``, joined in their order; the y axis begins at 0 or below.

    Parameters
    ----------
    label : str
        Description of the chart for readers that do not see it.
    x_name, y_name : str
        Titles of the axes.
    series : sequence of (str, sequence of (float, float))
        Name and points of each line.
    logarithmic : bool
        Logarithmic x axis; then all x must be above 0.
    markers : bool
        A dot at each point.
    highest : float
        Points with a greater y are left out.
    """
    series = [(name, [(x, y) for x, y in points if y <= highest]) for name, points in series]
    everywhere = [point for _, points in series for point in points]
    if not everywhere:
        return ""
    left, right, top, bottom = 62, WIDTH - 20, 34, 300
    scale = math.log10 if logarithmic else float
    xs, ys = [scale(x) for x, _ in everywhere], [0.0, *(y for _, y in everywhere)]
    x_least, x_span, y_least = min(xs), max(xs) - min(xs) or 1.0, min(ys)
    y_span = max(ys) - y_least or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return (left + (right - left) * (scale(x) - x_least) / x_span, bottom - (bottom - top) * (y - y_least) / y_span)
    content = ""
    for step in range(5):
        x = x_least + x_span * step / 4
        x = 10 ** x if logarithmic else x
        y = y_least + y_span * step / 4
        at_x, at_y = place(x, y)
        content += f'<line x1="{left}" x2="{right}" y1="{at_y:.1f}" y2="{at_y:.1f}" class="axis"/>'
        content += _text(left - 8, at_y + 4, f"{y:.3g}", "quiet", "end")
        content += _text(at_x, bottom + 18, f"{x:.3g}", "quiet", "middle")
    for number, (name, points) in enumerate(series):
        dashes = ' stroke-dasharray="2 4"' if number >= SERIES else ""
        kind = f"s{number % SERIES}"
        placed = [(*place(x, y), x, y) for x, y in points]
        joined = " ".join(f"{at_x:.1f},{at_y:.1f}" for at_x, at_y, *_ in placed)
        content += f'<polyline points="{joined}" class="line {kind}"{dashes}/>'
        for at_x, at_y, x, y in placed if markers else ():
            content += (f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="3.5" class="fill {kind}">'
                        f'<title>{safe(f"{name}: {x:.3g}, {y:.3g}")}</title></circle>')
    content += _text((left + right) / 2, bottom + 38, x_name, "quiet", "middle") + _text(4, top - 18, y_name, "quiet")
    return _svg(bottom + 46, label, content) + _legend([name for name, _ in series])


def _svg(height: float, label: str, content: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{safe(label)}">{content}</svg>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{safe(text)}</text>'


def _rectangle(x: float, y: float, width: float, height: float, series: int, tip: str) -> str:
    return (f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(0, width):.2f}" height="{max(0, height):.2f}" '
            f'class="fill s{series % SERIES}"><title>{safe(tip)}</title></rect>')


def _legend(names: Sequence[str]) -> str:
    keys = [f'<span class="key s{number % SERIES}"><i></i>{safe(name)}</span>'
            for number, name in enumerate(names)]
    return f'<p class="legend">{"".join(keys)}</p>'
