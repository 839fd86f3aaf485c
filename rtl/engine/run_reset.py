# SPDX-License-Identifier: Apache-2.0
"""The reset of all units that take part in an inference."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RunReset"]


class RunReset(wiring.Component):
    """Resets when the image in the memories becomes invalid: another one replaces it, or the watchdog has dropped it.

    So nothing of an image reaches an inference of a later one.

    Members
    -------
    loaded : In(1)
        A whole image is in the memories.
    reset : Out(1)
        Registered, because it has a large fan-out.
    """

    def __init__(self):
        super().__init__({"loaded": In(1), "reset": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        was_loaded = Signal()
        m.d.sync += [was_loaded.eq(self.loaded), self.reset.eq(was_loaded & ~self.loaded)]
        return m
