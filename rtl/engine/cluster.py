# SPDX-License-Identifier: Apache-2.0
"""A cluster: processing elements that share what all of them are told, the steps of slice lookup, and requantisers."""

from functools import reduce
from operator import and_

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, Mux, ResetSignal, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.layouts import beat_layout, cluster_write_layout, requant_layout

from .backpressure import beat_queue_limit
from .pe import ProcessingElement, control_layout, layer_layout
from .queue import Queue
from .requantize import Requantizer
from .slices import SliceLookup

__all__ = ["Cluster", "cluster_layout"]


def cluster_layout(config):
    """What a cluster must know of the layer that is scanned."""
    return data.StructLayout({
        "slice_base": range(config.slice_depth),
        "entry_base": range(config.entry_depth),
        "pe": layer_layout(config),
    })


class Cluster(wiring.Component):
    """The way from a broadcast activation to the output activations of some PEs' rows.

    Registers for what all PEs are told cost wires across the whole FPGA: there is one for each cluster.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    load : In(cluster_write_layout), load_valid : In(1)
        A word of the image, and which memory of which PE it is for.
    start : In(1), layer : In(cluster_layout), requant : In(requant_layout)
        The layer that is scanned, and the constants of the one that drains.
    beats : In(beat_layout), beats_valid : In(1)
    control : In(control_layout)
    acts : Out(act_bits).array(pes // pes_per_requantizer), acts_coming : Out(1)
        Output activations of the row that was drained, one of each requantiser; its last PE's come in the next cycle,
        those of the others came just before, in order.
    full : Out(1)
        Some queue has room only for what is under way. Registered.
    idle : Out(1)
        Every entry of every beat so far has reached its accumulator. Registered.
    useful : Out(range(pes + 1)), dropped : Out(range(pes + 1))
        For the performance counters: multiplications and empty slices in a cycle. Registered.
    """

    @staticmethod
    def turn_cycles(config):
        """From the total of the first PE of a requantiser to that of the last: through a register, or two."""
        share = config.pes_per_requantizer
        return share + config.deep_pipeline if share > 1 else 0

    def __init__(self, config):
        self.config = config
        pes = config.cluster_pes
        super().__init__({
            "load": In(cluster_write_layout(config)),
            "load_valid": In(1),
            "start": In(1),
            "layer": In(cluster_layout(config)),
            "requant": In(requant_layout()),
            "beats": In(beat_layout(config)),
            "beats_valid": In(1),
            "control": In(control_layout(config)),
            "acts": Out(config.act_bits).array(pes // config.pes_per_requantizer),
            "acts_coming": Out(1),
            "full": Out(1),
            "idle": Out(1),
            "useful": Out(range(pes + 1)),
            "dropped": Out(range(pes + 1)),
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

        # Copies of what all clusters share, if there are several, close by; `keep` stops synthesis from merging them
        # again.
        layer = Signal(cluster_layout(config), reset_less=True, attrs={"keep": 1})
        requant = Signal(requant_layout(), reset_less=True, attrs={"keep": 1})
        m.d["near" if config.clusters > 1 else "comb"] += [layer.eq(self.layer), requant.eq(self.requant)]
        m.d.near += lookup.start.eq(self.start)

        m.d.comb += [
            lookup.slice_base.eq(layer.slice_base), lookup.entry_base.eq(layer.entry_base),
        ]
        self._pass_beats(m, near, lookup, pes)
        for number, pe in enumerate(pes):
            m.d.comb += [
                pe.layer.eq(layer.pe), pe.control.eq(self.control),
                pe.jobs.eq(lookup.jobs[number]), pe.jobs_valid.eq(lookup.jobs_valid[number]),
            ]
        m.d.near += [
            self.useful.eq(sum(pe.useful for pe in pes)), self.dropped.eq(sum(lookup.dropped)),
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
            # A register behind the queue, since block RAM is slow.
            beat, beat_valid = Signal(beat_layout(config), reset_less=True), Signal(name="beat_valid")
            m.d.near += [beat.eq(queue.o.payload), beat_valid.eq(queue.o.valid & queue.o.ready)]
            m.d.comb += [
                queue.i.eq(self.beats), queue.i_valid.eq(self.beats_valid), queue.o.ready.eq(~full),
                lookup.beats.eq(beat), lookup.beats_valid.eq(beat_valid),
            ]
            full, empty = queue.full, empty & queue.empty & ~self.beats_valid
        else:
            m.d.comb += [lookup.beats.eq(self.beats), lookup.beats_valid.eq(self.beats_valid)]
        m.d.near += [self.full.eq(full), self.idle.eq(empty)]

    @staticmethod
    def _add_near_domain(m):
        """The cluster's domain: its reset is a register close by, and comes a cycle later than that of those around.

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
            own = self.load_valid & (self.load.place == number)
            m.d.comb += [lookup.load_valid[number].eq(own & self.load.slices),
                         pe.load_planes.eq(Mux(own, self.load.planes, 0))]
            m.d.comb += [load[name].eq(self.load[name]) for load in (lookup.load, pe.load) for name, _ in load.shape()]

    def _requantize(self, m, near, requant, pes):
        """PEs that share a requantiser take turns."""
        share = self.config.pes_per_requantizer
        waits = Signal(share, init=-1)
        m.d.comb += waits[0].eq(~pes[0].total_valid)
        m.d.near += waits[1:].eq(waits)
        for first in range(0, len(pes), share):
            requantizer = Requantizer(self.config)
            m.submodules[f"requantizer_{first}"] = near(requantizer)
            total, total_valid = pes[first].total, ~waits[-1]
            if share > 1:
                total, total_valid = self._choose_total(m, first, [pe.total for pe in pes[first:first + share]], waits)
            m.d.comb += [requantizer.layer.eq(requant), requantizer.total.eq(total),
                         requantizer.total_valid.eq(total_valid), self.acts_coming.eq(requantizer.act_coming),
                         self.acts[first // share].eq(requantizer.act)]

    def _choose_total(self, m, first, totals, waits):
        """The total of the PE that does not wait for its turn, and whether it is the last one's."""
        total, last = Signal.like(totals[0], name=f"total_{first}", reset_less=True), Signal(name=f"last_{first}")
        if self.config.deep_pipeline:
            # All registers but one are set, so that to choose takes a gate, no multiplexer.
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
