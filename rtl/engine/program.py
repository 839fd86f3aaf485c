# SPDX-License-Identifier: Apache-2.0
"""The program: layer descriptors and tables, read in order, a layer ahead of the one that runs."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from rtl.descriptor import DESCRIPTOR_WORD_BITS, LayerKind, codebook_value_bits, descriptor_layout, descriptor_words
from rtl.image_format import SectionKind
from rtl.layouts import load_write_layout

from .interfaces import flow, program_port, table_port

__all__ = ["Program"]


@dataclass(frozen=True)
class Table:
    """A table that follows a descriptor.

    Attributes
    ----------
    name : str
        Name of its stream in `table_port`.
    values : int
        Number of values; 0 if the engine does not have the table.
    value_bits : int
        Bits of a value in program memory.
    follows : Value of 1 bit
        Whether the descriptor that was read last has the table.
    late : bool
        The table is not needed before the pass is drained: it is sent while the PEs work, and must be the last.
    bank : Value, optional
        Bits above the number of a value, in the place that it goes to.
    """

    name: str
    values: int
    value_bits: int
    follows: Value
    late: bool = False
    bank: Value | None = None

    @property
    def in_word(self):
        """Values in a word of program memory."""
        return DESCRIPTOR_WORD_BITS // self.value_bits


class Program(wiring.Component):
    """Program memory and its reader.

    Parameters
    ----------
    config : EngineConfig

    Members
    -------
    load : In(flow(load_write_layout))
    sequencer : In(program_port)
    tables : Out(table_port)
    """

    read_cycles = 2
    """Cycles from the request for a word to the word: the memory is slow, and a register is behind it."""

    @staticmethod
    def fetch_cycles(config):
        """Cycles that fetching a descriptor takes."""
        return descriptor_words(config) + Program.read_cycles

    @staticmethod
    def table_cycles(config, descriptor):
        """Cycles in which tables are sent for which the PEs wait: a value in each, and one more after the last.

        Parameters
        ----------
        config : EngineConfig
        descriptor : `rtl.descriptor.whole_descriptor`
            The pass's; a convolution has a tap table, too.
        """
        values = config.codebook_entries + (config.taps if descriptor.kind == LayerKind.CONVOLUTION else 0)
        return values + 1 if values or descriptor.table else 0

    @staticmethod
    def late_cycles(config, descriptor):
        """Cycles after these in which the table of the activation function is sent, while the PEs work.

        Parameters
        ----------
        config : EngineConfig
        descriptor : `rtl.descriptor.whole_descriptor`
        """
        return config.table_entries if descriptor.table else 0

    def __init__(self, config):
        self.config = config
        super().__init__({
            "load": In(flow(load_write_layout(config))),
            "sequencer": In(program_port(config)),
            "tables": Out(table_port(config)),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.words = words = memory.Memory(shape=DESCRIPTOR_WORD_BITS, depth=config.program_depth, init=[])
        write = words.write_port()
        read = words.read_port()
        address = Signal(ceil_log2(config.program_depth))
        m.d.comb += [
            write.addr.eq(self.load.payload.address), write.data.eq(self.load.payload.word),
            write.en.eq(self.load.valid & (self.load.payload.kind == SectionKind.PROGRAM.value)),
            read.addr.eq(address), read.en.eq(1),
        ]
        descriptor = Signal(descriptor_layout(config), reset_less=True)
        m.d.comb += self.sequencer.next.eq(descriptor)
        tables = [table for table in (
            Table("codebook", config.codebook_entries, codebook_value_bits(config), Const(1, 1)),
            Table("taps", config.taps, 16, descriptor.kind == LayerKind.CONVOLUTION),
            *([Table("act_table", config.table_entries, config.act_bits, descriptor.table, late=True,
                     bank=descriptor.table_bank)] if config.act_table else [])) if table.values]

        # Words arrive `read_cycles` after their request. The purpose of the request is delayed with the word.
        counts = {"word": descriptor_words(config), **{table.name: table.values for table in tables}}
        asked = Signal(data.StructLayout({
            field: shape for name, count in counts.items()
            for field, shape in ((f"{name}_valid", 1), (name, range(count)))}))
        word, read_for, word_for = Signal(DESCRIPTOR_WORD_BITS, reset_less=True), Signal.like(asked, name="read_for"), \
            Signal.like(asked, name="word_for")
        m.d.sync += [read_for.eq(asked), word_for.eq(read_for), word.eq(read.data)]
        numbers = {name: Signal(range(count), name=name) for name, count in counts.items()}
        m.d.comb += [asked[name].eq(number) for name, number in numbers.items()]
        with m.If(word_for.word_valid):
            m.d.sync += descriptor.as_value().word_select(word_for.word, DESCRIPTOR_WORD_BITS).eq(word)
        for table in tables:
            self._send(m, table, word, word_for)
        self._run(m, address, asked, numbers, tables)
        return m

    def _send(self, m, table, word, word_for):
        """Sends a value of a table, and its number, when the word that contains it arrives."""
        sent = getattr(self.tables, table.name)
        number, value = (sent.payload[field] for field, _ in sent.payload.shape())
        place = word_for[table.name][:exact_log2(table.in_word)]
        m.d.comb += [
            number.eq(word_for[table.name] if table.bank is None else Cat(word_for[table.name], table.bank)),
            sent.valid.eq(word_for[f"{table.name}_valid"]),
            value.eq(word.word_select(place, table.value_bits)),
        ]

    def _run(self, m, address, asked, numbers, tables):
        """Requests the words in order."""
        port, fetch_after = self.sequencer, Signal()
        sends = {table.name: f"SEND {table.name.upper()}" for table in tables}
        with m.FSM() as fsm:
            with m.State("WAIT"):
                with m.If(port.rewind):
                    m.d.sync += address.eq(0)
                m.d.sync += [fetch_after.eq(port.fetch), numbers["word"].eq(0)]
                commands = [*((port.load_tables & table.follows, sends[table.name]) for table in tables),
                            (port.fetch, "FETCH DESCRIPTOR")]
                for place, (command, state) in enumerate(commands):
                    with (m.Elif if place else m.If)(command):
                        m.next = state
            for place, table in enumerate(tables):
                number = numbers[table.name]
                with m.State(sends[table.name]):
                    m.d.comb += asked[f"{table.name}_valid"].eq(1)
                    # The number of values is a power of two, so that `number` wraps to 0.
                    m.d.sync += number.eq(number + 1)
                    with m.If(number[:exact_log2(table.in_word)].all()):
                        m.d.sync += address.eq(address + 1)
                    with m.If(number == table.values - 1):
                        m.next = "FINISH TABLES"
                        for later in reversed(tables[place + 1:]):
                            with m.If(later.follows):
                                m.next = sends[later.name]
            with m.State("FINISH TABLES"):
                with m.If(fetch_after):
                    m.next = "FETCH DESCRIPTOR"
                with m.Else():
                    m.next = "WAIT"
            with m.State("FETCH DESCRIPTOR"):
                m.d.comb += asked.word_valid.eq(1)
                m.d.sync += [address.eq(address + 1), numbers["word"].eq(numbers["word"] + 1)]
                with m.If(numbers["word"] == descriptor_words(self.config) - 1):
                    m.next = "AWAIT LAST WORD"
            with m.State("AWAIT LAST WORD"):
                m.next = "FINISH DESCRIPTOR"
            with m.State("FINISH DESCRIPTOR"):
                m.next = "WAIT"
        m.d.comb += [
            self.tables.busy.eq(self._holding(fsm, numbers, tables, sends)),
            port.busy.eq(~fsm.ongoing("WAIT")),
        ]

    @staticmethod
    def _holding(fsm, numbers, tables, sends):
        """Whether the PEs wait: tables come, or the last value of one is on its way to them."""
        late = [table for table in tables if table.late]
        states = [*(sends[table.name] for table in tables if not table.late), *([] if late else ["FINISH TABLES"])]
        waits = [*map(fsm.ongoing, states), *(fsm.ongoing(sends[table.name]) & (numbers[table.name] == 0)
                                              for table in late)]
        if late:
            waits.append(fsm.ongoing("FINISH TABLES") & ~late[0].follows)
        return Cat(waits).any()
