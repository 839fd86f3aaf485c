# SPDX-License-Identifier: Apache-2.0
"""Requantisation in an engine whose layers may have tables of their activation functions, see `rtl.numbers`."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In

from rtl.layouts import act_table_write_layout
from rtl.numbers import Activation

from .interfaces import flow
from .requantize import Requantizer

__all__ = ["TableRequantizer"]


class TableRequantizer(wiring.Component):
    """A requantiser, and the table behind it. Where a layer has none, activations pass it by in the same cycles.

    There are two banks: while one layer is drained through its table, that of the next layer is written.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    layer, totals, act, act_coming
        As of `Requantizer`.
    write : In(flow(act_table_write_layout))
        Values of the bank that no drain reads.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            **Requantizer.members(config),
            "write": In(flow(act_table_write_layout(config))),
        })

    @property
    def tables(self):
        """The tables that it has, by name: where their values go."""
        return {"act_table": self.write}

    @staticmethod
    def latency_cycles(config):
        """Cycles from a total to its activation. Block RAM is slow, so that there is a register behind it, if any."""
        return Requantizer.latency_cycles(config) + TableRequantizer._table_cycles(config)

    @staticmethod
    def _table_cycles(config):
        return 3 if config.deep_pipeline else 1

    def elaborate(self, platform):
        m = Module()
        config, layer = self.config, self.layer
        m.submodules.requantizer = requantizer = Requantizer(config)
        m.submodules.table = table = memory.Memory(shape=config.act_bits, depth=2 * config.table_entries, init=[])
        write = table.write_port()
        read = table.read_port()
        m.d.comb += [
            requantizer.layer.eq(layer), requantizer.totals.payload.eq(self.totals.payload),
            requantizer.totals.valid.eq(self.totals.valid),
            write.addr.eq(self.write.payload.place), write.data.eq(self.write.payload.act),
            write.en.eq(self.write.valid),
            read.addr.eq(Cat(requantizer.act, layer.table_bank)), read.en.eq(1),
        ]
        with m.If(layer.table):
            # The place in the table has a sign, whatever the values of the table have.
            m.d.comb += requantizer.layer.activation.eq(Activation.IDENTITY)

        passed = Signal.like(self.act, name="passed", reset_less=True)
        m.d.sync += passed.eq(requantizer.act)
        found = read.data
        if config.deep_pipeline:
            found, later = (Signal.like(self.act, name=name, reset_less=True) for name in ("found", "later"))
            m.d.sync += [found.eq(read.data), later.eq(passed)]
            passed = later
        m.d["sync" if config.deep_pipeline else "comb"] += self.act.eq(Mux(layer.table, found, passed))
        coming = Signal(self._table_cycles(config))
        m.d.sync += coming.eq(Cat(requantizer.act_coming, coming))
        m.d.comb += self.act_coming.eq(coming[-1])
        return m
