# SPDX-License-Identifier: Apache-2.0
"""The sequencer: takes the program's layers through scan and drain, the drain of one beside the scan of the next."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.layouts import descriptor_layout

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Controls the order of things; every number that it hands out comes from the layer's descriptor.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    loaded : In(1), layers : In(range(program_depth + 1))
        There is an image, of so many layers.
    run : In(1)
        Start an inference; only while ``ready``.
    ready : Out(1), running : Out(1), settled : Out(1)
        An inference can start; one runs; neither accumulators are being cleared nor a program read ahead.
        An image that is replaced ends with a reset, so that nothing of it is left in here.
    next : In(descriptor_layout), program_busy : In(1)
    rewind : Out(1), fetch : Out(1), load_tables : Out(1)
        From and to the `Program`.
    layer : Out(descriptor_layout), start : Out(1)
        The layer that is scanned; ``start`` comes in the cycle before ``layer`` changes to it.
    quiet : In(1)
        Every beat of the layer is on its way to an accumulator at least, see `rtl.engine.gather`.
    drain_start : Out(1), drain_clear : Out(1), drain_busy : In(1)
        To and from the `Drain`; it drains ``layer`` as it is in the cycle of ``drain_start``.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "loaded": In(1), "layers": In(range(config.program_depth + 1)), "run": In(1),
            "ready": Out(1), "running": Out(1), "settled": Out(1),
            "next": In(descriptor_layout(config)), "program_busy": In(1),
            "rewind": Out(1), "fetch": Out(1), "load_tables": Out(1),
            "layer": Out(descriptor_layout(config)), "start": Out(1),
            "quiet": In(1),
            "drain_start": Out(1), "drain_clear": Out(1), "drain_busy": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        # How many layers are left is asked a while after it has changed.
        layers_left, last, last_but_one = Signal.like(self.layers), Signal(), Signal()
        m.d.sync += [last.eq(layers_left == 1), last_but_one.eq(layers_left == 2)]

        # What a layer's end must wait for beside `quiet`, whether another one comes, and that there is an image to run,
        # known from the cycle before: `start` leads to many registers, and `drain_start` far.
        free, goes_on, awaits, switch = Signal(), Signal(), Signal(), Signal()
        clears = Signal()
        m.d.comb += [
            switch.eq(free & self.quiet), self.start.eq((awaits & self.run) | (goes_on & self.quiet)),
            self.drain_clear.eq(clears),
            self.drain_start.eq(clears | (switch & (~self.layer.hold_sums if self.config.tap_bits else 1))),
        ]
        m.d.sync += [free.eq(0), goes_on.eq(0), awaits.eq(0), clears.eq(0)]

        def end_when_free():
            """From the next cycle on the layer ends once all is quiet, unless the drain or the program is busy."""
            ends = ~self.drain_busy & ~self.program_busy
            m.d.sync += [free.eq(ends), goes_on.eq(ends & ~last)]

        with m.FSM() as fsm:
            with m.State("WAIT IMAGE"):
                m.d.comb += self.rewind.eq(1)
                with m.If(self.loaded):
                    m.d.sync += clears.eq(1)
                    m.next = "CLEAR"
            with m.State("CLEAR"):
                # The accumulators hold anything after power-up, or what the image before, whose program may have
                # drained too few of them, has left. From here on every drain leaves zeros.
                m.next = "CLEAR ON"
            with m.State("CLEAR ON"):
                with m.If(~self.drain_busy):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += self.fetch.eq(~self.program_busy)
                m.d.sync += layers_left.eq(self.layers)
                m.next = "FETCH ON"
            with m.State("FETCH ON"):
                with m.If(~self.program_busy):
                    m.d.comb += self.load_tables.eq(1)
                    m.next = "LOAD TABLES"
            with m.State("LOAD TABLES"):
                with m.If(~self.program_busy):
                    m.next = "WAIT RUN"
            with m.State("WAIT RUN"):
                m.d.sync += awaits.eq(1)
                with m.If(self.start):
                    m.d.comb += self.fetch.eq(~last)
                    m.d.sync += awaits.eq(0)
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                # `quiet` still speaks of the time before `start`.
                m.next = "SETTLE ON"
            with m.State("SETTLE ON"):
                end_when_free()
                m.next = "SCAN"
            with m.State("SCAN"):
                end_when_free()
                with m.If(switch):
                    m.d.sync += [free.eq(0), goes_on.eq(0), layers_left.eq(layers_left - 1)]
                    with m.If(last):
                        m.next = "DRAIN"
                    with m.Else():
                        m.d.comb += [self.load_tables.eq(1), self.fetch.eq(~last_but_one)]
                        m.next = "SETTLE"
            with m.State("DRAIN"):
                with m.If(~self.drain_busy):
                    m.d.comb += self.rewind.eq(1)
                    m.next = "FETCH"
        with m.If(self.start):
            m.d.sync += self.layer.eq(self.next)

        m.d.comb += [
            self.ready.eq(awaits & self.loaded),
            self.running.eq(fsm.ongoing("SETTLE") | fsm.ongoing("SETTLE ON") | fsm.ongoing("SCAN")
                            | fsm.ongoing("DRAIN")),
            self.settled.eq(self.ready | self.running | (fsm.ongoing("WAIT IMAGE") & ~self.loaded)),
        ]
        return m
