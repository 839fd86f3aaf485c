# SPDX-License-Identifier: Apache-2.0
"""The page of a run, in a browser: every cycle of the recording in its colour, every sum where it belongs."""

import copy
import io
import re

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from host.device.pe_trace import SERIES, STATES
from tests.support.networks import SMALL
from tests.support.run_page import SUMS, colours, heat, one, open_page, tiles

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\x1b\u202e"


def test_the_page_needs_nothing_else(shown, tmp_path):
    text = (tmp_path / "shown.html").read_text()
    assert "default-src 'none'" in text and "script-src 'sha256-" in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert shown.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_the_heat_map_shows_the_trace(shown, recorded):
    """Each PE has the colour of its state in the middle of each cycle."""
    image, found, colour = recorded["images"][0], heat(shown), colours(shown)
    cycles = len(image["series"]["cycles"])
    assert recorded["bin_cycles"] == 1 and found.shape[0] == SMALL.pes
    expected = np.zeros((SMALL.pes, cycles, 3), int)
    for state in STATES:
        spent = np.array(image["spent"][state]).reshape(cycles, SMALL.pes).T
        expected[spent == 1] = colour[state]
    middles = ((np.arange(cycles) + 0.5) * found.shape[1] / cycles).astype(int)
    assert np.abs(found[:, middles].astype(int) - expected).max() <= 2


def test_the_page_is_legible_in_both_schemes(shown, recorded):
    shares = {}
    for scheme in ("light", "dark"):
        shown.execute_cdp_cmd("Emulation.setEmulatedMedia",
                              {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        shown.execute_script("document.querySelector('#heat').scrollIntoView({block: 'center'})")
        pixels = np.array(Image.open(io.BytesIO(shown.get_screenshot_as_png())).convert("RGB")).astype(int)
        for state, colour in colours(shown).items():
            shares[scheme, state] = float((np.abs(pixels - colour).max(axis=2) <= 2).mean())
        shares[scheme, "paper"] = float(pixels[:, :20].mean())
    shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert shares["light", "paper"] > 240 and shares["dark", "paper"] < 40
    for scheme in ("light", "dark"):
        assert all(shares[scheme, state] > 0.001 for state in ("busy", "walking", "held", "waiting", "ended"))
    assert shares["light", "busy"] > 0.03


def test_tiles_and_bars_tell_the_sums(shown, recorded):
    image = recorded["images"][0]
    cycles, busy = image["counters"]["cycles"], image["counters"]["useful_macs"]
    assert tiles(shown)["cycles"] == [str(cycles), "as the cycle model predicts"]
    assert same_share(tiles(shown)["PEs multiply"][0], busy / cycles / SMALL.pes)
    keys = dict(zip(["busy", "stalled", "walking", "held", "waiting", "ended"],
                    [element.text for element in shown.find_elements(By.CSS_SELECTOR, ".keys b")], strict=True))
    assert all(same_share(text, sum(image["spent"][state]) / cycles / SMALL.pes) for state, text in keys.items())
    titles = [element.get_attribute("textContent") for element in shown.find_elements(By.CSS_SELECTOR, "#cycles title")]
    assert f"all layers: multiplies {keys['busy']}, {busy} PE cycles" in titles


def same_share(text, share):
    return re.fullmatch(r"\d+\.\d %", text) and abs(float(text[:-2]) - 100 * share) < 0.0501


def test_the_tables_have_layers_pes_and_counters(shown, recorded):
    image = recorded["images"][0]
    for details in ("of-layers", "of-pes", "of-counters"):
        one(shown, f"#{details} summary").click()
    rows = [[cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")]
            for row in shown.find_elements(By.CSS_SELECTOR, "#of-pes tr")]
    busy = np.array(image["spent"]["busy"]).reshape(-1, SMALL.pes).sum(axis=0)
    assert [row[:2] for row in rows[1:]] == [[str(pe), str(count)] for pe, count in enumerate(busy)]
    counters = dict([[cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
                     for row in shown.find_elements(By.CSS_SELECTOR, "#of-counters tr")[1:]])
    assert counters == {**{name: f"{count:,}" for name, count in image["counters"].items()},
                        "cycles, predicted": str(image["predicted_cycles"])}


def invented(pes, bins, layers, width):
    """A recording of any size, with invented numbers."""
    rng = np.random.default_rng(pes)
    spent = rng.multinomial(width, [0.6, 0.1, 0.1, 0.1, 0.05, 0.05], (bins, pes))
    series = {"passes": np.sort(rng.integers(0, layers, bins)), "cycles": np.full(bins, width)}
    series |= {name: rng.integers(0, width // 3 + 1, bins) for name in SERIES[2:]}
    level_max = rng.integers(0, 65, (bins, pes))
    counters = {SUMS[name]: int(series[name].sum()) for name in SUMS} | {
        "useful_macs": int(spent[..., 0].sum()), "dropped_slices": 0}
    layer = {"inputs": 150_000, "outputs": 100, "weights_total": 10_000, "weights_kept": 700, "entries": 700,
             "index_bits": 4, "bits": 9000}
    return {
        "format": "nonzero run", "version": 1, "tool": "t", "device": "sim:wide", "image": "m.img", "data": "mnist",
        "config_hash": "00", "pes": pes, "queue_depth": 64, "queue_limit": 52, "bin_cycles": width,
        "layers": [{"name": f"features.{number}.conv", **layer} for number in range(layers)],
        "passes": list(range(layers)),
        "images": [{"number": 0, "label": None, "answer": 1, "counters": counters, "active": [9] * layers,
                    "predicted_cycles": counters["cycles"], "level_sum": (level_max * width // 2).ravel().tolist(),
                    "level_max": level_max.ravel().tolist(),
                    "series": {name: values.tolist() for name, values in series.items()},
                    "spent": {name: spent[..., place].ravel().tolist() for place, name in enumerate(STATES)}}]}


@pytest.mark.parametrize("pes, bins, layers, width", [(2, 1, 1, 1), (256, 256, 16, 200_000), (64, 1000, 40, 7)])
def test_runs_of_any_size_are_drawn(browser, tmp_path, pes, bins, layers, width):
    recording = invented(pes, bins, layers, width)
    open_page(browser, tmp_path, recording)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#network g.layer")) == layers
    assert one(browser, "#heat canvas").size["height"] <= 560
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    # With a bin in each column or more: the blend of the states of the bin under the column's middle.
    image, colour, found = recording["images"][0], colours(browser), heat(browser)
    if bins <= 256:
        blend = sum(np.array(image["spent"][state]).reshape(bins, pes, 1) / width * colour[state] for state in STATES)
        middles = ((np.arange(bins) + 0.5) * found.shape[1] / bins).astype(int)
        assert np.abs(found[:, middles] - blend.transpose(1, 0, 2)).max() <= 3
    one(browser, "#in").click()
    one(browser, "#heat canvas").send_keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert "PE 1" in one(browser, "#readout").text
    assert browser.get_log("browser") == []


def test_hostile_texts_are_only_text(browser, tmp_path, recorded):
    recording = copy.deepcopy(recorded)
    recording |= dict.fromkeys(("tool", "device", "image", "data", "config_hash"), HOSTILE)
    recording["layers"][0]["name"] = HOSTILE
    open_page(browser, tmp_path, recording)
    assert browser.title.startswith("</script><script>") and "owned" not in browser.title.split("'")[0]
    assert not browser.find_elements(By.TAG_NAME, "img")
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 2
    shown = one(browser, "#layer").text + one(browser, "table.layers").text + browser.title
    assert "</script><script>" in shown and "\x1b" not in shown and "\u202e" not in shown
