# SPDX-License-Identifier: Apache-2.0
"""The sequencer: scans and drains the program's layers, the drain of one at the same time as the scan of the next."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.descriptor import descriptor_layout
from rtl.layouts import field_or_zero

from .interfaces import drain_port, inference_port, program_port, scan_port

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Starts scan, drain and program in the right order; all numbers come from the layers' descriptors.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    loaded : In(1), layers : In(range(program_depth + 1))
        There is an image; its number of layers. When an image is replaced a reset follows, so that no state of the old
        one is left here.
    inferences : In(inference_port)
    program : Out(program_port)
    scan : Out(scan_port)
    quiet : In(1)
        Every beat of the layer is on its way to an accumulator at least, see `Gather`.
    drain : Out(drain_port)
        To the drain, for the layer that was scanned.
    """

    settle_cycles = 2
    """Cycles after ``start`` before a layer can end: the states SETTLE and SETTLE ON."""

    def __init__(self, config):
        self.config = config
        super().__init__({
            "loaded": In(1),
            "layers": In(range(config.program_depth + 1)),
            "inferences": In(inference_port()),
            "program": Out(program_port(config)),
            "scan": Out(scan_port(config)),
            "quiet": In(1),
            "drain": Out(drain_port(config)),
        })

    def elaborate(self, platform):
        m = Module()
        program, drain, inferences, start = self.program, self.drain, self.inferences, self.scan.start
        layer = Signal(descriptor_layout(self.config))
        # The comparisons are registered: the number of layers left changes some cycles before they are needed.
        layers_left, last, last_but_one = Signal.like(self.layers), Signal(), Signal()
        m.d.sync += [last.eq(layers_left == 1), last_but_one.eq(layers_left == 2)]

        # Registered, since `start` has a large fan-out and the drain is far away. `free`: only `quiet` is missing for
        # the layer to end. `goes_on`: the same, and another layer follows. `awaits`: there is an image to run.
        free, goes_on, awaits, switch = Signal(), Signal(), Signal(), Signal()
        clears = Signal()
        m.d.comb += [
            switch.eq(free & self.quiet), start.eq((awaits & inferences.run) | (goes_on & self.quiet)),
            drain.clear.eq(clears), drain.start.eq(clears | (switch & ~field_or_zero(layer, "hold_sums"))),
            drain.layer.eq(layer), self.scan.layer.eq(layer), self.scan.next.eq(program.next),
        ]
        m.d.sync += [free.eq(0), goes_on.eq(0), awaits.eq(0), clears.eq(0)]

        def end_when_free():
            """Lets the layer end from the next cycle on, unless the drain or the program is busy."""
            ends = ~drain.busy & ~program.busy
            m.d.sync += [free.eq(ends), goes_on.eq(ends & ~last)]

        with m.FSM() as fsm:
            with m.State("WAIT IMAGE"):
                m.d.comb += program.rewind.eq(1)
                with m.If(self.loaded):
                    m.d.sync += clears.eq(1)
                    m.next = "CLEAR"
            with m.State("CLEAR"):
                # After power-up the accumulators hold arbitrary values; later they hold sums of the previous image,
                # whose program may have drained too few of them. From here on every drain leaves zeros.
                m.next = "CLEAR ON"
            with m.State("CLEAR ON"):
                with m.If(~drain.busy):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += program.fetch.eq(~program.busy)
                m.d.sync += layers_left.eq(self.layers)
                m.next = "FETCH ON"
            with m.State("FETCH ON"):
                with m.If(~program.busy):
                    m.d.comb += program.load_tables.eq(1)
                    m.next = "LOAD TABLES"
            with m.State("LOAD TABLES"):
                with m.If(~program.busy):
                    m.next = "WAIT RUN"
            with m.State("WAIT RUN"):
                m.d.sync += awaits.eq(1)
                with m.If(start):
                    m.d.comb += program.fetch.eq(~last)
                    m.d.sync += awaits.eq(0)
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                # `quiet` still shows the state before `start`.
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
                        m.d.comb += [program.load_tables.eq(1), program.fetch.eq(~last_but_one)]
                        m.next = "SETTLE"
            with m.State("DRAIN"):
                with m.If(~drain.busy):
                    m.d.comb += program.rewind.eq(1)
                    m.next = "FETCH"
        with m.If(start):
            m.d.sync += layer.eq(program.next)

        m.d.comb += [
            inferences.ready.eq(awaits & self.loaded),
            inferences.running.eq(fsm.ongoing("SETTLE") | fsm.ongoing("SETTLE ON") | fsm.ongoing("SCAN")
                            | fsm.ongoing("DRAIN")),
            inferences.settled.eq(inferences.ready | inferences.running | (fsm.ongoing("WAIT IMAGE") & ~self.loaded)),
        ]
        return m
