# SPDX-License-Identifier: Apache-2.0
"""What all clusters say, gathered into one bit for the scanner and one for the sequencer."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Gather"]


class Gather(wiring.Component):
    """Stops the scan when a queue is full; tells when a layer's scan is over, down to its last walker.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    full : In(clusters)
        A queue of the cluster is full.
    stop : Out(1)
        One of them is, ``stop_cycles`` later.
    done : In(1), empty : In(1)
        Every beat has left the scanner; none is under way to the clusters.
    idle : In(clusters)
        The cluster has nothing left to decode. Registered, as ``done`` and ``empty`` are in here: so no beat is
        overlooked between them.
    quiet : Out(1)
        All of that holds.
    """

    stop_cycles = 1

    @staticmethod
    def quiet_cycles(config):
        """From walkers that have nothing left to decode to ``quiet``: the register of ``idle``, and one more."""
        return 1 + config.deep_pipeline

    def __init__(self, config):
        self.config = config
        super().__init__({
            "full": In(config.clusters),
            "stop": Out(1),
            "done": In(1),
            "empty": In(1),
            "idle": In(config.clusters),
            "quiet": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        sent = Signal()
        m.d.sync += [self.stop.eq(self.full.any()), sent.eq(self.done & self.empty)]
        m.d["sync" if self.quiet_cycles(self.config) > 1 else "comb"] += self.quiet.eq(sent & self.idle.all())
        return m
