# SPDX-License-Identifier: Apache-2.0
"""The loader: takes the image apart, byte by byte, and writes its words to the memories."""

from contextlib import contextmanager

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from .crc import Crc32
from .layouts import (
    DESCRIPTOR_WORD_BITS,
    HEADER_BYTES,
    IMAGE_MAGIC,
    IMAGE_VERSION,
    LIMIT_STEP,
    SECTION_BYTES,
    SectionKind,
    header_layout,
    limit_bits,
    load_write_layout,
    section_layout,
)
from .protocol import Status

__all__ = ["Loader"]


class Loader(wiring.Component):
    """Parses an image.

    The image before it stays valid until a right header has come; from then on none is valid until the last byte, the
    image's CRC-32, is found right. After an error it ignores everything until ``begin``.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    begin : In(1)
        Start over with the next byte.
    bytes : In(stream.Signature(8))
    offset : Out(32)
        Bytes of the image taken since ``begin``; 0 after an error and after the last byte.
    status : Out(Status)
        OK, or what is wrong with the image.
    loaded : Out(1), layers : Out(16), cycle_limit : Out(limit_bits)
        A whole image is in the memories; its number of layers, and the header's limit in units of `LIMIT_STEP`.
    drop : In(1)
        The image that is loaded is none any more.
    write : Out(load_write_layout), write_valid : Out(1)
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "begin": In(1),
            "bytes": In(stream.Signature(8)),
            "offset": Out(32),
            "status": Out(Status),
            "loaded": Out(1),
            "layers": Out(16),
            "cycle_limit": Out(limit_bits(config)),
            "drop": In(1),
            "write": Out(load_write_layout(config)),
            "write_valid": Out(1),
        })

    def _memories(self):
        """Width and depth of the memory that each kind of section fills."""
        config = self.config
        memories = {SectionKind.PROGRAM.value: (DESCRIPTOR_WORD_BITS, config.program_depth),
                    SectionKind.SLICES.value: (config.slice_word_bits, config.slice_depth)}
        for number, width in enumerate(config.plane_bits):
            memories[SectionKind.ENTRIES.value + number] = (width, config.entry_depth)
        return memories

    def _take_header(self, m, count, found, kept):
        """A byte of the header: compared with what it must be, or kept."""
        known = {"magic": (IMAGE_MAGIC, Status.BAD_MAGIC), "version": (IMAGE_VERSION, Status.BAD_VERSION),
                 "config_hash": (int.from_bytes(self.config.hash, "little"), Status.WRONG_CONFIG)}
        byte = self.bytes.payload
        with m.Switch(count):
            for name, field in header_layout():
                for place in range(field.width // 8):
                    with m.Case(field.offset // 8 + place):
                        if name in known:
                            value, status = known[name]
                            with m.If(byte != (value >> 8 * place) & 0xFF):
                                m.d.sync += found.eq(status)
                        elif name in kept:
                            m.d.sync += kept[name][8 * place:8 * (place + 1)].eq(byte)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.crc = crc = Crc32()
        # Of the header only what is needed later; `found` is what the last byte should not have been, `wrong` the first
        # such finding. The header's last byte is none of those that are compared.
        sections_left, image_bytes, layers = Signal(16), Signal(32), Signal(16)
        limit = Signal(exact_log2(LIMIT_STEP) + len(self.cycle_limit), reset_less=True)
        kept = {"sections": sections_left, "image_bytes": image_bytes, "layers": layers, "cycle_limit": limit}
        found, wrong = Signal(Status), Signal(Status)
        section = Signal(section_layout(), reset_less=True)
        most_bytes = -(-len(self.write.word) // 8)
        word = Signal(8 * most_bytes, reset_less=True)
        count, words_left = Signal(16), Signal(16)
        word_bytes, depth, section_end, has_pe = Signal(8), Signal(17), Signal(17), Signal()
        taken = self.bytes.valid & self.bytes.ready
        kind = section.as_value()[:8]
        m.d.comb += [
            self.bytes.ready.eq(1),
            crc.start.eq(self.begin),
            crc.data.eq(self.bytes.payload),
            self.write.word.eq(word), self.write.kind.eq(kind), self.write.pe.eq(section.pe),
        ]
        # What the section's memory holds, and whether the section is within it: a register each, behind the section.
        with m.Switch(kind):
            for number, (width, memory_depth) in self._memories().items():
                with m.Case(number):
                    m.d.sync += [word_bytes.eq(-(-width // 8)), depth.eq(memory_depth)]
            with m.Default():
                m.d.sync += [word_bytes.eq(0), depth.eq(0)]
        m.d.sync += [
            section_end.eq(section.start + section.count),
            has_pe.eq(section.pe < Mux(kind == SectionKind.PROGRAM.value, 1, config.pes)),
        ]

        @contextmanager
        def state(name):
            with m.State(name):
                yield
                with m.If(self.begin):
                    m.next = "TAKE HEADER"

        def take():
            m.d.comb += crc.valid.eq(taken)
            with m.If(taken):
                m.d.sync += [self.offset.eq(self.offset + 1), count.eq(count + 1)]

        def drop(status):
            m.d.sync += [self.status.eq(status), self.offset.eq(0), self.loaded.eq(0)]
            m.next = "IGNORE"

        m.d.sync += [self.write_valid.eq(0), found.eq(Status.OK)]
        with m.If(wrong == Status.OK):
            m.d.sync += wrong.eq(found)
        with m.If(self.drop):
            m.d.sync += self.loaded.eq(0)
        with m.If(self.begin):
            m.d.sync += [self.status.eq(Status.OK), wrong.eq(Status.OK), self.offset.eq(0), count.eq(0)]
        with m.FSM():
            with state("IGNORE"):
                pass
            with state("TAKE HEADER"):
                take()
                with m.If(taken):
                    self._take_header(m, count, found, kept)
                    with m.If(count == HEADER_BYTES - 1):
                        m.d.sync += count.eq(0)
                        m.next = "CHECK HEADER"
            with state("CHECK HEADER"):
                m.d.comb += self.bytes.ready.eq(0)
                # A header that is not for this engine leaves the image that is loaded alone.
                m.d.sync += self.offset.eq(0)
                m.next = "IGNORE"
                with m.If(wrong != Status.OK):
                    m.d.sync += self.status.eq(wrong)
                with m.Elif((sections_left == 0) | (layers == 0)):
                    m.d.sync += self.status.eq(Status.BAD_SECTION)
                with m.Else():
                    m.d.sync += [self.loaded.eq(0), self.layers.eq(layers), self.offset.eq(HEADER_BYTES),
                                 self.cycle_limit.eq(limit[exact_log2(LIMIT_STEP):])]
                    m.next = "TAKE SECTION"
            with state("TAKE SECTION"):
                take()
                with m.If(taken):
                    m.d.sync += section.as_value().eq(Cat(section.as_value()[8:], self.bytes.payload))
                    with m.If(count == SECTION_BYTES - 1):
                        m.d.sync += count.eq(0)
                        m.next = "MEASURE SECTION"
            with state("MEASURE SECTION"):
                m.d.comb += self.bytes.ready.eq(0)
                m.next = "CHECK SECTION"
            with state("CHECK SECTION"):
                m.d.comb += self.bytes.ready.eq(0)
                m.d.sync += [sections_left.eq(sections_left - 1), words_left.eq(section.count),
                             self.write.address.eq(section.start - 1)]
                m.next = "TAKE WORDS"
                with m.If((section.count == 0) | ~has_pe | (section_end > depth)):
                    drop(Status.BAD_SECTION)
            with state("TAKE WORDS"):
                take()
                last_byte = count == word_bytes - 1
                with m.If(taken):
                    m.d.sync += word.word_select(count[:ceil_log2(most_bytes)], 8).eq(self.bytes.payload)
                    with m.If(last_byte):
                        m.d.sync += [count.eq(0), words_left.eq(words_left - 1),
                                     self.write.address.eq(self.write.address + 1), self.write_valid.eq(1)]
                        with m.If(words_left == 1):
                            m.next = "TAKE SECTION"
                            with m.If(sections_left == 0):
                                m.next = "TAKE CRC"
            with state("TAKE CRC"):
                take()
                with m.If(taken & (count == 3)):
                    m.next = "CHECK CRC"
            with state("CHECK CRC"):
                m.d.comb += self.bytes.ready.eq(0)
                with m.If(~crc.match):
                    drop(Status.IMAGE_CRC)
                with m.Elif(self.offset != image_bytes):
                    drop(Status.BAD_SECTION)
                with m.Else():
                    m.d.sync += [self.loaded.eq(1), self.offset.eq(0)]
                    m.next = "END"
            with state("END"):
                # The image is complete: nothing may follow.
                with m.If(taken):
                    drop(Status.BAD_SECTION)
        return m
