# SPDX-License-Identifier: Apache-2.0
"""A page of HTML that needs no other files, and its parts."""

import base64
import hashlib
from collections.abc import Sequence

from host.reporting.number_text import safe

__all__ = ["page", "section", "table"]

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'{scripts}"/>
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


def page(title: str, parts: Sequence[str], style: str = "", script: str = "") -> str:
    """A whole page of HTML.

    The script comes at the end, and the page allows no other; it must not hold ``</script``.

    Parameters
    ----------
    title : str
        Plain text; it is escaped.
    parts : sequence of str
        HTML of the body; empty parts are left out.
    style : str
        CSS beside `STYLE`.
    script : str
        JavaScript.
    """
    body = "\n".join([*(part for part in parts if part), *([f"<script>{script}</script>"] if script else [])])
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"; script-src 'sha256-{allowed}'" if script else ""
    return f"{HEAD.format(title=safe(title), style=STYLE + style, scripts=scripts)}{body}\n</body>\n</html>\n"


def table(rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table as HTML; an empty text if there are no rows below the titles.

    Parameters
    ----------
    rows : sequence of sequence of str
        Texts of the cells, not escaped yet. The first row holds the titles.
    kind : str
        Classes of the table in `STYLE`, such as "texts".
    """
    if len(rows) < 2:
        return ""
    lines = [f"<tr>{''.join(f'<{tag}>{safe(cell)}</{tag}>' for cell in row)}</tr>"
             for tag, row in zip(["th"] + ["td"] * len(rows), rows, strict=False)]
    return f'<div class="wide"><table class="{kind}">{"".join(lines)}</table></div>'


def section(title: str, content: str, caption: str = "") -> str:
    """A part of a page, with a heading; empty without ``content``. ``title``, ``content`` and ``caption`` are HTML."""
    note = f"<p>{caption}</p>" if caption else ""
    return f"<section><h2>{title}</h2>{note}{content}</section>" if content else ""
