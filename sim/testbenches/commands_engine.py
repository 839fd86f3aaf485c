# SPDX-License-Identifier: Apache-2.0
"""A stand-in for loader, sequencer, watchdog and activation memory, for the bench of the commands."""

import random
from dataclasses import dataclass
from typing import Any

from cocotb.triggers import RisingEdge

from rtl.protocol import COUNTERS, Status
from sim.cocotb_kit.harness import parameters
from sim.cocotb_kit.streams import StreamMonitor

__all__ = ["VERDICT_CYCLES", "Engine", "Verdict"]

VERDICT_CYCLES = 5
"""Most cycles from the last byte to the loader's verdict."""

COUNTING_CYCLES = 3
"""Cycles from the end of an inference to the last values of the counters."""


@dataclass
class Verdict:
    """The loader's answer about an image once it has ``length`` bytes of it, and had ``begins`` beginnings.

    ``ends`` if it awaits no more bytes then.
    """

    begins: int
    length: int
    status: Status
    loaded: bool
    ends: bool
    cycles_left: int


class Engine:
    """Everything behind the commands: what it is told is noted, what it says is random within the rules.

    Attributes
    ----------
    image : list of int
        Bytes of the image since ``image.begin``.
    offset : int
        Offset at which the loader goes on.
    begins, runs : int
        Pulses of ``image.begin`` and of ``run``.
    writes : list of (address, word)
    acts : list of int
        Words of the activation memory.
    may_end : bool
        Whether an inference that runs may come to its end.
    timed_out : bool
        Whether the newest inference was stopped by the watchdog.
    """

    def __init__(self, dut: Any, config: Any) -> None:
        self.dut = dut
        self.driven: dict[str, Any] = {}
        self.word_bits = config.pes * config.act_bits
        self.acts = [random.getrandbits(self.word_bits) for _ in range(config.act_depth)]
        self.writes: list[tuple[int, int]] = []
        self.image: list[int] = []
        self.verdict: Verdict | None = None
        self.offset = self.begins = self.runs = self.run_left = self.counters = self.word = 0
        self.coming = [0, 0]
        self.shifted = random.getrandbits(self.word_bits)
        self.counting_left = COUNTING_CYCLES
        self.unsettled_left = 20
        self.status = Status.OK
        self.loaded = self.ended = self.may_end = self.timed_out = False
        StreamMonitor(dut, "image__bytes", stall=parameters()["stall"], on_item=self.image.append)
        self._speak()

    @property
    def running(self) -> bool:
        return self.run_left > 0

    async def live(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            assert self.dut.requests__pending.value or not self.dut.requests__respond.value
            self._load()
            self._run()
            self._remember()
            self._speak()

    def _load(self) -> None:
        if self.dut.image__begin.value:
            assert not self.dut.image__bytes__valid.value
            self.image.clear()
            self.begins += 1
            self.ended, self.status = False, Status.OK
        verdict = self.verdict
        if verdict is not None and self.begins == verdict.begins and len(self.image) >= verdict.length:
            verdict.cycles_left -= 1
            if verdict.cycles_left < 0:
                if verdict.loaded and not self.loaded:
                    self.unsettled_left = random.randint(1, 40)
                self.status, self.loaded, self.ended = verdict.status, verdict.loaded, verdict.ends
                self.verdict = None
        self.offset = 0 if self.ended else len(self.image)

    def _run(self) -> None:
        self.unsettled_left = max(0, self.unsettled_left - 1)
        self.counting_left = max(0, self.counting_left - 1)
        if self.running and (self.run_left > 1 or self.may_end):
            self.run_left -= 1
            if not self.running:
                self.timed_out = random.random() < 0.2
                self.loaded &= not self.timed_out
                self.unsettled_left, self.counting_left = random.randint(1, 40), COUNTING_CYCLES
        if self.dut.inferences__run.value:
            assert self.dut.inferences__ready.value
            self.runs += 1
            self.timed_out = False
            self.run_left = random.randint(1, 60)

    def _remember(self) -> None:
        dut = self.dut
        self.word = self.coming.pop(0)
        address = int(dut.reads__address.value)
        # While an inference runs the memory belongs to the scanner.
        self.coming.append(random.getrandbits(self.word_bits) if self.running else
                           self.acts[address] if address < len(self.acts) else 0)
        if dut.writes__shift.value:
            self.shifted = self.shifted >> 8 | int(dut.writes__byte.value) << self.word_bits - 8
        if dut.writes__write.value:
            assert dut.writes__shift.value
            address = int(dut.writes__address.value)
            self.writes.append((address, self.shifted))
            self.acts[address] = self.shifted

    def _speak(self) -> None:
        if self.running or self.counting_left:
            self.counters = random.getrandbits(32 * len(COUNTERS))
        settled = self.running or self.unsettled_left == 0
        values = {"image__status": self.status.value, "image__offset": self.offset, "loaded": self.loaded,
                  "inferences__running": self.running, "inferences__settled": settled, "reads__word": self.word,
                  "counters": self.counters, "timed_out": self.timed_out,
                  "inferences__ready": self.loaded and settled and not self.running}
        for name, value in values.items():
            # To drive everything in every cycle takes most of the time.
            if self.driven.get(name) != value:
                getattr(self.dut, name).value = value
        self.driven = values
