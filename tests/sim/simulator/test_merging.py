# SPDX-License-Identifier: Apache-2.0
"""Equal modules of the simulated Verilog become one, and compute the same."""

import re

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from rtl.config import PRESETS
from rtl.engine.engine import Engine
from sim.simulator.emit import emit
from sim.simulator.merging import MARK, merge_modules
from sim.simulator.running import run
from sim.simulator.verilate import build

MODULE = re.compile(r"^module (\\\S+|\w+)", re.MULTILINE)


def module(name, body, ports="a, b, clk"):
    return f"module {name}({ports});\n{body}endmodule\n\n"


def instance(of, label, *ports):
    connections = ",\n".join(f"    .{port}({label}_{port})" for port in ports)
    return f"  {of}  {label} (\n{connections}\n  );\n"


LEAF = "  input [1:0] a;\n  wire [1:0] a;\n  output b;\n  wire b;\n  assign b = a[0];\n"
"""With a second output, if its declaration is put before it."""


def test_equal_modules_are_one_all_the_way_up():
    inner = [module(f"\\top.{name}.leaf ", LEAF) for name in "xy"]
    middle = [module(f"\\top.{name} ", instance(f"\\top.{name}.leaf ", "leaf", "a", "b", "clk")) for name in "xy"]
    top = module("top", instance("\\top.x ", "x", "clk") + instance("\\top.y ", "y", "clk"))
    merged = merge_modules("".join([*inner, *middle, top]))
    assert MODULE.findall(merged) == ["\\top.x.leaf", "\\top.x", "top"]
    assert re.findall(r"^  (\S+)  (\w) \(", merged, re.MULTILINE) == [("\\top.x", "x"), ("\\top.x", "y")]


def test_different_modules_stay():
    other = LEAF.replace("a[0]", "a[1]")
    texts = [module("x", LEAF), module("y", other), module("top", instance("x", "x", "a") + instance("y", "y", "a"))]
    assert MODULE.findall(merge_modules("".join(texts))) == ["x", "y", "top"]


@pytest.mark.parametrize("first", ["x", "y"])
def test_an_output_that_one_module_lacks_keeps_no_two_apart(first):
    more = LEAF.replace("  wire b;\n", "  wire b;\n  output c;\n  wire c;\n  assign c = b;\n")
    less = more.replace("  output c;\n", "")
    modules = {"x": module("x", more, "a, b, c, clk"), "y": module("y", less)}
    top = module("top", instance("x", "x", "a", "c") + instance("y", "y", "a"))
    texts = [modules.pop(first), *modules.values(), top]
    merged = merge_modules("".join(texts))
    assert MODULE.findall(merged) == [first, "top"]
    assert f"module {first}(a, b, c, clk)" in merged and "output c" in merged


def test_modules_with_different_outputs_stay():
    both = LEAF.replace("  output b;\n", "").replace("  wire b;\n", "  wire b;\n  wire c;\n  assign c = b;\n")
    modules = [module(name, both.replace(f"  wire {name};\n", f"  output {name};\n  wire {name};\n"), f"a, {name}, clk")
               for name in "bc"]
    assert MODULE.findall(merge_modules("".join(modules))) == ["b", "c"]


def test_ports_that_differ_in_their_number_are_one():
    body = LEAF.replace(" a;", " NUMBERED ;").replace("a[0]", "NUMBERED [0]")
    modules = [module(f"\\top.{name} ", body.replace("NUMBERED", f"\\port${number}$1"), f"\\port${number}$1 , b, clk")
               for number, name in enumerate("xy", 5)]
    top = module("top", "".join(f"  \\top.{name}  {name} (\n    .\\port${number}$1 (\\port${number}$1 )\n  );\n"
                                for number, name in enumerate("xy", 5)))
    merged = merge_modules("".join([*modules, top]))
    assert MODULE.findall(merged) == ["\\top.x", "top"]
    # In the instances the port has its new name, and is connected to what it was.
    inside = re.findall(r"\.(\S+) \((\S+) \)", merged)
    assert len({port for port, _ in inside}) == 1
    wires = [wire for _, wire in inside]
    assert len(set(wires)) == 2


def test_only_ports_of_modules_with_several_instances_are_marked_and_no_clock():
    body = LEAF + "  input clk;\n  wire clk;\n"
    once = module("once", body.replace("a[0]", "a[1]"))
    twice = module("twice", body)
    top = module("top", instance("once", "o", "a") + instance("twice", "x", "a") + instance("twice", "y", "a"))
    merged = merge_modules(once + twice + top)
    assert merged.count(MARK) == 2
    assert f"input [1:0] a {MARK};" in merged.split("module twice")[1]


class Store(wiring.Component):
    """Remembers a byte at each of four addresses."""

    address: In(2)
    write: In(1)
    data: In(8)
    o: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = memory.Memory(shape=8, depth=4, init=[])
        read, write = store.read_port(), store.write_port()
        m.d.comb += [read.addr.eq(self.address), write.addr.eq(self.address), write.en.eq(self.write),
                     write.data.eq(self.data), self.o.eq(read.data)]
        return m


class Stores(wiring.Component):
    """Three stores, each of which gets the sum of its number and the byte."""

    def __init__(self):
        super().__init__({"address": In(2), "write": In(3), "data": In(8), "o": Out(24)})

    def elaborate(self, platform):
        m = Module()
        for number in range(3):
            m.submodules[f"store_{number}"] = store = Store()
            late = Signal(8, name=f"late_{number}")
            m.d.sync += late.eq(self.data + number)
            m.d.comb += [store.address.eq(self.address), store.write.eq(self.write[number]), store.data.eq(late),
                         self.o[8 * number:8 * number + 8].eq(store.o)]
        return m


def test_instances_keep_their_own_state_and_start(tmp_path):
    text = emit(Stores(), "dut")
    assert len(MODULE.findall(text)) == 2
    assert "reg [7:0] late_0;" in text
    run(build(Stores(), name="dut"), "sim.testbenches.stand_in", tests=["stores_apart"])


def test_an_engine_has_one_processing_element():
    names = [found for found in MODULE.findall(emit(Engine(PRESETS["default"]), "engine")) if "cluster_" in found]
    assert sum(re.fullmatch(r"\\engine\.cluster_\d+\.pe_\d+", found) is not None for found in names) == 1
    assert len(names) == 9
