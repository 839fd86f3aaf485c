# SPDX-License-Identifier: Apache-2.0
"""Building and running simulations: the cache, the random start, and every way in which a run can fail."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from nonzero.errors import UserError
from rtl.engine.queue import Queue
from sim.simulator import compiling, verilate
from sim.simulator.running import run
from sim.simulator.verilate import SimulationError, build, build_verilog

STAND_IN = "sim.testbenches.stand_in"


class Uninitialised(wiring.Component):
    """A memory, a constant table, a register without and one with reset."""

    address: In(4)
    write: In(1)
    written: Out(32)
    constant: Out(8)
    loose: Out(32)
    counted: Out(8, init=5)

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = store = memory.Memory(shape=32, depth=16, init=[])
        m.submodules.table = table = memory.Memory(shape=8, depth=16, init=range(100, 116))
        read, constant, write = store.read_port(), table.read_port(), store.write_port()
        loose = Signal(32, reset_less=True)
        with m.If(self.write):
            m.d.sync += [loose.eq(loose + 1), self.counted.eq(self.counted + 1)]
        m.d.comb += [read.addr.eq(self.address), constant.addr.eq(self.address), write.addr.eq(self.address),
                     write.en.eq(self.write), self.written.eq(read.data), self.constant.eq(constant.data),
                     self.loose.eq(loose)]
        return m


@pytest.fixture(scope="module")
def uninitialised():
    return build(Uninitialised(), name="uninitialised")


def contents_at_start(built, report, seed):
    run(built, STAND_IN, tests=["read_uninitialised"], seed=seed, parameters={"report": str(report)})
    return json.loads(report.read_text())


def test_registers_and_memories_start_random(uninitialised, tmp_path):
    first, second, again = (contents_at_start(uninitialised, tmp_path / "report", seed) for seed in (1, 2, 1))
    assert first == again
    assert first["loose"] != second["loose"]
    words = [word for state in (first, second) for word, _ in state["memory"]]
    assert len(set(words)) == 32
    for state in (first, second):
        assert [value for _, value in state["memory"]] == list(range(100, 116))
        assert state["counted"] == 5


def test_a_configured_fpga_starts_with_its_initial_values(tmp_path):
    built = build(Uninitialised(), name="uninitialised", random_start=False)
    state = contents_at_start(built, tmp_path / "report", 1)
    assert state == {"memory": [[0, 100 + place] for place in range(16)], "loose": 0, "counted": 5}


@pytest.mark.parametrize("tests, message", [
    (["never_ends"], r"never_ends: .*SimTimeoutError"),
    (["leaves"], r"sim.testbenches.stand_in \(seed 1\) ended with status 3 and without results"),
    (["blocks"], r"sim.testbenches.stand_in \(seed 1\) did not end within 3 s"),
    (["nothing"], r"sim.testbenches.stand_in has no test called nothing"),
    (["read_uninitialised", "nothing"], r"sim.testbenches.stand_in has no test called nothing"),
])
def test_a_run_that_fails_says_why(uninitialised, tmp_path, tests, message):
    with pytest.raises(SimulationError, match=message):
        run(uninitialised, STAND_IN, tests=tests, timeout_s=3 if tests == ["blocks"] else 300,
            parameters={"report": str(tmp_path / "report")})


def test_a_bench_without_tests_is_refused(uninitialised):
    with pytest.raises(SimulationError, match=r"No tests were discovered in module: sim.cocotb_kit.payloads"):
        run(uninitialised, "sim.cocotb_kit.payloads")


def test_a_bench_that_does_not_exist_is_refused(uninitialised):
    with pytest.raises(SimulationError, match=r"ModuleNotFoundError: No module named 'sim.testbenches.nowhere'"):
        run(uninitialised, "sim.testbenches.nowhere")


def test_wrong_arguments_are_refused(uninitialised, tmp_path):
    with pytest.raises(ValueError, match=r"^seed must be from 1 to 2\*\*31 - 1, not 0$"):
        run(uninitialised, STAND_IN, seed=0)
    with pytest.raises(ValueError, match=r"^waveforms need a build with waves$"):
        run(uninitialised, STAND_IN, waves=tmp_path / "waves.vcd")


def test_waves_are_written(tmp_path):
    built = build(Uninitialised(), name="uninitialised", waves=".vcd")
    run(built, STAND_IN, tests=["read_uninitialised"], parameters={"report": str(tmp_path / "report")},
        waves=tmp_path / "waves.vcd")
    assert "counted [7:0]" in (tmp_path / "waves.vcd").read_text()


@pytest.fixture
def cache(tmp_path, monkeypatch, uninitialised):
    """An empty cache but for Verilator's library and Yosys, whose compilation would take most of the time."""
    directory, usual = tmp_path / "cache", uninitialised.directory.parents[1]
    shutil.copytree(usual / "library", directory / "library")
    (usual / "wasmtime").mkdir(exist_ok=True)
    (directory / "wasmtime").symlink_to(usual / "wasmtime")
    monkeypatch.setenv("NONZERO_CACHE", str(directory))
    return directory


def test_a_second_build_comes_from_the_cache(cache, monkeypatch):
    first = build(Queue(5, 4))
    assert first.directory.parent == cache / "builds"


    def refuse(*arguments, **options):
        raise AssertionError("built again")
    monkeypatch.setattr(verilate, "emit", refuse)
    monkeypatch.setattr(verilate, "make_simulation", refuse)
    assert build(Queue(5, 4)) == first
    with pytest.raises(AssertionError, match="built again"):
        build(Queue(6, 4))


def test_options_and_sources_make_other_builds(cache, monkeypatch, tmp_path):
    made = []

    def note(directory, *arguments):
        directory.mkdir(parents=True)
        (directory / "simulation").touch()
        made.append(directory)
    monkeypatch.setattr(verilate, "make_simulation", note)
    source = tmp_path / "more.sv"
    for contents in ("1", "2"):
        source.write_text(contents)
        build_verilog("text", top="t", sources=[source])
    build_verilog("text", top="t")
    build_verilog("other", top="t")
    build_verilog("text", top="t", waves=".vcd")
    build_verilog("text", top="t", visible=True)
    build_verilog("text", top="t", parameters={"width": 3})
    assert len(made) == 7
    build_verilog("text", top="t")
    assert len(made) == 7


def test_old_builds_are_removed(cache, monkeypatch):
    monkeypatch.setattr(verilate, "make_simulation", lambda directory, *arguments: directory.mkdir())
    for name, days in (("old", 31), ("recent", 29)):
        path = cache / "builds" / name
        path.mkdir(parents=True)
        os.utime(path, (time.time() - days * 86400,) * 2)
    build_verilog("text", top="t")
    assert not (cache / "builds" / "old").exists()
    assert (cache / "builds" / "recent").exists()


def test_concurrent_builders_share_one_build(cache):
    program = ("from rtl.engine.queue import Queue; from sim.simulator.verilate import build; import sys; "
               "sys.stdout.write(str(build(Queue(7, 4)).executable))")
    builders = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True,
                                 cwd=Path(verilate.__file__).parents[2]) for _ in range(2)]
    outputs = [builder.communicate(timeout=100)[0] for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert outputs[0] == outputs[1]
    assert Path(outputs[0]).exists()
    left = sorted(path.name for path in (cache / "builds").iterdir())
    assert left == sorted([Path(outputs[0]).parent.name, f"{Path(outputs[0]).parent.name}.lock"])


def test_paths_and_flags_of_any_kind(cache, monkeypatch):
    """All paths have a space and a letter that is not ASCII; flags for the caller's own make do no harm."""
    odd = cache.parent / "a b" / "ü"
    odd.mkdir(parents=True)
    cache.rename(odd / "cache")
    monkeypatch.setenv("NONZERO_CACHE", str(odd / "cache"))
    for name, root in (("verilator", compiling.verilator_root()), ("cocotb", compiling.cocotb_root())):
        shutil.copytree(root, odd / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(compiling, "installed", lambda package, name: odd / package)
    for variable, value in {"MAKEFLAGS": "-n", "CXXFLAGS": "-fno-such-option", "CPPFLAGS": "-DNULL=+",
                            "LDFLAGS": "-lno_such", "LDLIBS": "-lno_such", "OBJCACHE": "false", "CXX": ""}.items():
        monkeypatch.setenv(variable, value)
    built = build(Queue(9, 4))
    assert built.directory.parent == odd / "cache" / "builds"
    parameters = {"depth": 4, "idle": 0.3, "stall": 0.3}
    assert run(built, "sim.testbenches.queue", parameters=parameters) == ["everything_arrives_in_order"]


def test_verilog_that_is_refused_is_shown(cache):
    with pytest.raises(SimulationError, match=r"^verilator_bin failed with status 1:\n.*syntax") as raised:
        build_verilog("module t; nonsense endmodule", top="t")
    assert "design.v:1" in str(raised.value)
    assert not [path for path in (cache / "builds").iterdir() if path.is_dir()]


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"^no-such-compiler is not installed and the simulation"):
        build_verilog("text", top="t")
