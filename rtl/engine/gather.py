# SPDX-License-Identifier: Apache-2.0
"""Combines the status of all clusters into one bit for the scanner and one for the sequencer."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .interfaces import report_port

__all__ = ["Gather"]


class Gather(wiring.Component):
    """Stops the scan when a queue is full; tells when a layer's scan is over, down to its last walker.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    clusters : In(report_port).array(clusters)
    stop : Out(1)
        A queue of some cluster is full.
    done : In(1), empty : In(1)
        Every beat has left the scanner; none is under way to the clusters.
    quiet : Out(1)
        ``done``, ``empty``, and every cluster is idle.
    """

    stop_cycles = 1
    """Cycles from a cluster's ``full`` to ``stop``."""

    @staticmethod
    def quiet_cycles(config):
        """Cycles from the last walker's ``empty`` to ``quiet``: the register of ``idle``, and one more if deep."""
        return 1 + config.deep_pipeline

    def __init__(self, config):
        self.config = config
        super().__init__({
            "clusters": In(report_port(config)).array(config.clusters),
            "stop": Out(1),
            "done": In(1),
            "empty": In(1),
            "quiet": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        sent = Signal()
        m.d.sync += [
            self.stop.eq(Cat(cluster.full for cluster in self.clusters).any()),
            # Registered in the same cycle as `idle` of the clusters, so that no beat is overlooked between them.
            sent.eq(self.done & self.empty),
        ]
        m.d["sync" if self.quiet_cycles(self.config) > 1 else "comb"] += self.quiet.eq(
            sent & Cat(cluster.idle for cluster in self.clusters).all())
        return m
