# SPDX-License-Identifier: Apache-2.0
"""A cluster: processing elements that share what all of them are told, the steps of slice lookup, and requantisers."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .layouts import beat_layout, beats_in_flight, memory_write_layout, requant_layout
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
    return ProcessingElement.drain_cycles + Requantizer.latency_cycles + config.pes_per_requantizer - 1


class Cluster(wiring.Component):
    """The way from a broadcast activation to the output activations of some PEs' rows.

    Registers for what all PEs are told cost wires across the whole FPGA: there is one for each cluster.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    load : In(memory_write_layout), load_slices : In(pes), load_planes : In(planes).array(pes)
        A word of the image, and which memories of which PE it is for, if any.
    start : In(1), layer : In(cluster_layout), requant : In(requant_layout)
        The layer that is scanned, and the constants of the one that drains.
    beats : In(beat_layout), beats_valid : In(1)
    control : In(control_layout)
    acts : Out(act_bits).array(pes), acts_valid : Out(1)
        Output activations of the row that was drained, in order.
    full : Out(1)
        Some queue has room only for what is under way. Registered.
    idle : Out(1)
        Every entry of every beat so far has reached its accumulator. Registered.
    useful : Out(pes), dropped : Out(pes)
        For the performance counters: a multiplication, an empty slice. Registered.
    """

    def __init__(self, config):
        self.config = config
        pes = config.cluster_pes
        super().__init__({
            "load": In(memory_write_layout(config)),
            "load_slices": In(pes),
            "load_planes": In(len(config.plane_bits)).array(pes),
            "start": In(1),
            "layer": In(cluster_layout(config)),
            "requant": In(requant_layout()),
            "beats": In(beat_layout(config)),
            "beats_valid": In(1),
            "control": In(control_layout(config)),
            "acts": Out(config.act_bits).array(pes),
            "acts_valid": Out(1),
            "full": Out(1),
            "idle": Out(1),
            "useful": Out(pes),
            "dropped": Out(pes),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.lookup = lookup = SliceLookup(config, config.cluster_pes)
        pes = [ProcessingElement(config) for _ in range(config.cluster_pes)]
        for number, pe in enumerate(pes):
            m.submodules[f"pe_{number}"] = pe

        # Copies of what all clusters share, close by; `keep` stops synthesis from merging them again.
        layer = Signal(cluster_layout(config), reset_less=True, attrs={"keep": 1})
        requant = Signal(requant_layout(), reset_less=True, attrs={"keep": 1})
        m.d.sync += [layer.eq(self.layer), requant.eq(self.requant), lookup.start.eq(self.start)]

        m.d.comb += [
            lookup.load.eq(self.load), lookup.load_valid.eq(self.load_slices),
            lookup.slice_base.eq(layer.slice_base), lookup.entry_base.eq(layer.entry_base),
            lookup.beats.eq(self.beats), lookup.beats_valid.eq(self.beats_valid),
        ]
        for number, pe in enumerate(pes):
            m.d.comb += [
                pe.load.eq(self.load), pe.load_planes.eq(self.load_planes[number]),
                pe.layer.eq(layer.pe), pe.control.eq(self.control),
                pe.jobs.eq(lookup.jobs[number]), pe.jobs_valid.eq(lookup.jobs_valid[number]),
                self.useful[number].eq(pe.useful),
            ]
        m.d.sync += [
            self.full.eq(Cat(pe.level >= config.queue_depth - beats_in_flight(config) for pe in pes).any()),
            self.idle.eq(lookup.empty & Cat(pe.empty for pe in pes).all()),
            self.dropped.eq(lookup.dropped),
        ]
        self._requantize(m, requant, pes)
        return m

    def _requantize(self, m, requant, pes):
        """PEs that share a requantiser take turns; the activations of the first ones wait for the last."""
        share = self.config.pes_per_requantizer
        turns = Signal(share)
        m.d.comb += turns[0].eq(pes[0].total_valid)
        m.d.sync += turns[1:].eq(turns)
        for first in range(0, len(pes), share):
            m.submodules[f"requantizer_{first}"] = requantizer = Requantizer(self.config)
            m.d.comb += [requantizer.layer.eq(requant), requantizer.total.eq(pes[first].total),
                         requantizer.total_valid.eq(turns[-1]), self.acts_valid.eq(requantizer.act_valid)]
            for turn in range(1, share):
                with m.If(turns[turn]):
                    m.d.comb += requantizer.total.eq(pes[first + turn].total)
            act = requantizer.act
            for place in reversed(range(first, first + share)):
                m.d.comb += self.acts[place].eq(act)
                waiting = Signal.like(act, name=f"act_{place}", reset_less=True)
                m.d.sync += waiting.eq(act)
                act = waiting
