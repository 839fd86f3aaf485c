# SPDX-License-Identifier: Apache-2.0
"""The engine: a table of contents of the data path."""

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.layouts import beat_layout, counters_layout
from rtl.structure import broadcast_cycles

from .activations import ActivationMemory
from .broadcast import Broadcast
from .cluster import Cluster
from .commands import Commands
from .control import ControlTree
from .counters import Counters
from .fan_out import FanOut
from .gather import Gather
from .link import Link
from .load_tree import LoadTree
from .loader import Loader
from .program import Program
from .run_reset import RunReset
from .scanner import Scanner
from .sequencer import Sequencer
from .variants import variant
from .watchdog import Watchdog

__all__ = ["Engine"]


class Engine(wiring.Component):
    """A sparse neural-network engine behind a byte link, see `rtl.protocol`.

    Parameters
    ----------
    config : EngineConfig
    observed : bool
        Whether the engine has the outputs from ``last`` on.
    gap_bits : int
        See `Link`; with it the engine has the input ``lost``.

    Members
    -------
    rx : In(stream.Signature(8)), tx : Out(stream.Signature(8))
    lost : In(1)
        See `Link`.
    busy : Out(1)
        1 from the first byte of a packet to the last of its response.
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
        m.submodules.load_tree = load_tree = LoadTree(config)
        m.submodules.run_reset = run_reset = RunReset()
        # Active during an inference and between inferences.
        m.submodules.acts = acts = ActivationMemory(config)
        m.submodules.writer = writer = variant(config).writer(config)
        m.submodules.fan_out = fan_out = FanOut(config)
        m.submodules.gather = gather = Gather(config)
        m.submodules.counter_bank = counters = Counters(config)
        m.submodules.watchdog = watchdog = Watchdog(config)

        # Run time, in the order in which an activation passes; these units have a reset of their own.
        def run(name, component):
            m.submodules[name] = DomainRenamer("run")(component)
            return component

        m.domains.run = ClockDomain(local=True)
        m.d.comb += [ClockSignal("run").eq(ClockSignal()), ResetSignal("run").eq(run_reset.reset)]
        program = run("program", Program(config))
        sequencer = run("sequencer", Sequencer(config))
        scanner = run("scanner", Scanner(config))
        broadcast = run("broadcast", Broadcast(beat_layout(config), config.clusters, broadcast_cycles(config)))
        control = run("control", ControlTree(config))
        clusters = [run(f"cluster_{number}", Cluster(config)) for number in range(config.clusters)]
        drain = run("drain", variant(config).drain(config))

        self._connect_outside(m, link, commands, loader, sequencer)
        # Link -> commands -> loader -> memories.
        connect(m, link.requests, commands.requests)
        connect(m, commands.image, loader.image)
        connect(m, loader.write, load_tree.write)
        connect(m, load_tree.program, program.load)
        # Commands -> sequencer -> the units that it controls.
        connect(m, commands.inferences, sequencer.inferences)
        connect(m, sequencer.program, program.sequencer)
        connect(m, sequencer.scan, scanner.scan, fan_out.scan)
        connect(m, sequencer.drain, drain.sequencer)
        # The activation memory, its scanner and its writer.
        connect(m, scanner.memory, acts.read)
        connect(m, scanner.beats, broadcast.i)
        connect(m, scanner.beats, counters.beats)
        connect(m, drain.progress, scanner.progress)
        connect(m, drain.writer, writer.drain)
        connect(m, writer.memory, acts.write)
        connect(m, commands.writes, writer.host)
        connect(m, commands.reads, scanner.host)
        # To and from the clusters.
        connect(m, program.tables, control.tables)
        connect(m, drain.steps, control.steps)
        for number, cluster in enumerate(clusters):
            connect(m, load_tree.clusters[number], cluster.load)
            connect(m, fan_out.clusters[number], cluster.settings)
            connect(m, broadcast.o[number], cluster.beats)
            connect(m, cluster.acts, writer.clusters[number])
            connect(m, cluster.report, gather.clusters[number], counters.clusters[number])
            m.d.comb += cluster.control.eq(control.clusters[number])
        m.d.comb += [
            # Whether there is an image.
            commands.loaded.eq(loader.loaded), run_reset.loaded.eq(loader.loaded),
            sequencer.loaded.eq(loader.loaded), sequencer.layers.eq(loader.layers),
            # Synchronisation of the units.
            gather.done.eq(scanner.done), gather.empty.eq(broadcast.empty), sequencer.quiet.eq(gather.quiet),
            scanner.stop.eq(gather.stop), scanner.fresh.eq(writer.drained),
            control.reading.eq(drain.reading), fan_out.requant.eq(drain.requant),
            # Performance counters.
            counters.running.eq(sequencer.inferences.running), counters.clear.eq(commands.inferences.run),
            counters.stalled.eq(scanner.stalled), counters.reading.eq(drain.reading),
            commands.counters.eq(counters.counts),
            # The watchdog stops inferences that have gone wrong.
            watchdog.running.eq(sequencer.inferences.running), watchdog.cycles.eq(counters.cycles),
            watchdog.limit.eq(loader.cycle_limit), watchdog.clear.eq(commands.inferences.run),
            loader.drop.eq(watchdog.bite), commands.timed_out.eq(watchdog.timed_out),
        ]
        return m

    def _connect_outside(self, m, link, commands, loader, sequencer):
        """The engine's own members."""
        connect(m, flipped(self.rx), link.rx)
        connect(m, link.tx, flipped(self.tx))
        m.d.comb += [self.busy.eq(link.busy), self.running.eq(sequencer.inferences.running)]
        if self.gap_bits:
            m.d.comb += link.lost.eq(self.lost)
        if self.observed:
            m.d.comb += [self.last.eq(link.last), self.loaded.eq(loader.loaded),
                         self.last_status.eq(link.last_status), self.counters.eq(commands.counters)]
