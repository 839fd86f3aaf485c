# SPDX-License-Identifier: Apache-2.0
"""The program: layer descriptors and codebooks, read in order, a layer ahead of the one that runs."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.image_format import SectionKind
from rtl.layouts import (
    DESCRIPTOR_WORD_BITS,
    LayerKind,
    codebook_value_bits,
    codebook_words,
    codebook_write_layout,
    descriptor_layout,
    descriptor_words,
    load_write_layout,
    row_bits,
    tap_write_layout,
)

__all__ = ["Program"]


class Program(wiring.Component):
    """Program memory and its reader.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    load : In(load_write_layout), load_valid : In(1)
    rewind : In(1)
        Back to the first descriptor.
    load_tables : In(1), fetch : In(1)
        Send the codebook that comes next, and the tap table, to the PEs; read the descriptor that comes next. The
        tables first if both are asked for. Only while ``busy`` is low.
    next : Out(descriptor_layout)
        The descriptor fetched last.
    codebook : Out(codebook_write_layout), write_codebook : Out(1)
    taps : Out(tap_write_layout), write_taps : Out(1)
        The tap table, which follows the codebook of a convolution's pass. Only with ``config.tap_bits``.
    tables_busy : Out(1), busy : Out(1)
        The tables come in the cycles of ``tables_busy``, each a cycle late.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({
            "load": In(load_write_layout(config)),
            "load_valid": In(1),
            "rewind": In(1),
            "load_tables": In(1),
            "fetch": In(1),
            "next": Out(descriptor_layout(config)),
            "codebook": Out(codebook_write_layout(config)),
            "write_codebook": Out(1),
            **({"taps": Out(tap_write_layout(config)), "write_taps": Out(1)} if config.tap_bits else {}),
            "tables_busy": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.words = words = memory.Memory(shape=DESCRIPTOR_WORD_BITS, depth=config.program_depth, init=[])
        write = words.write_port()
        read = words.read_port()
        address = Signal(ceil_log2(config.program_depth))
        m.d.comb += [
            write.addr.eq(self.load.address), write.data.eq(self.load.word),
            write.en.eq(self.load_valid & (self.load.kind == SectionKind.PROGRAM.value)),
            read.addr.eq(address), read.en.eq(1),
        ]

        value_bits = codebook_value_bits(config)
        value = Signal(range(max(1, config.codebook_entries)))
        in_word = len(range(0, DESCRIPTOR_WORD_BITS, value_bits))
        place = Signal(range(in_word))
        number = Signal(range(descriptor_words(config)))
        fetch_after = Signal()
        descriptor = Signal(descriptor_layout(config), reset_less=True)

        # Words arrive two cycles after they were asked for: the memory is slow, and a register is behind it.
        word = Signal(DESCRIPTOR_WORD_BITS, reset_less=True)
        asked = Signal(data.StructLayout({
            "value_valid": 1, "value": value.shape(), "place": place.shape(), "word_valid": 1, "number": number.shape(),
            **({"tap_valid": 1, "tap": 2 * config.tap_bits} if config.tap_bits else {})}))
        read_for, word_for = Signal.like(asked), Signal.like(asked, name="word_for")
        m.d.sync += [read_for.eq(asked), word_for.eq(read_for), word.eq(read.data)]
        m.d.comb += [asked.value.eq(value), asked.place.eq(place), asked.number.eq(number)]
        with m.If(word_for.word_valid):
            m.d.sync += descriptor.as_value().word_select(word_for.number, DESCRIPTOR_WORD_BITS).eq(word)
        m.d.comb += [
            self.next.eq(descriptor),
            self.codebook.code.eq(word_for.value),
            self.codebook.weight.eq(word.word_select(word_for.place, value_bits)[:config.weight_bits].as_signed()),
            self.write_codebook.eq(word_for.value_valid),
        ]

        if config.tap_bits:
            has_taps, tap = Signal(), Signal(2 * config.tap_bits, name="tap")
            m.d.comb += [
                has_taps.eq(descriptor.kind == LayerKind.CONVOLUTION), asked.tap.eq(tap),
                self.taps.tap.eq(word_for.tap), self.write_taps.eq(word_for.tap_valid),
                self.taps.offset.eq(word.word_select(word_for.tap[0], 16)[:row_bits(config)]),
            ]
        with m.FSM() as fsm:
            with m.State("WAIT"):
                with m.If(self.rewind):
                    m.d.sync += address.eq(0)
                m.d.sync += [
                    fetch_after.eq(self.fetch), number.eq(0), value.eq(0), place.eq(0),
                ]
                with m.If(self.load_tables if codebook_words(config) else 0):
                    m.next = "SEND CODEBOOK"
                if config.tap_bits:
                    with m.Elif(self.load_tables & has_taps):
                        m.next = "SEND TAPS"
                with m.Elif(self.fetch):
                    m.next = "FETCH DESCRIPTOR"
            with m.State("SEND CODEBOOK"):
                m.d.comb += asked.value_valid.eq(1)
                m.d.sync += [value.eq(value + 1), place.eq(place + 1)]
                with m.If(place == in_word - 1):
                    m.d.sync += address.eq(address + 1)
                with m.If(value == config.codebook_entries - 1):
                    m.next = "FINISH TABLES"
                    if config.tap_bits:
                        with m.If(has_taps):
                            m.next = "SEND TAPS"
            if config.tap_bits:
                with m.State("SEND TAPS"):
                    m.d.comb += asked.tap_valid.eq(1)
                    m.d.sync += tap.eq(tap + 1)
                    with m.If(tap[0]):
                        m.d.sync += address.eq(address + 1)
                    with m.If(tap == config.taps - 1):
                        m.next = "FINISH TABLES"
            with m.State("FINISH TABLES"):
                with m.If(fetch_after):
                    m.next = "FETCH DESCRIPTOR"
                with m.Else():
                    m.next = "WAIT"
            with m.State("FETCH DESCRIPTOR"):
                m.d.comb += asked.word_valid.eq(1)
                m.d.sync += [address.eq(address + 1), number.eq(number + 1)]
                with m.If(number == descriptor_words(config) - 1):
                    m.next = "AWAIT LAST WORD"
            with m.State("AWAIT LAST WORD"):
                m.next = "FINISH DESCRIPTOR"
            with m.State("FINISH DESCRIPTOR"):
                m.next = "WAIT"
        m.d.comb += [
            self.tables_busy.eq(fsm.ongoing("SEND CODEBOOK") | fsm.ongoing("SEND TAPS")
                                | fsm.ongoing("FINISH TABLES")),
            self.busy.eq(~fsm.ongoing("WAIT")),
        ]
        return m
