# SPDX-License-Identifier: Apache-2.0
"""A processing element: the way from a broadcast activation to an output activation."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import ceil_log2

from .accumulate import Accumulator
from .codebook import Codebook
from .entries import EntryMemory
from .layouts import (
    beat_layout,
    beats_in_flight,
    codebook_write_layout,
    drain_step_layout,
    job_layout,
    memory_write_layout,
    requant_layout,
    tap_write_layout,
)
from .queue import Queue
from .requantize import Requantizer
from .scatter import ScatterWalker
from .slices import SliceLookup
from .walker import Walker

__all__ = ["ProcessingElement", "control_layout", "layer_layout"]


def layer_layout(config):
    """What a PE must know of the layer that runs."""
    return data.StructLayout({
        "slice_base": ceil_log2(config.slice_depth),
        "entry_base": ceil_log2(config.entry_depth),
        "index_mode": 2,
        "plane_offsets": data.ArrayLayout(16, 3),
        **({"tap_bits": 2} if config.tap_bits else {}),
    })


def control_layout(config):
    """What the sequencer tells all PEs in each cycle."""
    return data.StructLayout({
        "hold": 1,                  # the walkers wait: the drain runs, or the tables are not there yet
        "drain": 1,
        "drain_step": drain_step_layout(config),
        "write_codebook": 1,
        "codebook": codebook_write_layout(config),
        **({"write_taps": 1, "taps": tap_write_layout(config)} if config.tap_bits else {}),
    })


class ProcessingElement(wiring.Component):
    """Slice lookup, queue, walker, codebook, multiplication, accumulation and requantisation of the PE's own rows.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    load : In(memory_write_layout), load_slices : In(1), load_planes : In(planes)
        A word of the image, and which of the PE's memories it is for, if any.
    start : In(1), layer : In(layer_layout), requant : In(requant_layout)
        The layer that is scanned, and the constants of the one that drains.
    beats : In(beat_layout), beats_valid : In(1)
    control : In(control_layout)
    act : Out(act_bits), act_valid : Out(1)
        Output activation of the row that was drained, in order.
    full : Out(1)
        The queue has room only for what is under way. Registered.
    idle : Out(1)
        Every entry of every beat so far has reached the accumulator. Registered.
    useful : Out(1), dropped : Out(1)
        For the performance counters: a multiplication, an empty slice.
    """

    drain_cycles = 1 + Accumulator.latency_cycles + Requantizer.latency_cycles
    """From the drain's step to the activation."""

    def __init__(self, config):
        self.config = config
        super().__init__({
            "load": In(memory_write_layout(config)),
            "load_slices": In(1),
            "load_planes": In(len(config.plane_bits)),
            "start": In(1),
            "layer": In(layer_layout(config)),
            "requant": In(requant_layout()),
            "beats": In(beat_layout(config)),
            "beats_valid": In(1),
            "control": In(control_layout(config)),
            "act": Out(config.act_bits),
            "act_valid": Out(1),
            "full": Out(1),
            "idle": Out(1),
            "useful": Out(1),
            "dropped": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.lookup = lookup = SliceLookup(config)
        m.submodules.queue = queue = Queue(job_layout(config), config.queue_depth)
        m.submodules.entries = entries = EntryMemory(config)
        m.submodules.walker = walker = (ScatterWalker if config.tap_bits else Walker)(config)
        m.submodules.codebook = codebook = Codebook(config)
        m.submodules.accumulator = accumulator = Accumulator(config)
        m.submodules.requantizer = requantizer = Requantizer(config)

        # Copies of what all PEs share, close by; `keep` stops synthesis from merging them again.
        layer = Signal(layer_layout(config), reset_less=True, attrs={"keep": 1})
        requant = Signal(requant_layout(), reset_less=True, attrs={"keep": 1})
        m.d.sync += [layer.eq(self.layer), requant.eq(self.requant), lookup.start.eq(self.start)]

        m.d.comb += [
            lookup.load.eq(self.load), lookup.load_valid.eq(self.load_slices),
            lookup.slice_base.eq(layer.slice_base),
            lookup.entry_base.eq(layer.entry_base),
            lookup.beats.eq(self.beats), lookup.beats_valid.eq(self.beats_valid),
            queue.i.payload.eq(lookup.jobs), queue.i.valid.eq(lookup.jobs_valid),
        ]
        connect(m, queue.o, walker.jobs)

        # The entry memory serves the walker, and the drain while the walker holds.
        take_row, keep = Signal(), Signal(reset_less=True)
        drain, step = self.control.drain, self.control.drain_step
        m.d.comb += [
            entries.load.eq(self.load), entries.load_planes.eq(self.load_planes),
            entries.index_mode.eq(layer.index_mode),
            entries.plane_offsets.eq(layer.plane_offsets),
            entries.address.eq(Mux(drain, step.bias_address, walker.address)),
            entries.read.eq(drain | walker.read),
            walker.hold.eq(self.control.hold),
            walker.index_mode.eq(layer.index_mode),
            walker.word.eq(entries.word),
        ]
        if config.tap_bits:
            m.d.comb += [walker.tap_bits.eq(layer.tap_bits), walker.taps.eq(self.control.taps),
                         walker.taps_valid.eq(self.control.write_taps), accumulator.keep.eq(keep)]

        # Multiply: the weight comes out of the codebook a cycle after the visit.
        act, product = Signal(signed(config.operand_bits), reset_less=True), \
            Signal(signed(config.operand_bits + config.weight_bits), reset_less=True)
        visit_row = Signal.like(walker.visits.row, reset_less=True)
        visit_valid = Signal()
        m.d.comb += [
            codebook.write.eq(self.control.codebook), codebook.write_valid.eq(self.control.write_codebook),
            codebook.code.eq(walker.visits.code),
        ]
        m.d.sync += [
            act.eq(walker.visits.act), visit_row.eq(walker.visits.row), visit_valid.eq(walker.visits_valid),
            product.eq(codebook.weight * act),
        ]

        # Accumulate products, or drain a row with its bias, whose words arrive least significant first. They come from
        # registers, since the memory is slow; so does the row.
        draining = Signal()
        drain_row = Signal.like(step.row, reset_less=True)
        bias, arrived = [], entries.raw
        for number in range(config.bias_words):
            word = Signal(config.entry_word_bits, name=f"bias_word_{number}", reset_less=True)
            m.d.sync += word.eq(arrived)
            bias.insert(0, word)
            arrived = word
        if config.tap_bits:
            m.d.sync += keep.eq(step.keep)
        m.d.sync += [take_row.eq(drain & step.bias_last), drain_row.eq(step.row), draining.eq(take_row)]
        m.d.comb += [
            accumulator.row.eq(Mux(take_row, drain_row, visit_row)),
            accumulator.valid.eq(take_row | visit_valid),
            accumulator.drain.eq(take_row),
            accumulator.term.eq(Mux(draining, Cat(bias)[:config.acc_bits].as_signed(), product)),
            requantizer.layer.eq(requant),
            requantizer.total.eq(accumulator.total), requantizer.total_valid.eq(accumulator.total_valid),
            self.act.eq(requantizer.act), self.act_valid.eq(requantizer.act_valid),
        ]

        m.d.sync += [
            self.full.eq(queue.level >= config.queue_depth - beats_in_flight(config)),
            self.idle.eq(lookup.empty & (queue.level == 0) & walker.empty),
            self.useful.eq(walker.visits_valid),
            self.dropped.eq(lookup.dropped),
        ]
        return m
