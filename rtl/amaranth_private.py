# SPDX-License-Identifier: Apache-2.0
"""What we need of Amaranth that it does not offer: a new version may change it, and then this module alone."""

from amaranth._unused import MustUse
from amaranth.back import verilog

__all__ = ["as_used", "let_unused_be", "pass_rtlil_on", "verilog_of_rtlil"]


def verilog_of_rtlil(text):
    """RTLIL, the string ``text``, as Verilog.

    `amaranth.back.verilog.convert` takes components only, and we change their RTLIL before.
    """
    return verilog._convert_rtlil_text(text, strip_internal_attrs=True)


def pass_rtlil_on():
    """From now on Amaranth gives RTLIL where it would give Verilog: so it calls no Yosys, whose output may vary."""
    verilog._convert_rtlil_text = lambda text, **options: text


def as_used(component):
    """Keeps Amaranth from warning that ``component`` was never elaborated."""
    component._MustUse__used = True


def let_unused_be():
    """From now on Amaranth does not warn of any component that was never elaborated."""
    MustUse._MustUse__silence = True
