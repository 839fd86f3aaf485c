# SPDX-License-Identifier: Apache-2.0
"""A cluster: processing elements that share control signals, the stages of the slice lookup, and requantisers."""

from functools import reduce
from operator import and_

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, Mux, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.layouts import beat_layout, cluster_layer_layout, cluster_write_layout, control_layout, requant_layout

from .backpressure import beat_queue_limit
from .interfaces import acts_port, flow, report_port, settings_port
from .pe import ProcessingElement
from .queue import Queue
from .slices import SliceLookup
from .variants import variant

__all__ = ["Cluster"]


class Cluster(wiring.Component):
    """The way from a broadcast activation to the output activations of some PEs' rows.

    Signals that drive all PEs are registered in each cluster, since wires across the whole FPGA are slow.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    load : In(flow(cluster_write_layout))
        Words of the image, and which memory of which PE each is for.
    settings : In(settings_port)
    beats : In(flow(beat_layout))
    control : In(control_layout)
    acts : Out(acts_port)
    report : Out(report_port)
    """

    @staticmethod
    def turn_cycles(config):
        """Cycles from the total of a requantiser's first PE to that of its last: one register, or two."""
        share = config.pes_per_requantizer
        return share + config.deep_pipeline if share > 1 else 0

    @staticmethod
    def queue_cycles(config):
        """Registers behind the queue of beats, if there is one."""
        return 1 if config.beat_queue_depth else 0

    def __init__(self, config):
        self.config = config
        super().__init__({
            "load": In(flow(cluster_write_layout(config))),
            "settings": In(settings_port(config)),
            "beats": In(flow(beat_layout(config))),
            "control": In(control_layout(config)),
            "acts": Out(acts_port(config)),
            "report": Out(report_port(config)),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        near = self._add_near_domain(m)
        lookup = SliceLookup(config, config.cluster_pes)
        m.submodules.lookup = near(lookup)
        pes = [ProcessingElement(config) for _ in range(config.cluster_pes)]
        for number, pe in enumerate(pes):
            m.submodules[f"pe_{number}"] = near(pe)

        # If there are several clusters each has registers of its own for the constants that all share; `keep` stops
        # synthesis from merging them again.
        layer = Signal(cluster_layer_layout(config), reset_less=True, attrs={"keep": 1})
        requant = Signal(requant_layout(self.config), reset_less=True, attrs={"keep": 1})
        m.d["near" if config.clusters > 1 else "comb"] += [
            layer.eq(self.settings.layer), requant.eq(self.settings.requant)]
        m.d.near += lookup.start.eq(self.settings.start)
        m.d.comb += [lookup.slice_base.eq(layer.slice_base), lookup.entry_base.eq(layer.entry_base)]
        self._pass_beats(m, near, lookup, pes)
        for pe, jobs in zip(pes, lookup.jobs, strict=True):
            connect(m, jobs, pe.jobs)
            m.d.comb += [pe.layer.eq(layer.pe), pe.control.eq(self.control)]
        m.d.near += [
            self.report.useful.eq(sum(pe.useful for pe in pes)), self.report.dropped.eq(sum(lookup.dropped)),
        ]
        self._load(m, lookup, pes)
        self._requantize(m, near, requant, pes)
        return m

    def _pass_beats(self, m, near, lookup, pes):
        """Beats go to the lookup, through a queue if there is one."""
        config = self.config
        full, empty = Cat(pe.full for pe in pes).any(), lookup.empty & Cat(pe.empty for pe in pes).all()
        if config.beat_queue_depth:
            m.submodules.beat_queue = queue = near(Queue(beat_layout(config), config.beat_queue_depth, block_ram=True,
                                                         limit=beat_queue_limit(config)))
            connect(m, flipped(self.beats), queue.i)
            # A register behind the queue, since block RAM is slow.
            beat, beat_valid = Signal(beat_layout(config), reset_less=True), Signal(name="beat_valid")
            m.d.near += [beat.eq(queue.o.payload), beat_valid.eq(queue.o.valid & queue.o.ready)]
            m.d.comb += [queue.o.ready.eq(~full), lookup.beats.payload.eq(beat), lookup.beats.valid.eq(beat_valid)]
            full, empty = queue.full, empty & queue.empty & ~self.beats.valid
        else:
            connect(m, flipped(self.beats), lookup.beats)
        m.d.near += [self.report.full.eq(full), self.report.idle.eq(empty)]

    @staticmethod
    def _add_near_domain(m):
        """The cluster's clock domain: its reset is registered in the cluster, a cycle later than the engine's.

        Returns
        -------
        DomainRenamer
        """
        m.domains.near = ClockDomain(local=True)
        reset = Signal(init=1, reset_less=True, attrs={"keep": 1})
        m.d.sync += reset.eq(ResetSignal())
        m.d.comb += [ClockSignal("near").eq(ClockSignal()), ResetSignal("near").eq(reset)]
        return DomainRenamer("near")

    def _load(self, m, lookup, pes):
        """A word of the image goes to its memory."""
        for number, pe in enumerate(pes):
            word = self.load.payload
            own = self.load.valid & (word.place == number)
            m.d.comb += [lookup.load_pes[number].eq(own & word.slices), pe.load_planes.eq(Mux(own, word.planes, 0))]
            m.d.comb += [load[name].eq(word[name]) for load in (lookup.load, pe.load) for name, _ in load.shape()]

    def _requantize(self, m, near, requant, pes):
        """PEs that share a requantiser take turns."""
        share = self.config.pes_per_requantizer
        waits = Signal(share, init=-1)
        m.d.comb += waits[0].eq(~pes[0].total_valid)
        m.d.near += waits[1:].eq(waits)
        for first in range(0, len(pes), share):
            requantizer = variant(self.config).requantizer(self.config)
            m.submodules[f"requantizer_{first}"] = near(requantizer)
            total, total_valid = pes[first].total, ~waits[-1]
            if share > 1:
                total, total_valid = self._choose_total(m, first, [pe.total for pe in pes[first:first + share]], waits)
            m.d.comb += [requantizer.layer.eq(requant), requantizer.totals.payload.eq(total),
                         requantizer.totals.valid.eq(total_valid), self.acts.coming.eq(requantizer.act_coming),
                         self.acts.acts[first // share].eq(requantizer.act)]
            for name, table in requantizer.tables.items():
                m.d.comb += [table.payload.eq(self.control[name]), table.valid.eq(self.control[f"write_{name}"])]

    def _choose_total(self, m, first, totals, waits):
        """The total of the PE that does not wait for its turn, and whether it is the last one's."""
        total, last = Signal.like(totals[0], name=f"total_{first}", reset_less=True), Signal(name=f"last_{first}")
        if self.config.deep_pipeline:
            # All registers but one hold all ones, so that a gate selects the total, without a multiplexer.
            shown = [Signal.like(one, name=f"shown_{first + number}", init=-1, reset_less=True)
                     for number, one in enumerate(totals)]
            m.d.near += (register.eq(Mux(wait, -1, one))
                         for register, one, wait in zip(shown, totals, waits, strict=True))
            chosen, shows_last = reduce(and_, shown), Signal(name=f"shows_last_{first}")
            m.d.near += shows_last.eq(~waits[-1])
        else:
            chosen, shows_last = totals[0], ~waits[-1]
            for one, wait in zip(totals[1:], waits[1:], strict=True):
                chosen = Mux(wait, chosen, one)
        m.d.near += [total.eq(chosen), last.eq(shows_last)]
        return total, last
