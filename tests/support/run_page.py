# SPDX-License-Identifier: Apache-2.0
"""The page of a run in a browser: what a test opens, reads and asks for."""

import base64
import io
import json

import numpy as np
from PIL import Image
from selenium.webdriver.common.by import By

from host.view import __main__ as host_view
from nonzero.errors import run_command

SUMS = {"cycles": "cycles", "beats": "beats", "broadcasts": "broadcasts", "stalls": "stall_cycles",
        "drains": "drain_cycles"}
"""The counter that each series of a recording sums up to."""


def open_page(browser, directory, recording):
    """Opens the page of a recording, and sees that it is drawn and that the browser has nothing to say."""
    (directory / "shown.json").write_text(json.dumps(recording))
    assert run_command(host_view.main, [str(directory / "shown.json"), "--output", str(directory / "shown.html")]) == 0
    browser.get((directory / "shown.html").as_uri())
    assert browser.find_element(By.TAG_NAME, "body").get_attribute("data-ready") == "true"
    assert browser.get_log("browser") == []


def one(browser, selector):
    """The first element that the selector finds."""
    return browser.find_element(By.CSS_SELECTOR, selector)


def tiles(browser):
    """The figure of each tile and what stands below, by its title."""
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
    """The colour of each state, as the page's style has it."""
    names = {"busy": "--s0", "held": "--held", "walking": "--s3", "stalled": "--s1", "waiting": "--waiting",
             "ended": "--ended"}
    found = browser.execute_script(
        "const s = getComputedStyle(document.documentElement);"
        "return arguments[0].map(one => s.getPropertyValue(one).trim())", list(names.values()))
    return {name: [int(text[place:place + 2], 16) for place in (1, 3, 5)]
            for name, text in zip(names, found, strict=True)}
