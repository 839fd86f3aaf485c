# SPDX-License-Identifier: Apache-2.0
"""The Verilog that is simulated: what starts random, and the shortcut round writing it."""

import os
import re
from dataclasses import dataclass

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import enum, memory, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

import rtl
from rtl.config import PRESETS
from rtl.engine.queue import Queue
from sim.simulator.emit import emit, fingerprint, stable_text, without_initial_values


class Storage(wiring.Component):
    def __init__(self, init, written, width=4):
        self.init = init
        self.written = written
        self.width = width
        super().__init__({"address": In(2), "data": In(width), "o": Out(width)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = memory.Memory(shape=self.width, depth=4, init=self.init)
        read = store.read_port()
        m.d.comb += [read.addr.eq(self.address), self.o.eq(read.data)]
        if self.written:
            write = store.write_port()
            m.d.comb += [write.addr.eq(self.address), write.data.eq(self.data), write.en.eq(1)]
        return m


@pytest.mark.parametrize("init, written, fixed", [
    ([], True, False),              # what a reset does not restore
    ([], False, True),              # a constant
    ([1, 2, 3, 4], False, True),    # a constant
    ([0, 0, 3, 0], True, True),     # contents that the bitstream must bring
])
def test_memories_start_random_unless_the_bitstream_fills_them(init, written, fixed):
    text = emit(Storage(init, written), "dut")
    assert ("store[0] = " in text) == fixed
    assert ("$urandom" in text) != fixed
    assert "store[0] = " in emit(Storage(init, written), "dut", random_start=False)


def test_a_word_read_while_it_is_written_is_undefined():
    """Both ports of this memory always have the same address."""
    assert "<= 4'hx;" in emit(Storage([], True), "dut")
    assert "'hx" not in emit(Storage([], False), "dut")


@pytest.mark.parametrize("width, parts", [(1, 1), (16, 1), (32, 1), (33, 2), (80, 3)])
def test_memories_of_all_widths_start_random(width, parts):
    text = emit(Storage([], True, width), "dut")
    assert "store[0] = " not in text
    assert text.count("$urandom") == parts


def test_registers_lose_their_initial_values():
    values = {"reg [7:0] a": " = 8'h05", "reg \\b$1 ": " = 1'h1", "reg signed [3:0] c": " = 4'h0"}
    lines = [f"  {declaration}{value};\n" for declaration, value in values.items()]
    text = "module m(clk);\n" + "".join(lines) + "  wire [7:0] d = 8'h05;\nendmodule\n"
    assert without_initial_values(text) == re.sub(r"(reg.*?) = .*;", r"\1;", text)


def test_text_depends_on_the_design_alone():
    assert emit(Queue(8, 4), "dut") == emit(Queue(8, 4), "dut")


def test_a_fingerprint_changes_with_design_and_sources(tmp_path, monkeypatch):
    first = fingerprint(Queue(8, 4))
    assert first == fingerprint(Queue(8, 4))
    others = [Queue(8, 8), Queue(9, 4), Queue(StructLayout({"a": 8}), 4)]
    prints = {first, *(fingerprint(queue) for queue in others)}
    assert len(prints) == 4
    # An unrelated source of the same size changes it as well, since it might be related.
    for contents in ("1", "2"):
        (tmp_path / "source.py").write_text(contents)
        monkeypatch.setattr(rtl, "__path__", [str(tmp_path)])
        assert fingerprint(Queue(8, 4)) is None
        os.utime(tmp_path / "source.py", (0, 0))
        prints.add(fingerprint(Queue(8, 4)))
    assert len(prints) == 6
    # What places and routes a design does not change it.
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "tools.py").write_text("3")
    assert fingerprint(Queue(8, 4)) in prints
    # A component from elsewhere may depend on anything.
    assert fingerprint(Storage([], True)) is None


class Color(enum.Enum, shape=2):
    RED = 1


@dataclass(frozen=True)
class Choice:
    color: Color
    depth: int


def test_values_that_differ_have_different_texts():
    assert stable_text(Choice(Color.RED, 3)) == stable_text(Choice(Color.RED, 3))
    values = [None, 1, "1", 1.0, (1,), [1], {1: 2}, range(3), unsigned(3), Choice(Color.RED, 3),
              Choice(Color.RED, 4), Color, StructLayout({"a": 1}), StructLayout({"a": 2}), *PRESETS.values()]
    assert len({stable_text(value) for value in values}) == len(values)


def test_values_whose_text_is_not_stable_have_none():
    assert stable_text(np.zeros(3)) is None
    assert stable_text((1, lambda: 0)) is None
    assert stable_text(Signal()) is None
