# SPDX-License-Identifier: Apache-2.0
"""Verilog for other flows, which behaves alike in every simulator and in every version of the language."""

import re

from amaranth.back import verilog

__all__ = ["as_verilog", "start_processes"]

MODULE = re.compile(r"^module (?:.*\n)*?endmodule\n", re.MULTILINE)

DUMMY = re.compile(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ")
"""The name of a register that Yosys has the combinational processes of a module read, and that is never set."""

DECLARATION = "  reg \\$start  = 0;\n"

ASSIGNMENT = re.compile(r"^  always @\*\n    (.*;)\n", re.MULTILINE)
"""A process of one assignment, which does not read that register; group 1 is the assignment."""

STARTED = r"""  always @* begin
    if (\\$start ) begin end
    \1
  end
"""

STARTING = r"""  // Combinational processes run when it becomes 0: at time 0, after all of them have begun to wait.
  reg \$start ;
  // synthesis translate_off
  /* verilator lint_off INITIALDLY */
  initial \$start <= 0;
  /* verilator lint_on INITIALDLY */
  // synthesis translate_on
"""


def as_verilog(component, name):
    """The Amaranth component ``component`` as Verilog-2001, its top module called ``name``."""
    return start_processes(verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True))


def start_processes(text):
    """Has the combinational processes of ``text``, Verilog from Yosys, run at time 0.

    Yosys writes ``always @*``, which waits for an event. What it reads may never have one: constants, and registers
    that keep their initial value. So most read a dummy register as well, whose own initial value is the event. But in
    SystemVerilog initial values are there before the first process waits, as in Icarus with ``-g2012``. A non-blocking
    assignment comes after that in every version.
    """
    return MODULE.sub(lambda module: _start_processes(module.group()), text)


def _start_processes(module):
    if "  always @*" not in module:
        return module
    module = ASSIGNMENT.sub(STARTED, DUMMY.sub(lambda _: r"\$start ", module)).replace(DECLARATION, "")
    ports, body = module.split(";\n", 1)
    return f"{ports};\n{STARTING}{body}"
