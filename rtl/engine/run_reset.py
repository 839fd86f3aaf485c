# SPDX-License-Identifier: Apache-2.0
"""The reset of all that an inference goes through."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RunReset"]


class RunReset(wiring.Component):
    """Resets when the image in the memories becomes invalid: another one replaces it, or the watchdog has stopped it.

    So nothing of an image reaches an inference of a later one.

    Members
    -------
    loaded : In(1)
        A whole image is in the memories.
    reset : Out(1)
        A register, since it leads everywhere.
    """

    def __init__(self):
        super().__init__({"loaded": In(1), "reset": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        was_loaded = Signal()
        m.d.sync += [was_loaded.eq(self.loaded), self.reset.eq(was_loaded & ~self.loaded)]
        return m
