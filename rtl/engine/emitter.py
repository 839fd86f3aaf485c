# SPDX-License-Identifier: Apache-2.0
"""The emitter: sends the non-zero activations of a block, one a cycle.

``config`` is the engine's `rtl.config.EngineConfig` in all functions here.
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.layouts import beat_layout, pixel_fields

from .gates import but_lowest
from .interfaces import flow

__all__ = ["Emitter", "block_layout"]


def block_layout(config):
    """A block: its activations, which of them are not zero, and ``single``: at most one is, one beat is enough."""
    return data.StructLayout({
        "acts": data.ArrayLayout(config.act_bits, config.block_cols), "nonzero": config.block_cols, "single": 1,
        **pixel_fields(config),
    })


class Emitter(wiring.Component):
    """A beat for each non-zero activation, lowest column first; one beat for a block that has none.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    blocks : In(stream.Signature(block_layout))
    stop : In(1)
        Emit nothing.
    beats : Out(flow(beat_layout))
    stalled : Out(1)
        A beat is held back by ``stop``.
    busy : Out(1)
        There is a block, or its last beat.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "blocks": In(stream.Signature(block_layout(config))),
            "stop": In(1),
            "beats": Out(flow(beat_layout(config))),
            "stalled": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, new, beat = self.config, self.blocks.payload, self.beats.payload
        block = Signal.like(new.acts, name="block", reset_less=True)
        position = {name: Signal(shape, name=f"block_{name}", reset_less=True)
                    for name, shape in pixel_fields(config).items()}
        # `pending` marks the activations that are still to be sent; `last`, that the lowest is the last of them, is
        # registered.
        pending, rest = Signal(config.block_cols, reset_less=True), Signal(config.block_cols, name="rest")
        valid, last, emit = Signal(), Signal(), Signal(name="emit")
        with m.If(self.blocks.ready):
            m.d.sync += [valid.eq(self.blocks.valid), block.eq(new.acts), pending.eq(new.nonzero), last.eq(new.single),
                         *(register.eq(new[name]) for name, register in position.items())]
        col, act = Signal(range(config.block_cols)), Signal(config.act_bits, name="act")
        for place in reversed(range(config.block_cols)):
            with m.If(pending[place]):
                m.d.comb += col.eq(place)
        m.d.comb += [
            act.eq(block[col]),
            rest.eq(but_lowest(pending)),
            emit.eq(valid & ~self.stop),
            self.blocks.ready.eq(~valid | (emit & last)),
            self.stalled.eq(valid & self.stop),
            self.busy.eq(valid | self.beats.valid),
        ]
        with m.If(emit & ~last):
            m.d.sync += [pending.eq(rest), last.eq(but_lowest(rest) == 0)]
        m.d.sync += [
            self.beats.valid.eq(emit), beat.act.eq(act), beat.col.eq(col), beat.present.eq(pending != 0),
            beat.last.eq(last), *(beat[name].eq(register) for name, register in position.items()),
        ]
        return m
