# SPDX-License-Identifier: Apache-2.0
"""The load tree: carries the words of an image to the program and to the clusters' memories."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.image_format import SectionKind
from rtl.layouts import cluster_write_layout, load_write_layout
from rtl.structure import unhurried_cycles

from .broadcast import Broadcast
from .interfaces import flow

__all__ = ["LoadTree"]


class LoadTree(wiring.Component):
    """Register tree from the loader to program and clusters, for words that are several cycles apart.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    write : In(flow(load_write_layout))
        Words from the loader. The kind of a section arrives long before its first word.
    program : Out(flow(load_write_layout))
    clusters : Out(flow(cluster_write_layout)).array(clusters)
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "write": In(flow(load_write_layout(config))),
            "program": Out(flow(load_write_layout(config))),
            "clusters": Out(flow(cluster_write_layout(config))).array(config.clusters),
        })

    def elaborate(self, platform):
        m = Module()
        config, word = self.config, self.write.payload
        several = config.clusters > 1
        # Since the words are so far apart, another register costs no time.
        cycles = unhurried_cycles(config) + several
        m.submodules.tree = tree = Broadcast(cluster_write_layout(config), config.clusters, cycles, always_valid=True)
        sent = tree.i.payload
        m.d.comb += [sent.address.eq(word.address), sent.word.eq(word.word), sent.place.eq(word.pe)]
        m.d.sync += [
            sent.slices.eq(word.kind == SectionKind.SLICES.value),
            sent.planes.eq(Cat(word.kind == SectionKind.ENTRIES.value + plane
                               for plane in range(len(config.plane_bits)))),
        ]
        m.d["sync" if several else "comb"] += [self.program.payload.eq(word), self.program.valid.eq(self.write.valid)]
        # The valid bit of each cluster is delayed by as many registers as the word.
        place_bits = len(sent.place)
        for number, cluster in enumerate(self.clusters):
            own = self.write.valid & (word.pe[place_bits:] == number)
            for stage in range(cycles):
                valid = Signal(name=f"load_{number}_{stage}", attrs={"keep": 1})
                m.d.sync += valid.eq(own)
                own = valid
            m.d.comb += [cluster.payload.eq(tree.o[number].payload), cluster.valid.eq(own)]
        return m
