# SPDX-License-Identifier: Apache-2.0
"""The page of a run: what was recorded, in a browser; and recordings that are none."""

import base64
import copy
import io
import json
import os
import re
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from host import run as host_run
from host.cycle_model.predict import predict
from host.decoding.decode import decode
from host.device.pe_trace import SERIES, STATES
from host.image.image import read_image
from host.packing.image_writer import image_file
from host.packing.pack import pack
from host.quantization.golden_model import forward
from host.quantization.integer_network import quantize_inputs
from host.view import __main__ as host_view
from host.view.reading import read_recording
from nonzero.errors import run_command
from tests.support.browser import chromium
from tests.support.networks import SMALL, random_network

SUMS = {"cycles": "cycles", "beats": "beats", "broadcasts": "broadcasts", "stalls": "stall_cycles",
        "drains": "drain_cycles"}
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\x1b\u202e"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with an engine, an image for it, data and the recording of three inferences."""
    place = tmp_path_factory.mktemp("view")
    (place / "small.toml").write_text("".join(
        f"{name} = {json.dumps(value)}\n" for name, value in asdict(SMALL).items()))
    rng = np.random.default_rng(1)
    network = random_network(rng, SMALL, [60, 30, 20, 10], 0.4)
    (place / "m.img").write_bytes(image_file(pack(network, SMALL)))
    images, labels = rng.integers(0, 256, (20, 60), np.uint8) * (rng.random((20, 60)) < 0.7), np.arange(20) % 10
    np.savez(place / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert run_command(host_run.main, [*arguments(place), "--trace", str(place / "run.json"), "--limit", "3"]) == 0
    return place


def arguments(place):
    return [str(place / "m.img"), "--data", f"npz:{place / 'data.npz'}", "--device", f"sim:{place / 'small.toml'}"]


@pytest.fixture(scope="module")
def recorded(place):
    return json.loads((place / "run.json").read_text())


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def open_page(browser, directory, recording):
    """Opens the page of a recording, and sees that it is drawn and that the browser has nothing to say."""
    (directory / "shown.json").write_text(json.dumps(recording))
    assert run_command(host_view.main, [str(directory / "shown.json"), "--output", str(directory / "shown.html")]) == 0
    browser.get((directory / "shown.html").as_uri())
    assert browser.find_element(By.TAG_NAME, "body").get_attribute("data-ready") == "true"
    assert browser.get_log("browser") == []


@pytest.fixture
def shown(browser, tmp_path, recorded):
    open_page(browser, tmp_path, recorded)
    yield browser
    assert browser.get_log("browser") == []


def one(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def tiles(browser):
    return {tile[0]: tile[1:] for tile in (
        element.text.split("\n") for element in browser.find_elements(By.CSS_SELECTOR, ".tile"))}


def heat(browser):
    """The heat map's rows, one pixel for each PE and CSS pixel of the plot: uint8 ``[pes, width, 3]``."""
    url = browser.execute_script("return document.querySelector('#heat canvas').toDataURL()")
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))
    left, width, row, pes = browser.execute_script(
        "const c = document.querySelector('#heat canvas'); return [58, c.clientWidth - 62, "
        "Math.max(2, Math.min(18, Math.floor(340 / arguments[0]))), arguments[0]]",
        browser.execute_script("return JSON.parse(document.getElementById('run').textContent).pes"))
    return pixels[row // 2:row * pes:row, left:left + width]


def colours(browser):
    """Of each state, as the page's style has it."""
    names = {"busy": "--s0", "held": "--held", "walking": "--s3", "stalled": "--s1", "waiting": "--waiting",
             "ended": "--ended"}
    found = browser.execute_script(
        "const s = getComputedStyle(document.documentElement);"
        "return arguments[0].map(one => s.getPropertyValue(one).trim())", list(names.values()))
    return {name: [int(text[place:place + 2], 16) for place in (1, 3, 5)]
            for name, text in zip(names, found, strict=True)}


def test_recording_beside_counters_and_cycle_model(place, recorded):
    decoded = decode(read_image(place / "m.img", SMALL), SMALL)
    with np.load(place / "data.npz") as data:
        acts = quantize_inputs(decoded.network, data["x_test"][:3])
    golden = forward(decoded.network, acts)
    prediction = predict(decoded, acts, golden)
    assert len(recorded["images"]) == 3
    for number, image in enumerate(recorded["images"]):
        counters = {name: int(values[number]) for name, values in prediction.counters.items()}
        assert image["counters"] == counters and image["predicted_cycles"] == counters["cycles"]
        assert {name: sum(image["series"][name]) for name in SUMS} == {name: counters[SUMS[name]] for name in SUMS}
        assert sum(image["spent"]["busy"]) == counters["useful_macs"]
        spent = np.array([image["spent"][state] for state in STATES]).reshape(len(STATES), -1, SMALL.pes)
        assert (spent.sum(axis=0) == np.array(image["series"]["cycles"])[:, None]).all()
        layers = np.array(recorded["passes"])[image["series"]["passes"]]
        busy = spent[STATES.index("busy")].sum(axis=1)
        assert [int(busy[layers == layer].sum()) for layer in range(3)] == prediction.useful_macs[number].tolist()
        inputs = [acts, *golden[:-1]]
        assert image["active"] == [int((values[number] != 0).sum()) for values in inputs]
        assert (image["number"], image["label"]) == (number, number)


def test_what_is_read_is_what_was_written(place, recorded):
    read = read_recording(place / "run.json")
    assert read == {name: value for name, value in recorded.items() if name not in ("format", "version")}


def test_page_needs_nothing_else(shown, tmp_path):
    text = (tmp_path / "shown.html").read_text()
    assert "default-src 'none'" in text and "script-src 'sha256-" in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert shown.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_heat_map_shows_the_trace(shown, recorded):
    """Each PE's colour in the middle of each cycle."""
    image, found, colour = recorded["images"][0], heat(shown), colours(shown)
    cycles = len(image["series"]["cycles"])
    assert recorded["bin_cycles"] == 1 and found.shape[0] == SMALL.pes
    expected = np.zeros((SMALL.pes, cycles, 3), int)
    for state in STATES:
        spent = np.array(image["spent"][state]).reshape(cycles, SMALL.pes).T
        expected[spent == 1] = colour[state]
    middles = ((np.arange(cycles) + 0.5) * found.shape[1] / cycles).astype(int)
    assert np.abs(found[:, middles].astype(int) - expected).max() <= 2


def test_screenshot_in_both_schemes(shown, recorded):
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


def test_choosing_image_and_layer(shown, recorded):
    assert [option.text.split(":")[0] for option in Select(one(shown, "#image")).options] == ["0", "1", "2"]
    Select(one(shown, "#image")).select_by_index(2)
    image = recorded["images"][2]
    assert tiles(shown)["cycles"][0] == str(image["counters"]["cycles"])
    Select(one(shown, "#layer")).select_by_visible_text("fc2")
    layers = np.array(recorded["passes"])[image["series"]["passes"]]
    cycles = int(np.array(image["series"]["cycles"])[layers == 1].sum())
    assert tiles(shown)["cycles of this layer"] == [str(cycles), f"of {image['counters']['cycles']}"]
    begin = int(np.array(image["series"]["cycles"])[layers < 1].sum())
    assert time_range(shown) == [begin, begin + cycles]
    # The same with the keyboard, in the drawing of the network.
    shape = one(shown, "#network [data-layer='0']")
    shape.send_keys(Keys.ENTER)
    assert Select(one(shown, "#layer")).first_selected_option.text == "fc1"
    assert one(shown, "#network [data-layer='0']").get_attribute("aria-pressed") == "true"
    shown.switch_to.active_element.send_keys(Keys.ENTER)
    assert Select(one(shown, "#layer")).first_selected_option.text == "all layers"
    assert time_range(shown) == [0, image["counters"]["cycles"]]


def time_range(browser):
    scroll = one(browser, "#scroll")
    begin, most = float(scroll.get_attribute("value")), float(scroll.get_attribute("max"))
    number = int(one(browser, "#image").get_attribute("value"))
    cycles = browser.execute_script("return JSON.parse(document.getElementById('run').textContent)"
                                    ".images[arguments[0]].counters.cycles", number)
    return [begin, begin + cycles - most]


def test_zoom_and_scroll(shown, recorded):
    cycles = recorded["images"][0]["counters"]["cycles"]
    before = heat(shown)
    assert time_range(shown) == [0, cycles] and not one(shown, "#scroll").is_enabled()
    one(shown, "#in").click()
    assert time_range(shown) == [cycles / 4, 3 * cycles / 4]
    assert (heat(shown) != before).any()
    one(shown, "#scroll").send_keys(Keys.HOME)
    assert time_range(shown) == [0, cycles / 2]
    canvas = one(shown, "#heat canvas")
    canvas.send_keys(Keys.PAGE_DOWN)
    assert time_range(shown) == [cycles / 2, cycles]
    canvas.send_keys(Keys.PAGE_UP)
    canvas.send_keys("-")
    assert time_range(shown) == [0, cycles]
    # A range that is dragged, and back.
    width = canvas.size["width"] - 62
    offset = 58 - canvas.size["width"] // 2
    ActionChains(shown).move_to_element_with_offset(canvas, offset + width // 4, 0).click_and_hold() \
        .move_by_offset(width // 4, 0).release().perform()
    begin, end = time_range(shown)
    assert abs(begin - cycles / 4) < 1 and abs(end - cycles / 2) < 1
    ActionChains(shown).double_click(canvas).perform()
    assert time_range(shown) == [0, cycles]
    one(shown, "#in").click()
    one(shown, "#whole").click()
    assert time_range(shown) == [0, cycles]
    assert (heat(shown)[:, ::7] == before[:, ::7]).mean() > 0.9  # but for the cursor


def test_cursor_and_tip(shown, recorded):
    image = recorded["images"][0]
    canvas = one(shown, "#heat canvas")
    canvas.send_keys(Keys.ARROW_RIGHT)
    assert one(shown, "#readout").text.startswith("fc1, cycle 1, PE 0; ")
    canvas.send_keys(Keys.SHIFT, Keys.ARROW_RIGHT)
    canvas.send_keys(Keys.NULL, *[Keys.ARROW_RIGHT] * 9, *[Keys.ARROW_DOWN] * 2)
    told = one(shown, "#readout").text
    bin_ = int(re.match(r"fc1, cycle (\d+), PE 2; ", told)[1]) - 1
    cell = bin_ * SMALL.pes + 2
    [state] = [state for state in STATES if image["spent"][state][cell]]
    names = {"busy": "multiplies", "stalled": "stalled on a queue", "walking": "walks without multiplying",
             "held": "held by a drain", "waiting": "idle, the scan goes on", "ended": "idle, the scan is over"}
    assert bin_ >= 10
    assert f"; {names[state]}; slices in its queue: {image['level_max'][cell]}; " in told
    canvas.send_keys(*[Keys.ARROW_LEFT] * 3, Keys.ARROW_UP)
    assert one(shown, "#readout").text.startswith(f"fc1, cycle {bin_ - 2}, PE 1; ")
    ActionChains(shown).move_to_element_with_offset(canvas, 0, 5 - canvas.size["height"] // 2).perform()
    assert one(shown, "#tip").text.split("\n")[0].endswith(", PE 0")


def test_what_is_shown_can_be_switched(shown, recorded):
    image, states = recorded["images"][0], heat(shown)
    Select(one(shown, "#mode")).select_by_value("level")
    levels = heat(shown)
    full = recorded["queue_limit"] <= np.array(image["level_max"]).reshape(-1, SMALL.pes).T
    middles = ((np.arange(full.shape[1]) + 0.5) * levels.shape[1] / full.shape[1]).astype(int)
    assert full.any()
    assert ((np.abs(levels[:, middles].astype(int) - colours(shown)["stalled"]).max(axis=2) <= 2) == full).all()
    Select(one(shown, "#mode")).select_by_value("busy")
    assert (heat(shown) != levels).any() and (heat(shown) != states).any()
    for name in ("shares", "levels", "scan"):
        assert one(shown, f"#{name}").is_displayed()
        one(shown, f"#show-{name}").click()
        assert not one(shown, f"#{name}").is_displayed()
        one(shown, f"#show-{name}").click()
        assert one(shown, f"#{name} canvas").size["height"] > 50


def test_tables(shown, recorded):
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
    """A recording of any size."""
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
def test_runs_of_any_size(browser, tmp_path, pes, bins, layers, width):
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


def break_(recording, *path, value):
    *parents, last = path
    for key in parents:
        recording = recording[key]
    if value is ...:
        del recording[last]
    else:
        recording[last] = value


BROKEN = [
    (("version",), 2, "must be of version 1, not 2; record the run again"),
    (("pes",), 1 << 70, "pes must be an integer from 2 to 256, not 1180591620717411303424"),
    (("pes",), True, "pes must be an integer from 2 to 256, not True"),
    (("tool",), ..., "tool is missing"),
    (("tool",), "x" * 1001, "tool must be a text of at most 1000 characters, not '"),
    (("queue_limit",), 17, "queue_limit must be an integer from 1 to 16, not 17"),
    (("layers",), [], "layers must be a list of 1 to 1000, not 0 entries"),
    (("layers",), {}, "layers must be a list of 1 to 1000, not a dict"),
    (("layers", 1), 3, "layers[1].inputs is missing"),
    (("layers", 1, "weights_total"), 0, "layers[1].weights_total must be an integer from 1 to "),
    (("layers", 1, "weights_kept"), 1 << 40, "layers[1].weights_kept must be at most weights_total, 600"),
    (("passes", 0), 3, "passes must be a list of"),
    (("passes", 0), 2, "passes must name the layers in their order"),
    (("images",), None, "images must be a list of 1 to 20, not None"),
    (("images", 0), [], "images[0].counters is missing"),
    (("images", 0, "label"), -1, "images[0].label must be an integer from 0 to"),
    (("images", 0, "active"), [1, 2], "images[0].active must be a list of 3 integers"),
    (("images", 0, "series"), ..., "images[0].series is missing"),
    (("images", 0, "series", "cycles"), [], "images[0].series.cycles must be a list of 1 to 131072 integers"),
    (("images", 0, "series", "cycles", 0), 1 << 52, "images[0].series.cycles must sum up to its counter"),
    (("images", 0, "series", "cycles", 0), 0, "must have no bin of 0 cycles"),
    (("images", 0, "series", "passes", 0), 1, "images[0].series.passes must not go back"),
    (("images", 0, "series", "drains", 0), 9, "images[0].series.drains must sum up to its counter"),
    (("images", 0, "series", "stalls", 0), 0.5, "images[0].series.stalls must be a list of"),
    (("images", 0, "spent", "busy", 3), "1", "images[0].spent.busy must be a list of"),
    (("images", 0, "spent", "ended"), ..., "images[0].spent.ended is missing"),
    (("images", 0, "spent", "waiting", 0), 0, "images[0].spent must sum up to the cycles of each bin, for each PE"),
    (("images", 0, "level_max", 0), 17, "images[0].level_max must be a list of"),
    (("images", 0, "level_sum", 0), 5, "images[0].level_sum must be at most level_max times the cycles of a bin"),
    (("images", 0, "counters", "useful_macs"), 1, "images[0].spent.busy must sum up to its counter, 1, not "),
]


@pytest.mark.parametrize("path, value, answer", BROKEN)
def test_broken_recordings(tmp_path, capsys, recorded, path, value, answer):
    recording = copy.deepcopy(recorded)
    break_(recording, *path, value=value)
    (tmp_path / "run.json").write_text(json.dumps(recording))
    refused(tmp_path, capsys, answer)


def refused(directory, capsys, *answers, name="run.json"):
    assert run_command(host_view.main, [str(directory / name), "-o", str(directory / "page.html")]) == 2
    told = capsys.readouterr()
    assert told.out == "" and not (directory / "page.html").exists()
    lines = told.err.splitlines()
    assert len(lines) >= len(answers) > 0
    for line, answer in zip(lines, answers, strict=False):
        assert line.startswith("error: recording '") and answer in line
    return lines


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", "nonsense", "[" * 100_000, '{"format": NaN}', "\xff",
                                     '{"format": "nonzero run", "version": ' + "9" * 5000 + "}"])
def test_files_that_are_no_recordings(tmp_path, capsys, content):
    (tmp_path / "run.json").write_text(content, encoding="latin-1")
    assert len(refused(tmp_path, capsys, "is none; record one with python -m host.run ... --trace FILE.json")) == 1


def test_files_that_cannot_be_read(tmp_path, capsys):
    (tmp_path / "directory").mkdir()
    refused(tmp_path, capsys, "must be a file, but is a directory or a device", name="directory")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path, capsys, "must be a file, but is a directory or a device", name="pipe")
    with (tmp_path / "large").open("w") as file:
        file.truncate((1 << 26) + 1)
    refused(tmp_path, capsys, "must have at most 67108864 bytes, not 67108865", name="large")
    assert run_command(host_view.main, [str(tmp_path / "nosuch")]) == 2
    assert "nosuch': No such file" in capsys.readouterr().err


def test_all_problems_are_told_at_once(tmp_path, capsys, recorded):
    recording = copy.deepcopy(recorded)
    recording |= {"pes": 0, "tool": 3, "layers": [{}] * 10}
    (tmp_path / "run.json").write_text(json.dumps(recording))
    lines = refused(tmp_path, capsys, "tool must be a text", "pes must be", "layers[0].inputs is missing")
    assert len(lines) == 21 and lines[-1].endswith(" more problems")
    (tmp_path / "file").touch()
    assert run_command(host_view.main, [str(tmp_path / "file"), "-o", str(tmp_path / "file" / "page.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_opens_the_browser(place, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    assert run_command(host_view.main, [str(place / "run.json")]) == 0
    assert opened == [f"file://{capsys.readouterr().out.strip()}"] and opened[0].endswith("/run.html")
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert run_command(host_view.main, [str(place / "run.json")]) == 2
    assert "name a file with --output" in capsys.readouterr().err


@pytest.mark.parametrize("options, answer", [
    (["--trace", "run.json", "--limit", "21"], "--limit with --trace must be 1 to 20, not 21"),
    (["--trace", "."], "output '.' must be a file"),
    (["--trace", "run.json", "--device", "sim:icebreaker"], "--trace needs the simulation of an engine alone"),
    (["--waves", "run.txt"], "--waves must name a file that ends in .fst or .vcd, not 'run.txt'"),
    (["--waves", "run.vcd", "--device", "serial:nosuch"], "--waves needs a simulation"),
])
def test_refused_options_of_a_run(place, capsys, options, answer):
    assert run_command(host_run.main, [*arguments(place), *options]) == 2
    assert answer in capsys.readouterr().err
