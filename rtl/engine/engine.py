# SPDX-License-Identifier: Apache-2.0
"""The engine: a table of contents of the data path."""

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, Mux, ResetSignal, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.image_format import SectionKind
from rtl.layouts import beat_layout, cluster_write_layout, counters_layout
from rtl.protocol import COUNTERS
from rtl.structure import broadcast_cycles, counter_bits, forwards

from .activations import ActivationMemory
from .broadcast import Broadcast
from .cluster import Cluster, cluster_layout
from .commands import Commands
from .drain import Drain
from .gather import Gather
from .link import Link
from .loader import Loader
from .pe import control_flags, control_layout
from .pooling import MaxPool
from .program import Program
from .scanner import Scanner
from .sequencer import Sequencer
from .watchdog import Watchdog

__all__ = ["Engine"]


class Engine(wiring.Component):
    """A sparse neural-network engine behind a byte link, see `rtl.protocol`.

    Parameters
    ----------
    config : EngineConfig
    observed : bool
        Has the outputs from ``last`` on.
    gap_bits : int
        See `Link`; with it the engine has the input ``lost``.

    Members
    -------
    rx : In(stream.Signature(8)), tx : Out(stream.Signature(8))
    lost : In(1)
        See `Link`.
    busy : Out(1)
        From the first byte of a packet to the last of its response.
    running : Out(1)
        An inference runs.
    last : Out(1)
        The byte on ``tx`` is the last of its response.
    loaded : Out(1)
        A whole image is in the memories.
    last_status : Out(8)
        `Status` of the newest response; OK after a reset.
    counters : Out(counters_layout)
        `COUNTERS` of the newest inference; they count while it runs.
    """

    def __init__(self, config, *, observed=False, gap_bits=0):
        self.config, self.observed, self.gap_bits = config, observed, gap_bits
        super().__init__({
            "rx": In(stream.Signature(8)),
            "tx": Out(stream.Signature(8)),
            "busy": Out(1),
            "running": Out(1),
            **({"lost": In(1)} if gap_bits else {}),
            **({"last": Out(1), "loaded": Out(1), "last_status": Out(8),
                "counters": Out(counters_layout())} if observed else {}),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        # Load time.
        m.submodules.link = link = Link(config.packet_bytes, observed=self.observed, gap_bits=self.gap_bits)
        m.submodules.commands = commands = Commands(config)
        m.submodules.loader = loader = Loader(config)
        m.submodules.load = load = Broadcast(cluster_write_layout(config), config.clusters, self._load_cycles())
        m.submodules.acts = acts = ActivationMemory(config)
        m.submodules.watchdog = watchdog = Watchdog(config)

        # Run time, in the order in which an activation passes: with a reset of its own.
        def run(name, component):
            m.submodules[name] = DomainRenamer("run")(component)
            return component

        self._add_run_domain(m, loader)
        program = run("program", Program(config))
        sequencer = run("sequencer", Sequencer(config))
        scanner = run("scanner", Scanner(config))
        broadcast = run("broadcast", Broadcast(beat_layout(config), config.clusters, broadcast_cycles(config)))
        control = run("control", Broadcast(control_layout(config), config.clusters, broadcast_cycles(config),
                                           resets=control_flags(config)))
        clusters = [run(f"cluster_{number}", Cluster(config)) for number in range(config.clusters)]
        drain = run("drain", Drain(config))

        connect(m, flipped(self.rx), link.rx)
        connect(m, link.tx, flipped(self.tx))
        if self.gap_bits:
            m.d.comb += link.lost.eq(self.lost)
        m.d.comb += [self.busy.eq(link.busy), self.running.eq(sequencer.running)]
        if self.observed:
            m.d.comb += [self.last.eq(link.last), self.loaded.eq(loader.loaded),
                         self.last_status.eq(link.last_status), self.counters.eq(commands.counters)]
        self._connect_load(m, link, commands, loader, program, load, clusters)
        self._connect_control(m, loader, commands, program, sequencer, scanner, broadcast, drain, clusters)
        self._connect_acts(m, commands, sequencer, acts, scanner, drain, clusters)
        self._connect_clusters(m, program, sequencer, scanner, broadcast, control, drain, clusters)
        cycles = self._count(m, commands, sequencer, scanner, drain, clusters)
        self._watch(m, loader, commands, sequencer, watchdog, cycles)
        return m

    def _add_run_domain(self, m, loader):
        """The domain of all that an inference goes through: the clock of the others, with a reset of its own.

        It is reset when the image in the memories becomes invalid, be it that another one replaces it or that the
        watchdog has stopped it: nothing of an image reaches an inference of a later one.
        """
        m.domains.run = ClockDomain(local=True)
        # A register, since it leads everywhere.
        reset, was_loaded = Signal(init=1), Signal(name="was_loaded")
        m.d.sync += [was_loaded.eq(loader.loaded), reset.eq(was_loaded & ~loader.loaded)]
        m.d.comb += [ClockSignal("run").eq(ClockSignal()), ResetSignal("run").eq(reset)]

    def _watch(self, m, loader, commands, sequencer, watchdog, cycles):
        """The watchdog stops inferences that have gone wrong."""
        m.d.comb += [
            watchdog.running.eq(sequencer.running), watchdog.cycles.eq(cycles),
            watchdog.limit.eq(loader.cycle_limit), watchdog.clear.eq(commands.run),
            loader.drop.eq(watchdog.bite), commands.timed_out.eq(watchdog.timed_out),
        ]

    def _connect_load(self, m, link, commands, loader, program, load, clusters):
        """Link -> commands -> loader -> memories."""
        connect(m, link.payload, commands.payload)
        connect(m, commands.body, link.body)
        connect(m, commands.image, loader.bytes)
        config, write = self.config, loader.write
        m.d.comb += [
            commands.request.eq(link.request), commands.opcode.eq(link.opcode), commands.length.eq(link.length),
            link.respond.eq(commands.respond), link.status.eq(commands.status),
            link.response_bytes.eq(commands.response_bytes),
            loader.begin.eq(commands.image_begin),
            commands.image_offset.eq(loader.offset), commands.image_status.eq(loader.status),
            commands.loaded.eq(loader.loaded),
            load.i.address.eq(write.address), load.i.word.eq(write.word), load.i.place.eq(write.pe),
            load.i_valid.eq(loader.write_valid),
        ]
        m.d["sync" if config.clusters > 1 else "comb"] += [program.load.eq(write),
                                                           program.load_valid.eq(loader.write_valid)]
        # The kind of a section is there long before its first word.
        m.d.sync += [
            load.i.slices.eq(write.kind == SectionKind.SLICES.value),
            load.i.planes.eq(Cat(write.kind == SectionKind.ENTRIES.value + plane
                                 for plane in range(len(config.plane_bits)))),
        ]
        # Whose the word is goes beside it, register by register.
        place_bits = len(load.i.place)
        for number, cluster in enumerate(clusters):
            own = loader.write_valid & (write.pe[place_bits:] == number)
            for stage in range(self._load_cycles()):
                valid = Signal(name=f"load_{number}_{stage}", attrs={"keep": 1})
                m.d.sync += valid.eq(own)
                own = valid
            m.d.comb += [cluster.load.eq(load.o[number]), cluster.load_valid.eq(own)]

    def _load_cycles(self):
        """Registers to the clusters of the image's words, which are several cycles apart: another one yet."""
        return self._unhurried_cycles() + (self.config.clusters > 1)

    def _unhurried_cycles(self):
        """Registers to the clusters of what has time: one more than for the beats, since their wires are long."""
        return broadcast_cycles(self.config) + (self.config.clusters > 1)

    def _connect_control(self, m, loader, commands, program, sequencer, scanner, broadcast, drain, clusters):
        """The sequencer and those whom it directs."""
        m.submodules.gather = gather = Gather(self.config)
        m.d.comb += [
            gather.full.eq(Cat(cluster.full for cluster in clusters)), scanner.stop.eq(gather.stop),
            gather.idle.eq(Cat(cluster.idle for cluster in clusters)), sequencer.quiet.eq(gather.quiet),
            gather.done.eq(scanner.done), gather.empty.eq(broadcast.empty),
            sequencer.loaded.eq(loader.loaded), sequencer.layers.eq(loader.layers),
            sequencer.run.eq(commands.run),
            commands.running.eq(sequencer.running), commands.ready.eq(sequencer.ready),
            commands.settled.eq(sequencer.settled),
            sequencer.next.eq(program.next), sequencer.program_busy.eq(program.busy),
            program.rewind.eq(sequencer.rewind), program.fetch.eq(sequencer.fetch),
            program.load_tables.eq(sequencer.load_tables),
            drain.start.eq(sequencer.drain_start), drain.clear.eq(sequencer.drain_clear),
            drain.layer.eq(sequencer.layer), sequencer.drain_busy.eq(drain.busy),
        ]
        # All clusters' activations come at once.
        m.d.sync += drain.arrived.eq(clusters[0].acts_coming)

    def _connect_acts(self, m, commands, sequencer, acts, scanner, drain, clusters):
        """The activation memory: between the layers, and between the host and the first and last of them."""
        cluster_pes = self.config.cluster_pes
        # PEs that share a requantiser come one after the other: their lanes move down.
        share = self.config.pes_per_requantizer
        write_word = Signal.like(acts.write_word, name="write_word", reset_less=True)
        turns = Signal.like(write_word) if self.config.tap_bits else write_word
        drained = Cat(turns.word_select(lane + 1, self.config.act_bits) if (lane + 1) % share
                      else clusters[lane // cluster_pes].acts[lane % cluster_pes // share]
                      for lane in range(self.config.pes))
        if self.config.tap_bits:
            m.d.sync += turns.eq(drained)
            m.submodules.pool = pool = MaxPool(self.config)
            m.d.comb += [
                pool.start.eq(sequencer.drain_start), pool.pool.eq(sequencer.layer.pool),
                pool.activation.eq(drain.requant.activation), pool.drained.eq(drained), pool.arrived.eq(drain.arrived),
                drain.complete.eq(pool.valid), scanner.layer.eq(sequencer.layer),
            ]
            word = pool.word.as_value()
            drained = Mux(drain.swap, word.rotate_left(len(word) // 2), word)
        else:
            m.d.comb += drain.complete.eq(drain.arrived)
            if forwards(self.config):
                m.d.comb += scanner.fresh.eq(drained)
        # A register before the memory: the scanner learns of a word that is written no sooner than it can be read.
        # A word from the link gathers in it. What it takes, if anything, is known from the cycle before: that leads to
        # all lanes. A drain is busy for some cycles before its first word, and the link's bytes are as late.
        write, takes, drains, gathered, byte = Signal(), Signal(), Signal(), Signal(), Signal(8, reset_less=True)
        link_address, write_address = (Signal.like(one, name=name, reset_less=True) for name, one in (
            ("link_address", commands.address), ("write_address", acts.write_address)))
        m.d.sync += [
            takes.eq(drain.busy | commands.shift), drains.eq(drain.busy),
            gathered.eq(commands.write), byte.eq(commands.act_byte), link_address.eq(commands.address),
            write.eq(drain.write | gathered), write_address.eq(Mux(drains, drain.address, link_address)),
        ]
        with m.If(takes):
            m.d.sync += write_word.eq(Mux(drains, drained, Cat(write_word[8:], byte)))
        m.d.comb += [
            acts.write.eq(write), acts.write_address.eq(write_address), acts.write_word.eq(write_word),
            acts.read.eq(scanner.read), acts.read_address.eq(scanner.address), scanner.peek.eq(commands.address),
            scanner.word.eq(acts.word), scanner.nonzero.eq(acts.nonzero),
            commands.word.eq(scanner.newest),
            scanner.start.eq(sequencer.start), scanner.next.eq(sequencer.next),
            scanner.grows.eq(drain.grows), scanner.growing.eq(drain.busy | sequencer.drain_start),
        ]

    def _connect_clusters(self, m, program, sequencer, scanner, broadcast, control, drain, clusters):
        """What every cluster is told."""
        to_pes = control.i
        m.d.comb += [
            broadcast.i.eq(scanner.beats), broadcast.i_valid.eq(scanner.beats_valid),
            to_pes.hold.eq(drain.reading | program.tables_busy),
            to_pes.drain.eq(drain.step_valid), to_pes.drain_step.eq(drain.step),
        ]
        # The tables come a cycle after `hold` says that they do: a walker that goes on has no visit for them by then.
        m.d.comb += (to_pes[name].eq(getattr(program, name)) for name in (
            "write_codebook", "codebook", *(("write_taps", "taps") if self.config.tap_bits else ())))
        layer = Signal(cluster_layout(self.config))
        m.d.comb += [layer.slice_base.eq(sequencer.layer.slice_base), layer.entry_base.eq(sequencer.layer.entry_base)]
        m.d.comb += layer.pe.input_signed.eq(sequencer.layer.input_signed)
        planes = len(self.config.plane_bits)
        if planes > 1:
            m.d.comb += [layer.pe.index_mode.eq(sequencer.layer.index_mode),
                         *(layer.pe.plane_offsets[place].eq(sequencer.layer.plane_offsets[place])
                           for place in range(planes - 1))]
        if self.config.tap_bits:
            m.d.comb += layer.pe.tap_bits.eq(sequencer.layer.tap_bits)
        # It is there before the layer's first beat, and the row that is requantised.
        told = {"start": [sequencer.start], "layer": [layer], "requant": [drain.requant]}
        for name, copies in told.items():
            for left in reversed(range(self._unhurried_cycles() - (name != "start"))):
                # Each four clusters have the last one for themselves.
                later = [Signal.like(copies[0], name=f"{name}_{left}_{number}", reset_less=name != "start",
                                     attrs={"keep": 1})
                         for number in range(1 if left else -(-len(clusters) // 4))]
                m.d.sync += [one.eq(copies[0]) for one in later]
                copies = told[name] = later
        for number, cluster in enumerate(clusters):
            m.d.comb += [
                *(getattr(cluster, name).eq(copies[number * len(copies) // len(clusters)])
                  for name, copies in told.items()),
                cluster.beats.eq(broadcast.o[number]), cluster.beats_valid.eq(broadcast.o_valid[number]),
                cluster.control.eq(control.o[number]),
            ]

    def _count(self, m, commands, sequencer, scanner, drain, clusters):
        """Performance counters; they hold their values after an inference and start anew with the next.

        Returns
        -------
        Signal(counter_bits)
            The one of the cycles.
        """
        # Events are summed in three steps, first those of a cluster; so the counters run on for as many cycles.
        ends = Signal(3)
        m.d.sync += ends.eq(Cat(sequencer.running, ends))
        events = {
            "cycles": [sequencer.running],
            "beats": [scanner.beats_valid],
            "broadcasts": [scanner.beats_valid & scanner.beats.present],
            "useful_macs": [cluster.useful for cluster in clusters],
            "dropped_slices": [cluster.dropped for cluster in clusters],
            "stall_cycles": [scanner.stalled],
            "drain_cycles": [drain.reading],
        }
        counters = {name: Signal(counter_bits(self.config), name=name) for name in COUNTERS}
        for name, counter in counters.items():
            parts = []
            for first in range(0, len(events[name]), 4):
                total = sum(events[name][first:first + 4])
                part = Signal.like(total, name=f"{name}_{first}")
                m.d.sync += part.eq(total)
                parts.append(part)
            amount = Signal.like(sum(parts), name=f"{name}_now")
            m.d.sync += amount.eq(sum(parts))
            m.d.comb += commands.counters[name].eq(counter)
            with m.If(commands.run):
                m.d.sync += counter.eq(0)
            with m.Elif(sequencer.running | ends.any()):
                m.d.sync += counter.eq(counter + amount)
        return counters["cycles"]
