# SPDX-License-Identifier: Apache-2.0
"""Waveforms of runs: of an engine and of a whole board, as FST and as VCD."""

import json
import struct
from dataclasses import asdict

import numpy as np
import pytest

from host import run as host_run
from host.packing.image_writer import image_file
from host.packing.pack import pack
from nonzero.errors import UserError, run_command
from sim.simulator import verilate
from sim.simulator.verilate import FST_HEADERS
from tests.support.networks import SMALL, random_network
from tests.support.system_packages import skip_without


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with an engine, an image for it, and data."""
    place = tmp_path_factory.mktemp("waves")
    (place / "small.toml").write_text("".join(
        f"{name} = {json.dumps(value)}\n" for name, value in asdict(SMALL).items()))
    rng = np.random.default_rng(1)
    (place / "m.img").write_bytes(image_file(pack(random_network(rng, SMALL, [40, 8], 0.3), SMALL)))
    images, labels = rng.integers(0, 256, (6, 40), np.uint8), np.arange(6)
    np.savez(place / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    return place


def run(place, device, waves, capsys):
    """Runs two images; the cycles of one."""
    assert run_command(host_run.main, [str(place / "m.img"), "--data", f"npz:{place / 'data.npz'}", "--device", device,
                                       "--waves", str(place / waves), "--limit", "2", "--json"]) == 0
    assert [path.name for path in place.iterdir() if ".part" in path.name] == []
    return json.loads(capsys.readouterr().out)["cycles_per_image"]


def test_an_fst_file_holds_the_run_of_an_engine(place, capsys):
    """The file's header tells the first and the last time, and how many signals there are."""
    skip_without(*FST_HEADERS.values())
    cycles = run(place, f"sim:{place / 'small.toml'}", "engine.fst", capsys)
    kind, length, begin, end = struct.unpack(">BQQQ", (place / "engine.fst").read_bytes()[:25])
    scopes, signals = struct.unpack(">QQ", (place / "engine.fst").read_bytes()[41:57])
    assert (kind, length) == (0, 329) and begin <= 10
    assert end > 2 * cycles * 10  # a clock cycle takes 10 ns
    assert scopes > SMALL.pes * 6 and signals > 1000


def test_a_vcd_file_holds_the_run_of_a_board(place, capsys):
    cycles = run(place, f"sim:icebreaker?config={place / 'small.toml'}", "board.vcd", capsys)
    lines = (place / "board.vcd").read_text().splitlines()
    assert any("$scope module pe_0 $end" in line for line in lines)
    [running, *_] = [line.split()[3] for line in lines if line.split()[-2:-1] == ["running"]]
    times, levels, now = [], [], 0
    for line in lines:
        if line.startswith("#"):
            now = int(line[1:])
        elif line[1:] == running and line[0] in "01":
            times.append(now)
            levels.append(line[0])
    rises = [time for time, level in zip(times, levels, strict=True) if level == "1"]
    falls = [time for time, level in zip(times, levels, strict=True) if level == "0" and time > rises[0]]
    assert sum(fall - rise for rise, fall in zip(rises, falls, strict=True)) == 2 * cycles * 10


def test_what_fst_wants_is_named(monkeypatch):
    monkeypatch.setattr(verilate, "FST_HEADERS", {"no-such.h": "libsuch-dev", "stdio.h": "libc6-dev",
                                                  "nor.h": "libnor"})
    with pytest.raises(UserError, match=r"^FST waveforms need libsuch-dev and libnor: apt install libsuch-dev libnor; "
                                        r"or name a file that ends in \.vcd$"):
        verilate.check_fst()


def test_interrupted_waves_are_not_left(place, monkeypatch):
    def interrupted(target, *_, **__):
        target.waves.write_text("half")
        raise KeyboardInterrupt
    monkeypatch.setattr("host.verification.measure.run_batch", interrupted)
    before = sorted(place.iterdir())
    assert run_command(host_run.main, [str(place / "m.img"), "--data", f"npz:{place / 'data.npz'}", "--device",
                                       f"sim:{place / 'small.toml'}", "--waves", str(place / "x.vcd")]) == 130
    assert sorted(place.iterdir()) == before
