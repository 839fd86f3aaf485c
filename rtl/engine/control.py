# SPDX-License-Identifier: Apache-2.0
"""The control tree: tells all PEs in each cycle to hold, to drain a row, or to take a value of a table."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.layouts import control_flags, control_layout, drain_step_layout, table_layouts
from rtl.structure import broadcast_cycles

from .broadcast import Broadcast
from .interfaces import flow, table_port

__all__ = ["ControlTree"]


class ControlTree(wiring.Component):
    """A register tree as long as that of the beats.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    steps : In(flow(drain_step_layout)), reading : In(1)
        The drain's.
    tables : In(table_port)
        The values lag ``busy`` by one cycle, so that no visit is in flight when they come.
    clusters : Out(control_layout).array(clusters)
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "steps": In(flow(drain_step_layout(config))),
            "reading": In(1),
            "tables": In(table_port(config)),
            "clusters": Out(control_layout(config)).array(config.clusters),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.tree = tree = Broadcast(control_layout(config), config.clusters, broadcast_cycles(config),
                                             resets=control_flags(config), always_valid=True)
        sent = tree.i.payload
        m.d.comb += [
            sent.hold.eq(self.reading | self.tables.busy),
            sent.drain.eq(self.steps.valid), sent.drain_step.eq(self.steps.payload),
        ]
        for name in table_layouts(config):
            table = getattr(self.tables, name)
            m.d.comb += [sent[name].eq(table.payload), sent[f"write_{name}"].eq(table.valid)]
        m.d.comb += [cluster.eq(o.payload) for cluster, o in zip(self.clusters, tree.o, strict=True)]
        return m
