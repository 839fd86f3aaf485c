# SPDX-License-Identifier: Apache-2.0
"""A processing element: the way from a slice of a broadcast activation to the totals of the PE's rows.

``config`` is the engine's `rtl.config.EngineConfig` in all functions here.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.layouts import control_layout, drain_fields, job_layout, memory_write_layout, pe_layer_layout

from .accumulate import Accumulator
from .backpressure import job_queue_limit, jobs_under_way
from .codebook import Codebook
from .entries import EntryMemory
from .interfaces import flow
from .queue import Queue
from .variants import variant

__all__ = ["ProcessingElement", "job_queue"]


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
    layer : In(pe_layer_layout)
        The layer that is scanned.
    jobs : In(flow(job_layout))
        Slices; see `SliceLookup`.
    control : In(control_layout)
    total : Out(signed(acc_bits)), total_valid : Out(1)
        Total of a drained row, its bias included; it stays until the next one.
    full : Out(1)
        The queue is at its limit: it has room only for slices in flight.
    empty : Out(1)
        Every entry of every slice so far is on its way to the accumulator.
    useful : Out(1)
        For the performance counters: a multiplication.
    """

    @staticmethod
    def total_cycles(config):
        """Cycles from the drain's step that completes a row to the row's total: its register, and the accumulator."""
        return config.deep_pipeline + Accumulator.latency_cycles(config)

    def __init__(self, config):
        self.config = config
        super().__init__({
            "load": In(memory_write_layout(config)),
            "load_planes": In(len(config.plane_bits)),
            "layer": In(pe_layer_layout(config)),
            "jobs": In(flow(job_layout(config))),
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
        m.submodules.walker = walker = variant(config).walker(config)
        m.submodules.codebook = codebook = Codebook(config)
        m.submodules.accumulator = accumulator = Accumulator(config)

        connect(m, flipped(self.jobs), queue.i)
        connect(m, queue.o, walker.jobs)
        self._connect_entries(m, entries, walker)
        for name, table in {"codebook": codebook.write, **walker.tables}.items():
            m.d.comb += [table.payload.eq(self.control[name]), table.valid.eq(self.control[f"write_{name}"])]
        product, visit_valid = self._multiply(m, walker.visits, codebook)
        draining = self._accumulate(m, accumulator, entries.raw, walker.visits.payload.row, product, visit_valid)
        m.d.comb += [
            # Without a deep pipeline the first sum after a drain would replace the last total before its turn at the
            # requantiser.
            walker.hold.eq(self.control.hold | (0 if config.deep_pipeline else draining)),
            self.total.eq(accumulator.total), self.total_valid.eq(accumulator.total_valid),
            self.full.eq(queue.full), self.empty.eq(queue.empty & walker.empty),
        ]
        m.d.sync += self.useful.eq(walker.visits.valid)
        return m

    def _connect_entries(self, m, entries, walker):
        """The entry memory serves the walker and, while the walker holds, the drain; with one port, one at a time."""
        drain = self.control.drain
        m.d.comb += [
            entries.load.eq(self.load), entries.load_planes.eq(self.load_planes),
            entries.layer.eq(self.layer), walker.layer.eq(self.layer),
            entries.address.eq(walker.address), entries.bias_address.eq(self.control.drain_step.bias_address),
            entries.bias.eq(drain), entries.read.eq((drain if self.config.single_port else 0) | walker.ready),
            entries.take.eq(walker.take),
            walker.word.eq(entries.word),
        ]

    def _multiply(self, m, visits, codebook):
        """The weight leaves the codebook a cycle after the visit. In a deep pipeline the product is registered.

        Returns
        -------
        product : Signal(signed), visit_valid : Signal(1)
            A product, and its valid bit: a cycle before it in a deep pipeline, with it otherwise.
        """
        config = self.config
        act, product = Signal(signed(config.operand_bits), reset_less=True), \
            Signal(signed(config.operand_bits + config.weight_bits), reset_less=True, name="product")
        visit_valid = Signal()
        stored = visits.payload.act
        m.d.comb += codebook.code.eq(visits.payload.code)
        m.d.sync += act.eq(Cat(stored, self.layer.input_signed & stored[-1]).as_signed())
        m.d["sync" if config.deep_pipeline else "comb"] += [
            visit_valid.eq(visits.valid), product.eq(codebook.weight * act)]
        return product, visit_valid

    def _accumulate(self, m, accumulator, bias_word, visited_row, product, visit_valid):
        """Adds products, or drains a row with its bias: then there is no product, since the walker takes no word.

        Words of a bias arrive least significant first. The row passes the same number of registers as its bias; in a
        deep pipeline it comes a cycle before the product.

        Returns
        -------
        Signal(1)
            A row is drained in this cycle.
        """
        config, step = self.config, self.control.drain_step
        draining, take_row = Signal(), Signal(name="take_row")
        bias = [bias_word]
        for number in range(config.bias_words - 1):
            word = Signal(config.entry_word_bits, name=f"bias_word_{number}", reset_less=True)
            m.d.sync += word.eq(bias[0])
            bias.insert(0, word)
        row = Signal.like(visited_row, name="row", reset_less=True)
        takes, domain = self.control.drain & step.bias_last, "sync" if config.deep_pipeline else "comb"
        m.d[domain] += [take_row.eq(takes), row.eq(Mux(takes, step.row, visited_row))]
        for name, shape in drain_fields(config).items():
            register = Signal(shape, name=name, reset_less=True)
            m.d[domain] += register.eq(step[name])
            m.d.comb += getattr(accumulator, name).eq(register)
        m.d.sync += draining.eq(take_row)
        m.d.comb += [
            accumulator.row.eq(row),
            accumulator.valid.eq(take_row | visit_valid),
            accumulator.drain.eq(take_row),
            accumulator.term.eq(Mux(draining, Cat(bias)[:config.acc_bits].as_signed(), product)),
        ]
        return draining
