# SPDX-License-Identifier: Apache-2.0
"""The performance counters, see `rtl.protocol.COUNTERS`."""

from functools import reduce
from operator import add

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.layouts import beat_layout, counters_layout
from rtl.protocol import COUNTERS
from rtl.structure import counter_bits

from .interfaces import flow, report_port

__all__ = ["Counters"]


class Counters(wiring.Component):
    """Count events of the running inference; hold their values until the next one starts.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    clear : In(1), running : In(1)
        An inference begins; one runs.
    beats : In(flow(beat_layout)), stalled : In(1)
        Beats of the scanner; the scan is stopped.
    clusters : In(report_port).array(clusters)
    reading : In(1)
        The drain reads.
    counts : Out(counters_layout), cycles : Out(counter_bits)
        All counters; the cycle counter alone.
    """

    sum_cycles = 3
    """Cycles from an event to its counter: a register in its cluster, one for four clusters, and one for their sum."""

    def __init__(self, config):
        self.config = config
        super().__init__({
            "clear": In(1),
            "running": In(1),
            "beats": In(flow(beat_layout(config))),
            "stalled": In(1),
            "clusters": In(report_port(config)).array(config.clusters),
            "reading": In(1),
            "counts": Out(counters_layout()),
            "cycles": Out(counter_bits(config)),
        })

    def elaborate(self, platform):
        m = Module()
        # The counters run on after an inference, for events that are still under way to them.
        ends = Signal(self.sum_cycles)
        m.d.sync += ends.eq(Cat(self.running, ends))
        events = {
            "cycles": [self.running],
            "beats": [self.beats.valid],
            "broadcasts": [self.beats.valid & self.beats.payload.present],
            "useful_macs": [cluster.useful for cluster in self.clusters],
            "dropped_slices": [cluster.dropped for cluster in self.clusters],
            "stall_cycles": [self.stalled],
            "drain_cycles": [self.reading],
        }
        for name in COUNTERS:
            parts = []
            for first in range(0, len(events[name]), 4):
                total = reduce(add, events[name][first:first + 4])
                part = Signal.like(total, name=f"{name}_{first}")
                m.d.sync += part.eq(total)
                parts.append(part)
            amount = Signal.like(reduce(add, parts), name=f"{name}_now")
            counter = self.cycles if name == "cycles" else Signal(counter_bits(self.config), name=name)
            m.d.sync += amount.eq(reduce(add, parts))
            m.d.comb += self.counts[name].eq(counter)
            with m.If(self.clear):
                m.d.sync += counter.eq(0)
            with m.Elif(self.running | ends.any()):
                m.d.sync += counter.eq(counter + amount)
        return m
