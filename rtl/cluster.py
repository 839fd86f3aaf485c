# SPDX-License-Identifier: Apache-2.0
"""A cluster: processing elements that share what all of them are told, the steps of slice lookup, and requantisers."""

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, Mux, ResetSignal, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .accumulate import Accumulator
from .layouts import beat_layout, cluster_write_layout, requant_layout
from .pe import ProcessingElement, control_layout, layer_layout
from .requantize import Requantizer
from .slices import SliceLookup

__all__ = ["Cluster", "cluster_layout", "drain_cycles"]


def cluster_layout(config):
    """What a cluster must know of the layer that is scanned."""
    return data.StructLayout({
        "slice_base": range(config.slice_depth),
        "entry_base": range(config.entry_depth),
        "pe": layer_layout(config),
    })


def drain_cycles(config):
    """From the drain's step that completes a row to the row's activations."""
    share = config.pes_per_requantizer
    # PEs that share take turns, through a register.
    return (config.deep_pipeline + Accumulator.latency_cycles(config) + Requantizer.latency_cycles(config)
            + (share if share > 1 else 0))


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
    acts : Out(act_bits).array(pes), acts_coming : Out(1)
        Output activations of the row that was drained, in order; they come in the next cycle.
    full : Out(1)
        Some queue has room only for what is under way. Registered.
    idle : Out(1)
        Every entry of every beat so far has reached its accumulator. Registered.
    useful : Out(range(pes + 1)), dropped : Out(range(pes + 1))
        For the performance counters: multiplications and empty slices in a cycle. Registered.
    """

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
            "acts": Out(config.act_bits).array(pes),
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
            lookup.beats.eq(self.beats), lookup.beats_valid.eq(self.beats_valid),
        ]
        for number, pe in enumerate(pes):
            m.d.comb += [
                pe.layer.eq(layer.pe), pe.control.eq(self.control),
                pe.jobs.eq(lookup.jobs[number]), pe.jobs_valid.eq(lookup.jobs_valid[number]),
            ]
        m.d.near += [
            self.full.eq(Cat(pe.full for pe in pes).any()),
            self.idle.eq(lookup.empty & Cat(pe.empty for pe in pes).all()),
            self.useful.eq(sum(pe.useful for pe in pes)), self.dropped.eq(sum(lookup.dropped)),
        ]
        self._load(m, lookup, pes)
        self._requantize(m, near, requant, pes)
        return m

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
        """PEs that share a requantiser take turns; the activations of the first ones wait for the last."""
        share = self.config.pes_per_requantizer
        turns = Signal(share)
        m.d.comb += turns[0].eq(pes[0].total_valid)
        m.d.near += turns[1:].eq(turns)
        for first in range(0, len(pes), share):
            requantizer = Requantizer(self.config)
            m.submodules[f"requantizer_{first}"] = near(requantizer)
            total, total_valid = pes[first].total, turns[-1]
            if share > 1:
                total, total_valid = Signal.like(total, name=f"total_{first}", reset_less=True), \
                    Signal(name=f"total_{first}_valid")
                m.d.near += [total.eq(pes[first].total), total_valid.eq(turns[-1])]
                for turn in range(1, share):
                    with m.If(turns[turn]):
                        m.d.near += total.eq(pes[first + turn].total)
            m.d.comb += [requantizer.layer.eq(requant), requantizer.total.eq(total),
                         requantizer.total_valid.eq(total_valid), self.acts_coming.eq(requantizer.act_coming)]
            act = requantizer.act
            for place in reversed(range(first, first + share)):
                m.d.comb += self.acts[place].eq(act)
                waiting = Signal.like(act, name=f"act_{place}", reset_less=True)
                m.d.near += waiting.eq(act)
                act = waiting
