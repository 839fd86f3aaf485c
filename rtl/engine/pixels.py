# SPDX-License-Identifier: Apache-2.0
"""The order of pixels: which word of a feature map the scanner reads next, and where its products go.

``config`` is the engine's `rtl.config.EngineConfig` in all functions here.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rtl.descriptor import descriptor_layout
from rtl.layouts import pixel_fields, position_fields, row_bits

from .order import VectorOrder

__all__ = ["PixelOrder", "Pixels"]


class Pixels(wiring.Component):
    """Goes through the words of each pixel, the pixels of each row, and the rows that a pass scans.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    start : In(1), layer : In(descriptor_layout)
        A pass begins. ``layer`` is valid from the next cycle on; the outputs below follow it one cycle later,
        ``offset`` at once.
    step : In(1)
        Advance to the next word.
    offset : Out(16), next_offset : Out(16)
        Offsets of the word, and of the one after it, from the pass's first.
    last : Out(1), wraps : Out(1)
        The pass's last word; the pixel's last word.
    position : Out(position_fields)
        Destination of this pixel's products.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "start": In(1),
            "layer": In(descriptor_layout(config)),
            "step": In(1),
            "offset": Out(16),
            "next_offset": Out(16),
            "last": Out(1),
            "wraps": Out(1),
            "position": Out(data.StructLayout(position_fields(config))),
        })

    def elaborate(self, platform):
        m = Module()
        layer, rows = self.layer, row_bits(self.config)
        word, col, row = Signal(16), Signal(16), Signal(16, name="row")
        pixel_offset, row_offset = Signal(16), Signal(16, name="row_offset")
        x, y = Signal(signed(16)), Signal(signed(16))
        base, row_base = Signal(rows), Signal(rows, name="row_base")
        begin = Signal()
        m.d.sync += begin.eq(self.start)

        last_col, last_row = col + 1 == layer.scan_cols, row + 1 == layer.scan_rows
        m.d.comb += [
            self.wraps.eq(word + 1 == layer.pixel_words),
            self.last.eq(self.wraps & last_col & last_row),
            self.next_offset.eq(Mux(~self.wraps, self.offset + 1,
                                    Mux(~last_col, pixel_offset + layer.pixel_step, row_offset + layer.row_step))),
            self.position.base.eq(base),
            # A negative coordinate is a large number when unsigned, so that one comparison checks both bounds.
            self.position.tap_rows.eq(Cat((y - tap)[:16].as_unsigned() < layer.out_rows
                                          for tap in range(len(self.position.tap_rows)))),
            self.position.tap_cols.eq(Cat((x - tap)[:16].as_unsigned() < layer.out_cols
                                          for tap in range(len(self.position.tap_cols)))),
        ]
        with m.If(self.step):
            m.d.sync += [self.offset.eq(self.next_offset), word.eq(word + 1)]
            with m.If(self.wraps):
                m.d.sync += [word.eq(0), pixel_offset.eq(self.next_offset), col.eq(col + 1), x.eq(x + 1),
                             base.eq(base + layer.output_words)]
                with m.If(last_col):
                    m.d.sync += [row_offset.eq(self.next_offset), col.eq(0), row.eq(row + 1), x.eq(layer.first_x),
                                 y.eq(y + 1), base.eq(row_base + layer.row_pitch),
                                 row_base.eq(row_base + layer.row_pitch)]
        with m.If(begin):
            m.d.sync += [
                pixel_offset.eq(0), row_offset.eq(0), word.eq(0), col.eq(0), row.eq(0),
                x.eq(layer.first_x), y.eq(layer.first_y), base.eq(layer.first_row), row_base.eq(layer.first_row),
            ]
        with m.If(self.start):
            m.d.sync += self.offset.eq(0)
        return m


class PixelOrder(VectorOrder):
    """The words of the pixels that a pass scans, pixel by pixel.

    Members, beside those of `VectorOrder`
    -------
    pixel : Out(StructLayout(pixel_fields))
        Fields that accompany this word.
    """

    start_cycles = 1
    forwards = False
    short_words = True

    def __init__(self, config):
        super().__init__(config, pixel=Out(data.StructLayout(pixel_fields(config))))

    def last_block(self, word, layer):
        """The last block of a word: ``layer.last_block`` in the last word of a pixel, else that of a full word.

        ``word`` is the word in question, ``layer`` the descriptor of the pass.
        """
        return Mux(word.wraps, layer.last_block, super().last_block(word, layer))

    def elaborate(self, platform):
        m = Module()
        new = self.scan.next
        m.submodules.pixels = pixels = Pixels(self.config)
        base, readable = Signal.like(self.address, name="base"), \
            Signal(range(2 * self.config.act_depth + 1), name="readable")
        m.d.comb += [
            pixels.start.eq(self.scan.start), pixels.layer.eq(self.scan.layer), pixels.step.eq(self.step),
            self.following.eq(base + pixels.next_offset), self.last.eq(pixels.last),
            self.pixel.wraps.eq(pixels.wraps),
            *(self.pixel[name].eq(pixels.position[name]) for name in position_fields(self.config)),
        ]
        m.d.sync += [
            readable.eq(readable + self.progress.grows),
            self.there.eq(~self.progress.growing
                          | (Mux(self.step, pixels.next_offset, pixels.offset) < readable)),
        ]
        with m.If(self.scan.start):
            m.d.sync += [base.eq(new.input_base), readable.eq(new.chase_words), self.there.eq(0)]
        return m
