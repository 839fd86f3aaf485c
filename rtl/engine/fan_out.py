# SPDX-License-Identifier: Apache-2.0
"""The fan-out: tells every cluster which layer is scanned, and the constants of the one that drains."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.layouts import cluster_layer_layout, requant_layout
from rtl.structure import unhurried_cycles

from .interfaces import scan_port, settings_port

__all__ = ["FanOut"]


class FanOut(wiring.Component):
    """Register trees. Their values arrive before the layer's first beat, and before the row that is requantised.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    scan : In(scan_port), requant : In(requant_layout)
    clusters : Out(settings_port).array(clusters)
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "scan": In(scan_port(config)),
            "requant": In(requant_layout(self.config)),
            "clusters": Out(settings_port(config)).array(config.clusters),
        })

    def elaborate(self, platform):
        m = Module()
        clusters = self.config.clusters
        cycles = unhurried_cycles(self.config)
        # A cluster has a register of its own for the layer and the constants, which replaces one here.
        for name, sent, registers in (("start", self.scan.start, cycles), ("layer", self._layer(m), cycles - 1),
                                      ("requant", self.requant, cycles - 1)):
            copies = [sent]
            for left in reversed(range(registers)):
                # Four clusters share the last one.
                count = 1 if left else -(-clusters // 4)
                later = [Signal.like(sent, name=f"{name}_{left}_{number}", reset_less=name != "start",
                                     attrs={"keep": 1}) for number in range(count)]
                m.d.sync += [one.eq(copies[0]) for one in later]
                copies = later
            m.d.comb += [getattr(cluster, name).eq(copies[number * len(copies) // clusters])
                         for number, cluster in enumerate(self.clusters)]
        return m

    def _layer(self, m):
        """The settings of a layer that a cluster needs, from its descriptor."""
        layer = Signal(cluster_layer_layout(self.config))
        descriptor = self.scan.layer
        m.d.comb += [layer.slice_base.eq(descriptor.slice_base), layer.entry_base.eq(descriptor.entry_base)]
        for name, _ in layer.pe.shape():
            if name == "plane_offsets":
                m.d.comb += [own.eq(told) for own, told in zip(layer.pe[name], descriptor[name], strict=False)]
            else:
                m.d.comb += layer.pe[name].eq(descriptor[name])
        return layer
