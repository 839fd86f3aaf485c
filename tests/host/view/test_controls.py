# SPDX-License-Identifier: Apache-2.0
"""The controls of the page of a run: image and layer, zoom, cursor, and what is shown."""

import re

import numpy as np
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from host.device.pe_trace import STATES
from tests.support.networks import SMALL
from tests.support.run_page import colours, heat, one, tiles


def test_image_and_layer_are_chosen(shown, recorded):
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


def test_the_view_zooms_and_scrolls(shown, recorded):
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


def test_cursor_and_tip_tell_a_cycle_of_a_pe(shown, recorded):
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
