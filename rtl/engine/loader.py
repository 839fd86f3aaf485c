# SPDX-License-Identifier: Apache-2.0
"""The loader: parses the image byte by byte, and writes its words to the memories."""

from contextlib import contextmanager

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.crc import catalog
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from rtl.image_format import (
    HEADER_BYTES,
    IMAGE_MAGIC,
    IMAGE_VERSION,
    LIMIT_STEP,
    SECTION_BYTES,
    SectionKind,
    header_layout,
    image_length_bits,
    section_layout,
    section_memories,
)
from rtl.layouts import load_write_layout
from rtl.protocol import Status
from rtl.structure import limit_bits

from .interfaces import flow, image_port

__all__ = ["Loader"]


class Loader(wiring.Component):
    """Parses an image.

    The previous image stays valid until all header fields that identify the image have come and are right. From then on
    no image is valid until the CRC-32 at the end of the new one is found right. After an error all bytes are ignored
    until ``begin``.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    image : In(image_port)
    loaded : Out(1)
        A whole image is in the memories.
    layers : Out(range(program_depth + 1)), cycle_limit : Out(limit_bits)
        Its number of layers, and the header's limit in units of `LIMIT_STEP`.
    drop : In(1)
        The image in the memories is not valid any more.
    write : Out(flow(load_write_layout))
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "image": In(image_port(config)),
            "loaded": Out(1),
            "layers": Out(range(config.program_depth + 1)),
            "cycle_limit": Out(limit_bits(config)),
            "drop": In(1),
            "write": Out(flow(load_write_layout(config))),
        })

    def _take_header(self, m, taken, byte, count, kept):
        """Handles the bytes of the header: stores the fields in ``kept``, and compares those with a known value.

        A comparison takes two cycles. Those of known values end before ``layers`` comes, which invalidates the loaded
        image; all end before the header does.

        Returns
        -------
        mistaken : Signal(1), found : Signal(Status)
            A byte is wrong; the status that reports it.
        """
        known = {"magic": (IMAGE_MAGIC, Status.BAD_MAGIC), "version": (IMAGE_VERSION, Status.BAD_VERSION),
                 "config_hash": (int.from_bytes(self.config.hash, "little"), Status.WRONG_CONFIG)}
        seen, expected, wrong = (Signal(shape, name=name, reset_less=True) for name, shape in (
            ("seen", 8), ("expected", 8), ("wrong", Status)))
        checks, mistaken, found = Signal(), Signal(), Signal(Status, reset_less=True, name="found")
        m.d.sync += [
            seen.eq(byte), expected.eq(byte), checks.eq(taken),
            mistaken.eq(checks & (seen != expected)), found.eq(wrong),
        ]
        with m.Switch(count):
            for name, field in header_layout():
                for place in range(field.width // 8):
                    with m.Case(field.offset // 8 + place):
                        if name in known:
                            value, status = known[name]
                            m.d.sync += [expected.eq((value >> 8 * place) & 0xFF), wrong.eq(status)]
                        elif name in kept:
                            bits = kept[name][8 * place:8 * (place + 1)]
                            with m.If(taken):
                                m.d.sync += bits.eq(byte)
                            if name != "cycle_limit":
                                m.d.sync += [expected.eq(byte[:len(bits)]), wrong.eq(Status.BAD_SECTION)]
                        if name == "layers":
                            with m.If(taken):
                                m.d.sync += self.loaded.eq(0)
        return mistaken, found

    def elaborate(self, platform):
        m = Module()
        config, image, written = self.config, self.image, self.write.payload
        m.submodules.crc = crc = catalog.CRC32_ETHERNET(data_width=8).create()
        # The fields of the header that are needed later.
        sections_left, image_bytes = Signal(16), Signal(image_length_bits(config), name="image_bytes")
        steps = Signal(exact_log2(LIMIT_STEP))
        kept = {"sections": sections_left, "image_bytes": image_bytes, "layers": self.layers,
                "cycle_limit": Cat(steps, self.cycle_limit)}
        # While the words arrive, `start` is the address of the next one and `count` the number of words after it.
        section = Signal(section_layout(), reset_less=True)
        most_bytes = -(-len(written.word) // 8)
        word = Signal(8 * most_bytes, reset_less=True)
        # `count` is the place of a byte in its header, section or word; `last_byte` says that it is the last one there,
        # the one after place `last_but_one`.
        count, last_byte = Signal(range(max(HEADER_BYTES, most_bytes))), Signal(name="last_byte")
        last_but_one, word_last_but_one, one_byte = Signal.like(count), Signal.like(count), Signal(name="one_byte")
        depth, section_end, has_pe = Signal(17), Signal(17), Signal(name="has_pe")
        last_section, last_word, empty, outside, sound, whole, full = (Signal(name=name) for name in (
            "last_section", "last_word", "empty", "outside", "sound", "whole", "full"))
        # The next byte is registered, and so is `takes`, by which a state accepts it: the paths to them are long.
        byte, byte_valid, takes = Signal(8, reset_less=True), Signal(), Signal(init=1, name="takes")
        taken = byte_valid & takes & ~image.begin
        with m.If(image.bytes.ready):
            m.d.sync += [byte.eq(image.bytes.payload), byte_valid.eq(image.bytes.valid)]
        kind = section.as_value()[:8]
        m.d.comb += [
            image.bytes.ready.eq(~byte_valid | takes),
            crc.start.eq(image.begin), crc.data.eq(byte), crc.valid.eq(taken),
            written.word.eq(word), written.kind.eq(kind), written.pe.eq(section.pe),
            written.address.eq(section.start),
        ]
        # The size of the section's memory, and whether the section is within it: each in a register.
        with m.Switch(kind):
            for number, (width, memory_depth) in section_memories(config).items():
                with m.Case(number):
                    word_bytes = -(-width // 8)
                    m.d.sync += [word_last_but_one.eq(word_bytes - 2), one_byte.eq(word_bytes == 1),
                                 depth.eq(memory_depth)]
            with m.Default():
                m.d.sync += depth.eq(0)
        m.d.sync += [
            section_end.eq(section.start + section.count),
            has_pe.eq(section.pe < Mux(kind == SectionKind.PROGRAM.value, 1, config.pes)),
            empty.eq((sections_left == 0) | (self.layers == 0) | (image_bytes <= HEADER_BYTES)),
            outside.eq((section.count == 0) | ~has_pe | (section_end > depth)),
            sound.eq(crc.match_detected), whole.eq(image.offset == image_bytes),
        ]

        @contextmanager
        def state(name):
            with m.State(name):
                yield
                with m.If(image.begin):
                    m.next = "TAKE HEADER"

        def drop(status):
            m.d.sync += [image.status.eq(status), self.loaded.eq(0)]
            m.next = "IGNORE"

        # A flag says that the header is coming: decoding the state would lengthen the path to all registers it enables.
        header = Signal()
        mistaken, found = self._take_header(m, taken & header, byte, count, kept)
        # `full`: all bytes that the header announces have come; a section that is still missing is an error.
        m.d.sync += full.eq(~header & (full | (image.offset == image_bytes)))
        m.d.sync += [self.write.valid.eq(0), takes.eq(1)]
        with m.If(self.write.valid):
            m.d.sync += section.start.eq(section.start + 1)
        with m.If(self.drop):
            m.d.sync += self.loaded.eq(0)
        with m.If(taken):
            m.d.sync += [image.offset.eq(image.offset + ~image.offset[-1]),
                         count.eq(Mux(last_byte, 0, count + 1)), last_byte.eq(~last_byte & (count == last_but_one))]
        with m.FSM():
            with state("IGNORE"):
                m.d.sync += image.offset.eq(0)
            with state("TAKE HEADER"):
                with m.If(mistaken):
                    m.d.sync += [image.status.eq(found), header.eq(0)]
                    with m.If(found == Status.BAD_SECTION):
                        m.d.sync += self.loaded.eq(0)
                    m.next = "IGNORE"
                with m.Elif(taken & last_byte):
                    m.d.sync += [header.eq(0), takes.eq(0), last_but_one.eq(SECTION_BYTES - 2)]
                    m.next = "CHECK HEADER"
            with state("CHECK HEADER"):
                m.next = "TAKE SECTION"
                with m.If(empty):
                    drop(Status.BAD_SECTION)
            with state("TAKE SECTION"):
                with m.If(full):
                    drop(Status.BAD_SECTION)
                with m.Elif(taken):
                    m.d.sync += section.as_value().eq(Cat(section.as_value()[8:], byte))
                    with m.If(last_byte):
                        m.d.sync += takes.eq(0)
                        m.next = "MEASURE SECTION"
            with state("MEASURE SECTION"):
                m.d.sync += takes.eq(0)
                m.next = "COMPARE SECTION"
            with state("COMPARE SECTION"):
                m.d.sync += takes.eq(0)
                m.next = "CHECK SECTION"
            with state("CHECK SECTION"):
                m.d.sync += [sections_left.eq(sections_left - 1), last_section.eq(sections_left == 1),
                             section.count.eq(section.count - 1), last_word.eq(section.count == 1),
                             last_byte.eq(one_byte), last_but_one.eq(word_last_but_one)]
                m.next = "TAKE WORDS"
                with m.If(outside):
                    drop(Status.BAD_SECTION)
            with state("TAKE WORDS"):
                with m.If(full):
                    drop(Status.BAD_SECTION)
                with m.Elif(taken):
                    m.d.sync += word.word_select(count[:ceil_log2(most_bytes)], 8).eq(byte)
                    with m.If(last_byte):
                        m.d.sync += [last_byte.eq(one_byte & ~last_word), section.count.eq(section.count - 1),
                                     last_word.eq(section.count == 1), self.write.valid.eq(1)]
                        with m.If(last_word):
                            m.d.sync += last_but_one.eq(Mux(last_section, len(crc.crc) // 8 - 2, SECTION_BYTES - 2))
                            m.next = "TAKE SECTION"
                            with m.If(last_section):
                                m.next = "TAKE CRC"
            with state("TAKE CRC"):
                with m.If(taken & last_byte):
                    m.d.sync += takes.eq(0)
                    m.next = "COMPARE CRC"
            with state("COMPARE CRC"):
                m.d.sync += takes.eq(0)
                m.next = "CHECK CRC"
            with state("CHECK CRC"):
                with m.If(~sound):
                    drop(Status.IMAGE_CRC)
                with m.Elif(~whole):
                    drop(Status.BAD_SECTION)
                with m.Else():
                    m.d.sync += self.loaded.eq(1)
                    m.next = "END"
            with state("END"):
                # The image is complete: nothing may follow.
                m.d.sync += image.offset.eq(0)
                with m.If(taken):
                    drop(Status.BAD_SECTION)
        with m.If(image.begin):
            m.d.sync += [image.status.eq(Status.OK), image.offset.eq(0), header.eq(1), mistaken.eq(0), count.eq(0),
                         last_byte.eq(0), last_but_one.eq(HEADER_BYTES - 2)]
        return m
