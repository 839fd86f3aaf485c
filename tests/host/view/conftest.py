# SPDX-License-Identifier: Apache-2.0
"""A run of a small engine, its recording, and the page of that in a browser."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from host import run as host_run
from host.packing.image_writer import image_file
from host.packing.pack import pack
from nonzero.errors import run_command
from tests.support.browser import chromium
from tests.support.networks import SMALL, random_network
from tests.support.run_page import open_page


@pytest.fixture(scope="package")
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
    assert run_command(host_run.main, [*run_of(place), "--trace", str(place / "run.json"), "--limit", "3"]) == 0
    return place


def run_of(place):
    return [str(place / "m.img"), "--data", f"npz:{place / 'data.npz'}", "--device", f"sim:{place / 'small.toml'}"]


@pytest.fixture
def arguments(place):
    """The command line of the run, of `host.run`."""
    return run_of(place)


@pytest.fixture(scope="package")
def recorded(place):
    """The recording of three inferences."""
    return json.loads((place / "run.json").read_text())


@pytest.fixture(scope="package")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def shown(browser, tmp_path, recorded):
    """The browser with the page of the recording, in which nothing goes wrong."""
    open_page(browser, tmp_path, recorded)
    yield browser
    assert browser.get_log("browser") == []
