# SPDX-License-Identifier: Apache-2.0
"""The order in which the scanner reads the words of a layer's input, and when each of them is there."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .interfaces import progress_port, scan_port

__all__ = ["VectorOrder"]


class VectorOrder(wiring.Component):
    """The words of a vector, one after the other.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    scan : In(scan_port), progress : In(progress_port)
    step : In(1), forward : In(1)
        ``step``: this word is read, advance to the next one. ``forward``: advance without reading it.
    address : In, following : Out
        Address of this word, and of the next one.
    there : Out(1)
        This word can be read.
    some : Out(1)
        At least one word that can be read is left.
    last : Out(1)
        This is the layer's last word.
    """

    start_cycles = 0
    """Additional cycles before the first word can be read."""

    forwards = True
    """A word that is drained can go on without being read, if the engine has the shortcut (`Scanner.forwards`)."""

    short_words = False
    """A word may end after its first block: then the next one has to follow at once."""

    def __init__(self, config, **members):
        self.config = config
        address = ceil_log2(config.act_depth)
        super().__init__({
            **members,
            "scan": In(scan_port(config)),
            "progress": In(progress_port()),
            "step": In(1),
            "forward": In(1),
            "address": In(address),
            "following": Out(address),
            "there": Out(1),
            "some": Out(1),
            "last": Out(1),
        })

    def last_block(self, word, layer):
        """The last of a word's blocks that is scanned, in this layer.

        Parameters
        ----------
        word : data.View
            With the `pixel_fields`.
        layer : data.View
            Its descriptor.
        """
        return Const(self.config.pes // self.config.block_cols - 1)

    def elaborate(self, platform):
        m = Module()
        config, new = self.config, self.scan.next
        # Words that can be read and have not been read; used while others cannot be read yet.
        ahead = Signal(range(config.act_depth + config.acc_depth + 1))
        left = Signal(range(config.act_depth + 1))
        m.d.comb += [self.following.eq(self.address + 1), self.some.eq(ahead != 0), self.last.eq(left == 1)]
        m.d.sync += [
            ahead.eq(ahead + (self.progress.grows & ~self.forward) - self.step),
            self.there.eq(~self.progress.growing | Mux(self.step, ahead > 1, self.some)),
        ]
        with m.If(self.step | self.forward):
            m.d.sync += left.eq(left - 1)
        with m.If(self.scan.start):
            m.d.sync += [left.eq(new.input_words), ahead.eq(new.chase_words),
                         self.there.eq(~self.progress.growing | (new.chase_words != 0))]
        return m
