# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C during each command: one line, status 130, no half-written file, no process left behind; and going on."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from host.packing.image_writer import image_file
from host.packing.pack import pack
from nonzero.caches import cache_directory
from tests.support.networks import SMALL, random_network
from tests.support.paths import ROOT

MARK = "NONZERO_TEST_MARK"


def processes(place):
    """Names of the running processes that descend from a command started in this place."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={place}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "comm").read_text().strip())
        except OSError:  # it has ended or is not ours
            continue
    return found


def command(arguments):
    return [sys.executable, "-m", *map(str, arguments)]


def interrupt(arguments, place, reached, **environment):
    """Ctrl-C, which a terminal sends to the whole group, once a condition holds; what the command said."""
    started = subprocess.Popen(command(arguments), cwd=ROOT, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, process_group=0,
                               env={**os.environ, MARK: str(place), **environment})
    while not reached() and started.poll() is None:
        time.sleep(0.02)
    if started.poll() is None:
        os.killpg(started.pid, signal.SIGINT)
    said, errors = started.communicate(timeout=60)
    *before, last = errors.splitlines()
    assert (started.returncode, said, last) == (130, "", "interrupted"), errors
    assert "Traceback" not in errors
    assert processes(place) == []
    return before


def names(place):
    return sorted(path.name for path in place.iterdir())


@pytest.fixture
def data(tmp_path):
    """4000 random images of two classes."""
    images, labels = np.random.default_rng(0).integers(0, 256, (4000, 28, 28), np.uint8), [0, 1] * 2000
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images[:1000], y_test=labels[:1000])
    return f"npz:{tmp_path / 'data.npz'}"


@pytest.fixture
def vectors(tmp_path):
    """1000 random inputs of 60 values."""
    inputs, labels = np.random.default_rng(0).integers(0, 256, (1000, 60), np.uint8), [0, 1] * 500
    np.savez(tmp_path / "data.npz", x_train=inputs, y_train=labels, x_test=inputs, y_test=labels)
    return f"npz:{tmp_path / 'data.npz'}"


@pytest.fixture
def small(tmp_path):
    """The engine `SMALL` as a configuration file."""
    (tmp_path / "small.toml").write_text("".join(
        f"{name} = {json.dumps(value)}\n" for name, value in asdict(SMALL).items()))
    return tmp_path / "small.toml"


@pytest.mark.parametrize("module", ["host.train", "host.compile", "host.run", "host.view", "host.demo", "host.bench",
                                    "host.study", "rtl.build", "sim.bench"])
def test_during_the_imports(module, tmp_path):
    """Python has imported the module of errors, and is at those that take seconds."""
    (tmp_path / "argparse.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    done = subprocess.run(command([module]), cwd=ROOT, text=True, capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_training_goes_on(tmp_path, data):
    arguments = ["host.train", "lenet-300-100", "--data", data, "-o", tmp_path / "m.pt", "--epochs", "20"]
    assert interrupt(arguments, tmp_path, (tmp_path / "m.pt.checkpoint").exists) == []
    assert names(tmp_path) == ["data.npz", "m.pt.checkpoint"]
    subprocess.run([*command(arguments), "--resume"], cwd=ROOT, check=True, capture_output=True)
    curve = json.loads((tmp_path / "m.curve.json").read_text())
    assert [point["epoch"] for point in curve] == list(range(1, 21))


def test_a_study_goes_on(tmp_path, data):
    arguments = ["host.study", "--quick", "--seeds", "1", "--workers", "1", "--data", data, "-o", tmp_path / "out"]
    assert interrupt(arguments, tmp_path, lambda: any((tmp_path / "out").rglob("*.pt"))) == []
    # A worker that is stopped while it writes leaves SQLite's journal, from which the next command goes back.
    assert [name for name in names(tmp_path / "out") if name != "study.db-journal"] == ["models", "study.db"]
    subprocess.run([*command(arguments), "--method", "cut"], cwd=ROOT, check=True, capture_output=True)
    assert names(tmp_path / "out") == ["models", "study.db", "study.html", "study.json"]


def test_a_killed_study_leaves_no_workers(tmp_path, data):
    arguments = ["host.study", "--quick", "--workers", "2", "--data", data, "-o", tmp_path / "out"]
    with subprocess.Popen(command(arguments), cwd=ROOT, stderr=subprocess.DEVNULL,
                          env={**os.environ, MARK: str(tmp_path)}) as started:
        while len(processes(tmp_path)) < 3 or not (tmp_path / "out" / "study.db").exists():
            time.sleep(0.02)
        started.kill()
    while processes(tmp_path):
        time.sleep(0.02)
    with closing(sqlite3.connect(tmp_path / "out" / "study.db")) as stored:
        (waiting,), = stored.execute("select count(*) from trials where state = 'WAITING'")
    assert waiting > 0 and "study.json" not in names(tmp_path / "out")


def test_compiling_goes_on(tmp_path, data):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(784, 10), torch.nn.ReLU(), torch.nn.Linear(10, 2))
    torch.save(model.state_dict(), tmp_path / "m.pt")
    arguments = ["host.compile", tmp_path / "m.pt", "--data", data, "-o", tmp_path / "out"]
    checkpoint = tmp_path / "out" / "pruning.checkpoint"
    said = interrupt(arguments, tmp_path, checkpoint.exists)
    assert said and all(line.startswith(("load: ", "note: ")) for line in said)
    assert names(tmp_path / "out") == ["pruning.checkpoint"]
    subprocess.run(command(arguments), cwd=ROOT, check=True, capture_output=True)
    assert names(tmp_path / "out") == ["model.img", "report.html", "report.json"]


def test_a_run_ends_with_its_simulation(tmp_path, vectors, small):
    network = random_network(np.random.default_rng(5), SMALL, [60, 40, 8], 0.2)
    (tmp_path / "m.img").write_bytes(image_file(pack(network, SMALL)))
    before = names(tmp_path)
    arguments = ["host.run", tmp_path / "m.img", "--data", vectors, "--device", f"sim:{small}"]
    assert interrupt(arguments, tmp_path, lambda: "simulation" in processes(tmp_path)) == []
    assert names(tmp_path) == before


@pytest.fixture
def cache(tmp_path):
    """A cache without builds; that of Yosys, whose compilation would take most of the time, is the usual one."""
    directory, usual = tmp_path / "cache", cache_directory() / "wasmtime"
    directory.mkdir()
    usual.mkdir(parents=True, exist_ok=True)
    (directory / "wasmtime").symlink_to(usual)
    return directory


def test_benchmark(tmp_path, cache):
    arguments = ["sim.bench", "eie", "--layer", "NT-We", "--seeds", "1", "--pes", "8", "-o", tmp_path / "out"]
    assert interrupt(arguments, tmp_path, lambda: "verilator_bin" in processes(tmp_path),
                     NONZERO_CACHE=str(cache)) == []
    assert names(tmp_path) == ["cache"]


def test_building_a_simulation(tmp_path, vectors, small, cache):
    """The compiler runs, in a cache that was empty."""
    network = random_network(np.random.default_rng(5), SMALL, [60, 8], 0.2)
    (tmp_path / "m.img").write_bytes(image_file(pack(network, SMALL)))
    arguments = ["host.run", tmp_path / "m.img", "--data", vectors, "--device", f"sim:{small}"]
    assert interrupt(arguments, tmp_path, lambda: "cc1plus" in processes(tmp_path),
                     NONZERO_CACHE=str(cache)) == []
    assert [path.suffix for path in (cache / "builds").iterdir()] == [".lock"]


def test_building_a_bitstream(tmp_path, small):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho part > top.json\nsleep 1000\n")
    tool.chmod(0o755)
    said = interrupt(["rtl.build", "--board", "ulx3s-85f", "--config", small, "-o", tmp_path / "out"], tmp_path,
                     lambda: "sleep" in processes(tmp_path), YOSYS=str(tool), NEXTPNR_ECP5=str(tool),
                     ECPPACK=str(tool))
    assert len(said) == 1 and said[0].startswith("synthesis")
    assert names(tmp_path / "out") == []
