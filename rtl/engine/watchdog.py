# SPDX-License-Identifier: Apache-2.0
"""The watchdog: ends an inference that takes longer than its program can."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rtl.image_format import LIMIT_STEP
from rtl.structure import counter_bits, limit_bits

__all__ = ["Watchdog"]


class Watchdog(wiring.Component):
    """Compares the cycles of an inference with the limit in its image (`host.packing.cycle_limit`).

    An inference that reaches the limit is stopped. All that takes part in it is reset. Its image is dropped, since it
    may be the cause. WAIT is answered with TIMED_OUT, so that no result seems valid.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    running : In(1), cycles : In(counter_bits)
        An inference runs; the cycles that it has taken.
    limit : In(limit_bits)
        Limit from the image's header, in units of `LIMIT_STEP` cycles.
    clear : In(1)
        Another inference begins.
    bite : Out(1)
        Stop the inference and drop the image. It holds until the inference has stopped.
    timed_out : Out(1)
        The inference exceeded its limit; 1 from then on, until ``clear``.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "running": In(1), "cycles": In(counter_bits(config)), "limit": In(limit_bits(config)),
            "clear": In(1), "bite": Out(1), "timed_out": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.bite.eq(self.running & (self.cycles[exact_log2(LIMIT_STEP):] == self.limit))
        with m.If(self.bite):
            m.d.sync += self.timed_out.eq(1)
        with m.Elif(self.clear):
            m.d.sync += self.timed_out.eq(0)
        return m
