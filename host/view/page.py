# SPDX-License-Identifier: Apache-2.0
"""The page of one run: its fixed content, and the scripts that draw the rest from the recording."""

import json
from importlib.resources import files
from typing import Any

from host.network.layers import FLOAT_BITS
from host.reporting.html_page import page, section, table
from host.reporting.number_text import hundredths_text, kib_text, number_text, ratio, safe, share_text, show

__all__ = ["run_page"]

SCRIPTS = ("run.js", "network.js", "cycles.js", "timeline.js", "controls.js")

CHOICES = """<noscript><p>Scripts draw this page, and they are switched off.</p></noscript>
<div class="bar top"><label>image <select id="image"></select></label>
<label>layer <select id="layer"></select></label></div>"""

TIMELINE = """
<div class="bar" role="group" aria-label="time range">
<label>PEs show <select id="mode">
<option value="states">what they do</option><option value="busy">multiplications</option>
<option value="stalled">stalls on a queue</option><option value="level">queue level</option></select></label>
<span><button type="button" id="out" aria-label="zoom out">&#8722;</button>
<button type="button" id="in" aria-label="zoom in">+</button>
<button type="button" id="whole">whole</button></span>
<label class="grow">from cycle <input type="range" id="scroll" min="0" max="0" value="0" step="any"/></label>
<label><input type="checkbox" id="show-shares" checked/> all PEs</label>
<label><input type="checkbox" id="show-levels" checked/> queues</label>
<label><input type="checkbox" id="show-scan" checked/> scan</label>
</div>
<div id="bands" class="strip"><canvas height="26"></canvas></div>
<div id="heat" class="strip"><canvas tabindex="0" role="application" aria-describedby="keys readout"
aria-label="what each PE does over time"></canvas></div>
<div id="shares" class="strip"><canvas height="90"></canvas></div>
<div id="levels" class="strip"><canvas height="76"></canvas></div>
<div id="scan" class="strip"><canvas height="62"></canvas></div>
<p class="small"><span class="key s2"><i></i>queues: mean level</span>
<span class="key state-waiting"><i></i>the fullest one</span><span class="key">- - - full</span>
<span class="key s0"><i></i>scan: broadcasts a cycle</span><span class="key s1"><i></i>stopped</span></p>
<p><output id="readout" aria-live="polite"></output></p>
<p id="keys" class="small">Drag to zoom into a range, double-click for the whole. With the chart in focus: arrow keys
move the cursor through time and PEs (Shift: ten bins), + and &#8722; zoom, Page Up and Page Down scroll, Home shows the
whole.</p>
"""


def run_page(run: dict[str, Any]) -> str:
    """The page of the recording ``run``, which was checked (`host.view.reading`)."""
    data = json.dumps(run, separators=(",", ":")).replace("<", "\\u003c")
    place = files("host.view")
    script = "\n".join(place.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)
    title = f"{run['image']} on {run['device']}"
    made = (f"data {safe(run['data'])}, engine of {run['pes']} PEs with queues of {run['queue_depth']} slices, "
            f"configuration {safe(run['config_hash'])}, recorded by {safe(run['tool'])}")
    parts = [
        f"<header><h1>{safe(title)}</h1><p>{made}</p></header>", CHOICES,
        '<div id="tiles" class="tiles"></div>',
        section("Where the cycles went", '<div id="cycles"></div>',
                "Of all PEs together. Each layer begins where the one before it handed over to its drain."),
        section("Network", '<div id="network" class="wide"></div>',
                "Bars are activations, filled as far as they are not zero. Choose a layer to look at it alone."),
        section("PEs over time", TIMELINE),
        section("Compression", table(_compression(run), "layers"),
                "Entries, slice lengths and biases on the chip, beside all weights as float32. Weights of neurons that "
                "were dropped count as pruned."),
        section("Numbers", '<div id="numbers"></div>'),
        f'<script type="application/json" id="run">{data}</script>',
    ]
    style = place.joinpath("run.css").read_text(encoding="utf-8")
    return page(title, parts, style, f'"use strict";(() => {{\n{script}}})();')


def _compression(run: dict[str, Any]) -> list[list[str]]:
    rows = [["layer", "outputs", "inputs", "weights", "kept", "density", "entries", "index bits", "bits/weight",
             "on the chip", "dense float32", "times less"]]
    layers = run["layers"]
    total: dict[str, Any] = {key: sum(layer[key] for layer in layers)
                             for key in ("weights_total", "weights_kept", "entries", "bits")}
    for layer in [*layers, {"name": "total", "outputs": None, "inputs": None, "index_bits": None, **total}]:
        dense, bits, kept = layer["weights_total"] * FLOAT_BITS, layer["bits"], layer["weights_kept"]
        rows.append([
            layer["name"], *(show(layer[key], number_text, absent="") for key in ("outputs", "inputs")),
            number_text(layer["weights_total"]), number_text(kept),
            share_text(kept / layer["weights_total"]), number_text(layer["entries"]),
            show(layer["index_bits"], number_text, absent=""), show(ratio(bits, kept), hundredths_text),
            kib_text(bits / 8), kib_text(dense / 8), show(ratio(dense, bits), "{:.1f}".format)])
    return rows
