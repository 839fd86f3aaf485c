# SPDX-License-Identifier: Apache-2.0
"""The activation writer: assembles words of the activation memory from the clusters' outputs or the host's bytes."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .interfaces import act_write_port, acts_port, host_write_port, word_port

__all__ = ["ActivationWriter"]


class ActivationWriter(wiring.Component):
    """A register before the activation memory, in which a word is assembled.

    A word reaches the memory a cycle later because of it. The scanner allows for that: it reads a word two cycles after
    the drain has announced it, see `progress_port`.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    clusters : In(acts_port).array(clusters)
        Activations of all clusters, which come in the same cycles.
    drain : In(word_port)
    host : In(host_write_port)
        Not while the drain is busy.
    drained : Out(pes * act_bits)
        The word that the drain is about to write.
    memory : Out(act_write_port)
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "clusters": In(acts_port(config)).array(config.clusters),
            "drain": In(word_port(config)),
            "host": In(host_write_port(config)),
            "drained": Out(config.pes * config.act_bits),
            "memory": Out(act_write_port(config)),
        })

    def elaborate(self, platform):
        m = Module()
        word = Signal.like(self.memory.word, name="word", reset_less=True)
        m.d.sync += self.drain.arrived.eq(self.clusters[0].coming)
        m.d.comb += self.drained.eq(self._complete(m, word))
        # The enable of `word` (`takes`) and its select (`drains`) are registered, since they drive all lanes. No word
        # is missed: a drain is busy for some cycles before its first word, and the link's bytes are delayed as well.
        takes, drains, gathered, write, byte = (Signal(width, name=name, reset_less=name == "byte") for name, width in (
            ("takes", 1), ("drains", 1), ("gathered", 1), ("write", 1), ("byte", 8)))
        host_address, address = (Signal.like(self.memory.address, name=name, reset_less=True)
                                 for name in ("host_address", "address"))
        m.d.sync += [
            takes.eq(self.drain.busy | self.host.shift), drains.eq(self.drain.busy),
            gathered.eq(self.host.write), byte.eq(self.host.byte), host_address.eq(self.host.address),
            write.eq(self.drain.write | gathered), address.eq(Mux(drains, self.drain.address, host_address)),
        ]
        with m.If(takes):
            m.d.sync += word.eq(Mux(drains, self.drained, Cat(word[8:], byte)))
        m.d.comb += [self.memory.enable.eq(write), self.memory.address.eq(address), self.memory.word.eq(word)]
        return m

    def _complete(self, m, word):
        """The word to be written, and when it is complete: here with every row."""
        m.d.comb += self.drain.complete.eq(self.drain.arrived)
        return self._lanes(word)

    def _lanes(self, before):
        """A row of all PEs' activations. PEs that share a requantiser deliver theirs in turn: their lanes shift down.

        Parameters
        ----------
        before : Signal
            The register that stores the returned value in each cycle.
        """
        config = self.config
        each, share = config.cluster_pes, config.pes_per_requantizer
        return Cat(before.word_select(lane + 1, config.act_bits) if (lane + 1) % share
                   else self.clusters[lane // each].acts[lane % each // share] for lane in range(config.pes))
