# SPDX-License-Identifier: Apache-2.0
"""The program against a list of words that is read from the front."""

import random
from typing import Any

from cocotb.triggers import RisingEdge

from rtl.config import EngineConfig
from rtl.layouts import act_table_write_layout, codebook_write_layout, load_write_layout, tap_write_layout
from sim.cocotb_kit.harness import bench, parameters, start
from sim.cocotb_kit.payloads import pack, unpack

PROGRAM, SLICES, ENTRIES = 0, 1, 2
"""Kinds of sections, see docs/formats.md."""

CONVOLUTION = 1
"""Kind of a descriptor that a tap table follows, in its two lowest bits."""


def descriptor_words(config: Any) -> int:
    return 15 if config.tap_bits else 7


def codebook(config: Any, words: list[int]) -> tuple[list[int], int]:
    """The codebook at the beginning of program words, and the number of words that it takes."""
    if config.direct_weights:
        return [], 0
    value_bytes = 1 if config.weight_bits <= 8 else 2
    values, count = 1 << config.code_bits, (value_bytes << config.code_bits) // 4
    content = b"".join(word.to_bytes(4, "little") for word in words[:count])
    stored = [int.from_bytes(content[place * value_bytes:(place + 1) * value_bytes], "little", signed=True)
              for place in range(values)]
    half = 1 << config.weight_bits - 1
    return [(value + half) % (2 * half) - half for value in stored], count


def tap_table(config: Any, words: list[int], descriptor: int) -> tuple[list[int], int]:
    """The tap table at the beginning of program words, if the descriptor has one, and the words that it takes."""
    if not config.tap_bits or descriptor & 3 != CONVOLUTION:
        return [], 0
    count = 4 ** config.tap_bits // 2
    return [half % (1 << (config.acc_depth - 1).bit_length())
            for word in words[:count] for half in (word & 0xFFFF, word >> 16)], count


def act_table(config: Any, words: list[int], descriptor: int) -> tuple[list[int], int]:
    """The table of the activation function at the beginning of program words, if the descriptor has one, and the words
    that it takes."""
    if not config.act_table or not descriptor >> 8 & 1:
        return [], 0
    return [word >> at & 0xFF for word in words[:64] for at in (0, 8, 16, 24)], 64


class Reader:
    """Asks for one thing after the other and checks what comes; the model is ``words`` and ``place``."""

    def __init__(self, dut: Any, config: Any) -> None:
        self.dut, self.config = dut, config
        self.words = [0] * config.program_depth
        self.place = 0
        self.fetched: int | None = None
        dut.load__valid.value = dut.sequencer__rewind.value = 0
        dut.sequencer__load_tables.value = dut.sequencer__fetch.value = 0

    async def load(self, address: int, word: int, kind: int = PROGRAM) -> None:
        """Writes a word; one of another kind must change nothing."""
        layout = load_write_layout(self.config)
        fields = {"kind": kind, "pe": random.randrange(256), "address": address,
                  "word": word | random.getrandbits(layout["word"].width) >> 32 << 32}
        self.dut.load__payload.value, self.dut.load__valid.value = pack(layout, fields), 1
        await RisingEdge(self.dut.clk)
        self.dut.load__payload.value, self.dut.load__valid.value = random.getrandbits(layout.size), 0
        if kind == PROGRAM:
            self.words[address] = word

    async def rest(self, cycles: int) -> None:
        """Nothing happens by itself."""
        for _ in range(cycles):
            await RisingEdge(self.dut.clk)
            self.check_rest()

    def check_rest(self) -> None:
        dut = self.dut
        assert not (dut.sequencer__busy.value or dut.tables__busy.value or dut.tables__codebook__valid.value)
        assert self.fetched is None or int(dut.sequencer__next.value) == self.fetched

    async def rewind(self, cycles: int) -> None:
        self.dut.sequencer__rewind.value = 1
        await self.rest(cycles)
        self.dut.sequencer__rewind.value = 0
        self.place = 0

    async def read(self, *, load_tables: bool, fetch: bool) -> None:
        """One command, until ``busy`` has fallen."""
        dut = self.dut
        dut.sequencer__load_tables.value, dut.sequencer__fetch.value = load_tables, fetch
        await RisingEdge(dut.clk)
        dut.sequencer__load_tables.value = dut.sequencer__fetch.value = 0
        values: list[int] = []
        taps: list[int] = []
        curve: list[int] = []
        if load_tables:
            assert self.fetched is not None
            values, count = codebook(self.config, self.words[self.place:])
            self.place += count
            taps, count = tap_table(self.config, self.words[self.place:], self.fetched)
            self.place += count
            curve, count = act_table(self.config, self.words[self.place:], self.fetched)
            self.place += count
        before = self.fetched
        if fetch:
            words_each = descriptor_words(self.config)
            words = self.words[self.place:self.place + words_each]
            self.fetched = sum(word << 32 * place for place, word in enumerate(words))
            self.place += words_each
        written: list[dict[str, int]] = []
        offsets: list[dict[str, int]] = []
        acts: list[dict[str, int]] = []
        held = 0
        await RisingEdge(dut.clk)
        # The sequencer looks at `busy` in the cycle after its command.
        assert dut.sequencer__busy.value == bool(values or taps or curve or fetch)
        busy = tables_busy = True
        while busy:
            busy, late, tables_busy = bool(dut.sequencer__busy.value), tables_busy, bool(dut.tables__busy.value)
            if dut.tables__codebook__valid.value:
                assert tables_busy or late
                written.append(unpack(codebook_write_layout(self.config), int(dut.tables__codebook__payload.value)))
            if self.config.tap_bits and dut.tables__taps__valid.value:
                assert tables_busy or late
                offsets.append(unpack(tap_write_layout(self.config), int(dut.tables__taps__payload.value)))
            held += tables_busy
            if self.config.act_table and dut.tables__act_table__valid.value:
                acts.append(unpack(act_table_write_layout(self.config), int(dut.tables__act_table__payload.value)))
            if dut.tables__busy.value and before is not None:
                assert int(dut.sequencer__next.value) == before
            await RisingEdge(dut.clk)
        self.check_rest()
        assert written == [{"code": code, "weight": value} for code, value in enumerate(values)]
        assert offsets == [{"tap": tap, "offset": offset} for tap, offset in enumerate(taps)]
        bank = 0 if before is None else before >> 9 & 1
        assert acts == [{"place": bank << 8 | place, "act": act} for place, act in enumerate(curve)]
        # The PEs do not wait for the table of the activation function.
        assert held == (len(values) + len(taps) + 1 if values or taps or curve else 0)


@bench()
async def descriptors_and_codebooks_come_in_order(dut: Any) -> None:
    config = EngineConfig(**parameters()["config"])
    reader = Reader(dut, config)
    await start(dut)
    step = descriptor_words(config) + codebook(config, reader.words)[1] \
        + tap_table(config, reader.words, CONVOLUTION)[1] + act_table(config, reader.words, 1 << 8)[1]
    passes = config.program_depth // step
    for image in range(3):
        addresses = list(range(config.program_depth)) if image == 0 else random.sample(range(config.program_depth), 30)
        for address in addresses:
            for kind in random.choice([(PROGRAM,), (PROGRAM, SLICES), (PROGRAM, ENTRIES), (PROGRAM, ENTRIES + 3)]):
                await reader.load(address, random.getrandbits(32), kind)
            await reader.rest(random.choice([0, 0, 1]))
        for reading in range(6):
            await reader.rewind(random.choice([1, 1, 4]))
            await reader.read(load_tables=False, fetch=True)
            # Some readings stop early.
            for number in range(1, passes if reading < 2 else random.randint(1, passes)):
                await reader.rest(random.choice([0, 0, 3]))
                together = random.random() < 0.5
                await reader.read(load_tables=True, fetch=together)
                await reader.rest(random.choice([0, 0, 3]))
                if not together:
                    await reader.read(load_tables=False, fetch=True)
                assert reader.place <= number * step + descriptor_words(config)
            if random.random() < 0.5 or reading < 2:
                await reader.read(load_tables=True, fetch=False)
