# SPDX-License-Identifier: Apache-2.0
"""A processing element: the way from a slice of a broadcast activation to the totals of the PE's rows."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import ceil_log2

from rtl.layouts import codebook_write_layout, drain_step_layout, job_layout, memory_write_layout, tap_write_layout

from .accumulate import Accumulator
from .backpressure import job_queue_limit, jobs_under_way
from .codebook import Codebook
from .entries import EntryMemory
from .queue import Queue
from .scatter import engine_walker

__all__ = ["ProcessingElement", "control_flags", "control_layout", "job_queue", "layer_layout"]


def layer_layout(config):
    """What a PE must know of the layer that runs."""
    planes = len(config.plane_bits)
    return data.StructLayout({
        "input_signed": 1,
        **({"index_mode": ceil_log2(planes),
            "plane_offsets": data.ArrayLayout(ceil_log2(config.entry_depth), planes - 1)} if planes > 1 else {}),
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


def control_flags(config):
    """Fields of the control that make something happen; the others mean nothing without them."""
    return ("hold", "drain", "write_codebook", *(("write_taps",) if config.tap_bits else ()))


def job_queue(config):
    """The queue of slices before a walker."""
    limit = job_queue_limit(config)
    return Queue(job_layout(config), config.queue_depth, limit=limit, most=limit + jobs_under_way(config),
                 block_ram=not config.deep_pipeline, bypass=config.hurried)


class ProcessingElement(wiring.Component):
    """Queue, walker, codebook, multiplication and accumulation of the PE's own rows.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    load : In(memory_write_layout), load_planes : In(planes)
        A word of the image, and which plane of the entry memory it is for, if any.
    layer : In(layer_layout)
        The layer that is scanned.
    jobs : In(job_layout), jobs_valid : In(1)
        Slices; see `SliceLookup`.
    control : In(control_layout)
    total : Out(signed(acc_bits)), total_valid : Out(1)
        A row that was drained, with its bias; the total stays until the next one.
    full : Out(1), empty : Out(1)
        The queue has room for slices that are under way, and for no others; every entry of every slice so far is on its
        way to the accumulator.
    useful : Out(1)
        For the performance counters: a multiplication.
    """

    @staticmethod
    def total_cycles(config):
        """From the drain's step that completes a row to the row's total: the row's register, and the accumulator."""
        return config.deep_pipeline + Accumulator.latency_cycles(config)

    def __init__(self, config):
        self.config = config
        super().__init__({
            "load": In(memory_write_layout(config)),
            "load_planes": In(len(config.plane_bits)),
            "layer": In(layer_layout(config)),
            "jobs": In(job_layout(config)),
            "jobs_valid": In(1),
            "control": In(control_layout(config)),
            "total": Out(signed(config.acc_bits)),
            "total_valid": Out(1),
            "full": Out(1),
            "empty": Out(1),
            "useful": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.queue = queue = job_queue(config)
        m.submodules.entries = entries = EntryMemory(config)
        m.submodules.walker = walker = engine_walker(config)
        m.submodules.codebook = codebook = Codebook(config)
        m.submodules.accumulator = accumulator = Accumulator(config)

        m.d.comb += [queue.i.eq(self.jobs), queue.i_valid.eq(self.jobs_valid)]
        connect(m, queue.o, walker.jobs)

        # The entry memory serves the walker, and the drain while the walker holds; with a single port either of them.
        take_row, keep = Signal(), Signal(reset_less=True, name="keep")
        drain, step = self.control.drain, self.control.drain_step
        m.d.comb += [
            entries.load.eq(self.load), entries.load_planes.eq(self.load_planes),
            entries.address.eq(walker.address), entries.bias_address.eq(step.bias_address), entries.bias.eq(drain),
            entries.read.eq((drain if config.single_port else 0) | walker.ready),
            entries.take.eq(walker.take),
            walker.word.eq(entries.word),
        ]
        if len(config.plane_bits) > 1:
            m.d.comb += [entries.index_mode.eq(self.layer.index_mode), walker.index_mode.eq(self.layer.index_mode),
                         *(entries.plane_offsets[place].eq(self.layer.plane_offsets[place])
                           for place in range(len(config.plane_bits) - 1))]
        if config.tap_bits:
            m.d.comb += [walker.tap_bits.eq(self.layer.tap_bits), walker.taps.eq(self.control.taps),
                         walker.taps_valid.eq(self.control.write_taps), accumulator.keep.eq(keep)]

        # Multiply: the weight comes out of the codebook a cycle after the visit. In a deep pipeline the product is a
        # register, and so is the row, to come a cycle before it.
        domain = "sync" if config.deep_pipeline else "comb"
        act, product = Signal(signed(config.operand_bits), reset_less=True), \
            Signal(signed(config.operand_bits + config.weight_bits), reset_less=True, name="product")
        row = Signal.like(walker.visits.row, reset_less=True)
        visit_valid = Signal()
        m.d.comb += [
            codebook.write.eq(self.control.codebook), codebook.write_valid.eq(self.control.write_codebook),
            codebook.code.eq(walker.visits.code),
        ]
        stored = walker.visits.act
        m.d.sync += act.eq(Cat(stored, self.layer.input_signed & stored[-1]).as_signed())
        m.d[domain] += [visit_valid.eq(walker.visits_valid), product.eq(codebook.weight * act)]

        # Accumulate products, or drain a row with its bias, whose words arrive least significant first: the walker has
        # none then, and takes each. The row passes as many registers as its bias.
        draining = Signal()
        bias = [entries.raw]
        for number in range(config.bias_words - 1):
            word = Signal(config.entry_word_bits, name=f"bias_word_{number}", reset_less=True)
            m.d.sync += word.eq(bias[0])
            bias.insert(0, word)
        if config.tap_bits:
            m.d[domain] += keep.eq(step.keep)
        takes = drain & step.bias_last
        m.d[domain] += [take_row.eq(takes), row.eq(Mux(takes, step.row, walker.visits.row))]
        m.d.sync += draining.eq(take_row)
        # With few registers the first sum after a drain would come before the last total's turn at a requantiser.
        m.d.comb += walker.hold.eq(self.control.hold | (0 if config.deep_pipeline else draining))
        m.d.comb += [
            accumulator.row.eq(row),
            accumulator.valid.eq(take_row | visit_valid),
            accumulator.drain.eq(take_row),
            accumulator.term.eq(Mux(draining, Cat(bias)[:config.acc_bits].as_signed(), product)),
            self.total.eq(accumulator.total), self.total_valid.eq(accumulator.total_valid),
            self.full.eq(queue.full), self.empty.eq(queue.empty & walker.empty),
        ]
        m.d.sync += self.useful.eq(walker.visits_valid)
        return m
