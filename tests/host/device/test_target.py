# SPDX-License-Identifier: Apache-2.0
"""Names of devices."""

import json
from dataclasses import asdict

from host.device.target import Target, list_devices, parse_target
from rtl.config import PRESETS
from rtl.integration.boards import read_board
from tests.support.networks import SMALL


def test_names_of_devices_and_what_they_mean(tmp_path):
    (tmp_path / "small.toml").write_text("".join(
        f"{name} = {json.dumps(value)}\n" for name, value in asdict(SMALL).items()))
    assert parse_target("sim:tiny") == Target("sim:tiny", PRESETS["tiny"])
    assert parse_target(f"sim:{tmp_path}/small.toml").config == SMALL
    name = f"sim:ulx3s-85f?config={tmp_path}/small.toml"
    assert parse_target(name) == Target(name, SMALL, "ulx3s-85f", None, 1_000_000, read_board("ulx3s-85f")["clock_mhz"])
    name = "serial:/dev/ttyUSB0?baud=3000000"
    assert parse_target(name) == Target(name, None, None, "/dev/ttyUSB0", 3_000_000, None)
    name = "serial:COM3?board=ulx3s-85f&preset=wide&clock_mhz=62.5"
    assert parse_target(name) == Target(name, PRESETS["wide"], None, "COM3", 1_000_000, 62.5)
    assert {"sim:default", "sim:tiny", "sim:ulx3s-85f"} <= {name for name, _ in list_devices()}
