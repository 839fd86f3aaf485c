# SPDX-License-Identifier: Apache-2.0
"""The commands between stand-ins for link, loader, sequencer and activation memory, with requests of every kind."""

import random
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from rtl.config import EngineConfig
from rtl.protocol import COUNTERS, Opcode, Status
from sim.cocotb_kit.harness import bench, parameters, start
from sim.cocotb_kit.streams import StreamDriver, StreamMonitor, take

VERDICT_CYCLES = 5
"""The loader has its verdict at most so many cycles after the last byte."""

PAUSE_CYCLES = 3
"""The link offers the next byte of a payload at most so many cycles after the one before."""

BETWEEN_CYCLES = 12
"""So many cycles at least lie between the last byte of a response and the next request."""

COUNTING_CYCLES = 3
"""The counters have their last values so many cycles after the end of an inference."""

HEADER_STATUSES = [Status.BAD_MAGIC, Status.BAD_VERSION, Status.WRONG_CONFIG]
"""Verdicts after which the image before stays."""


@dataclass
class Verdict:
    """What the loader says of an image once it has so many bytes of it, and had so many ``begins``.

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
        Bytes of the image since ``image_begin``.
    offset : int
        Where the loader goes on.
    begins, runs : int
        Pulses of ``image_begin`` and of ``run``.
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
        StreamMonitor(dut, "image", stall=parameters()["stall"], on_item=self.image.append)
        self._speak()

    @property
    def running(self) -> bool:
        return self.run_left > 0

    async def live(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            assert self.dut.request.value or not self.dut.respond.value
            self._load()
            self._run()
            self._remember()
            self._speak()

    def _load(self) -> None:
        if self.dut.image_begin.value:
            assert not self.dut.image__valid.value
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
        if self.dut.run.value:
            assert self.dut.ready.value
            self.runs += 1
            self.timed_out = False
            self.run_left = random.randint(1, 60)

    def _remember(self) -> None:
        dut = self.dut
        self.word = self.coming.pop(0)
        address = int(dut.address.value)
        # While an inference runs the memory belongs to the scanner.
        self.coming.append(random.getrandbits(self.word_bits) if self.running else
                           self.acts[address] if address < len(self.acts) else 0)
        if dut.shift.value:
            self.shifted = self.shifted >> 8 | int(dut.act_byte.value) << self.word_bits - 8
        if dut.write.value:
            assert dut.shift.value
            address = int(dut.address.value)
            self.writes.append((address, self.shifted))
            self.acts[address] = self.shifted

    def _speak(self) -> None:
        if self.running or self.counting_left:
            self.counters = random.getrandbits(32 * len(COUNTERS))
        settled = self.running or self.unsettled_left == 0
        values = {"image_status": self.status.value, "image_offset": self.offset, "loaded": self.loaded,
                  "running": self.running, "settled": settled, "word": self.word, "counters": self.counters,
                  "timed_out": self.timed_out,
                  "ready": self.loaded and settled and not self.running}
        for name, value in values.items():
            # To drive everything in every cycle takes most of the time.
            if self.driven.get(name) != value:
                getattr(self.dut, name).value = value
        self.driven = values


async def offer(driver: StreamDriver, payload: bytes) -> None:
    """The payload, with short pauses."""
    for byte in payload:
        if random.random() < parameters()["idle"]:
            await ClockCycles(driver.clk, random.randint(1, PAUSE_CYCLES))
        await driver.send([byte])


async def exchange(dut: Any, driver: StreamDriver, opcode: int, payload: bytes) -> tuple[Status, bytes]:
    """A request, as the link makes it; returns status and body of the response."""
    dut.request.value, dut.opcode.value, dut.length.value = 1, opcode, len(payload)
    offering = cocotb.start_soon(offer(driver, payload))
    settled = False
    while True:
        await RisingEdge(dut.clk)
        settled = settled or bool(dut.settled.value)
        if dut.respond.value:
            break
    assert settled
    status, body_bytes = Status(int(dut.status.value)), int(dut.response_bytes.value) - 1
    assert (opcode, status) != (Opcode.WAIT.value, Status.OK) or not dut.running.value
    # What was not taken is thrown away.
    offering.cancel()
    dut.request.value = driver.valid.value = 0
    await ClockCycles(dut.clk, random.randint(5, 9))
    body = bytes(await take(dut, "body", body_bytes, stall=parameters()["stall"]))
    await ClockCycles(dut.clk, BETWEEN_CYCLES + random.randint(0, 20))
    return status, body


def random_request(config: Any, engine: Engine) -> tuple[int, bytes]:
    """A request that often can be carried out."""
    opcode = random.choice([*Opcode, *Opcode, Opcode.RUN, None])
    if opcode is None:
        return random.choice([0, random.randrange(len(Opcode) + 1, 256)]), random.randbytes(random.randint(0, 8))
    word_bytes = config.pes * config.act_bytes
    address = random.choice([0, random.randrange(config.act_depth), config.act_depth, random.randint(65520, 65535)])
    room = config.act_depth - address
    if opcode == Opcode.LOAD:
        near = engine.offset ^ 1 << random.randrange(32)
        offset = random.choice([0, 0, engine.offset, engine.offset, engine.offset, near])
        payload = struct.pack("<I", offset) + random.randbytes(random.randint(1, config.packet_bytes - 4))
    elif opcode == Opcode.WRITE:
        most = (config.packet_bytes - 2) // word_bytes
        words = max(1, min(most, random.choice([1, room, room + 1, random.randint(1, most)])))
        payload = struct.pack("<H", address) + random.randbytes(words * word_bytes)
    elif opcode == Opcode.READ:
        most = (config.packet_bytes - 1) // word_bytes
        words = random.choice([0, most, most + 1, random.randint(1, most), room, room + 1, random.getrandbits(16)])
        payload = struct.pack("<HH", address, max(0, words))
    else:
        payload = b""
    if random.random() < 0.15:
        payload = (payload + random.randbytes(1))[:random.choice([1, 2, 3, 4, len(payload) + 1])]
    return opcode.value, payload


def refusals(config: Any, engine: Engine, has_input: bool, opcode: int, payload: bytes) -> set[Status]:
    """Every reason that docs/formats.md has to refuse a request; it does not say which comes first."""
    length, word_bytes = len(payload), config.pes * config.act_bytes
    if opcode not in [known.value for known in Opcode]:
        return {Status.UNKNOWN_OPCODE}
    wrong = {Status.BUSY: engine.running and opcode not in (Opcode.IDENTIFY.value, Opcode.WAIT.value)}
    if opcode == Opcode.LOAD.value:
        wrong[Status.BAD_LENGTH] = length < 5
        wrong[Status.BAD_OFFSET] = int.from_bytes(payload[:4], "little") not in (0, engine.offset)
    elif opcode == Opcode.WRITE.value:
        words, rest = divmod(length - 2, word_bytes)
        wrong[Status.BAD_LENGTH] = words < 1 or rest != 0
        wrong[Status.BAD_ADDRESS] = int.from_bytes(payload[:2], "little") + words > config.act_depth
    elif opcode == Opcode.READ.value:
        address, words = int.from_bytes(payload[:2], "little"), int.from_bytes(payload[2:4], "little")
        wrong[Status.BAD_LENGTH] = length != 4 or words == 0 or 1 + words * word_bytes > config.packet_bytes
        wrong[Status.BAD_ADDRESS] = address + words > config.act_depth
    else:
        wrong[Status.BAD_LENGTH] = length != 0
    if opcode == Opcode.RUN.value:
        wrong[Status.NOT_LOADED], wrong[Status.NO_INPUT] = not engine.loaded, not has_input
    return {status for status, holds in wrong.items() if holds}


def random_verdict(engine: Engine, begins: int, offset: int, end: int) -> Verdict:
    """What a loader may say of the bytes of an image from one place to another."""
    length, status, loaded, ends = random.choice([
        (end, Status.OK, random.random() < 0.5 and engine.loaded, False),
        (end, Status.OK, True, True),
        (random.randint(offset + 1, end), random.choice(HEADER_STATUSES), engine.loaded, True),
        (random.randint(offset + 1, end), random.choice([Status.BAD_SECTION, Status.IMAGE_CRC]), False, True),
    ])
    return Verdict(begins, length, status, loaded, ends, random.randrange(VERDICT_CYCLES))


def expected_body(config: Any, engine: Engine, opcode: int, payload: bytes) -> bytes:
    word_bytes = config.pes * config.act_bytes
    if opcode == Opcode.IDENTIFY.value:
        return struct.pack("<BBHH8s", 1, engine.loaded, config.packet_bytes, config.pes, config.hash)
    if opcode == Opcode.WAIT.value:
        return engine.counters.to_bytes(4 * len(COUNTERS), "little")
    if opcode == Opcode.READ.value:
        address, words = struct.unpack("<HH", payload)
        return b"".join(word.to_bytes(word_bytes, "little") for word in engine.acts[address:address + words])
    return b""


def expected_writes(config: Any, payload: bytes) -> list[tuple[int, int]]:
    word_bytes = config.pes * config.act_bytes
    address = int.from_bytes(payload[:2], "little")
    return [(address + place // word_bytes, int.from_bytes(payload[place + 2:place + 2 + word_bytes], "little"))
            for place in range(0, len(payload) - 2, word_bytes)]


@bench(cycles=400_000)
async def requests_are_carried_out_or_refused(dut: Any) -> None:
    config = EngineConfig(**parameters()["config"])
    engine = Engine(dut, config)
    driver = StreamDriver(dut, "payload")
    dut.request.value = dut.body__ready.value = 0
    await start(dut)
    cocotb.start_soon(engine.live())
    has_input = False
    seen: Counter[tuple[int, Status]] = Counter()
    for _ in range(1500):
        opcode, payload = random_request(config, engine)
        engine.may_end = opcode == Opcode.WAIT.value
        refused = refusals(config, engine, has_input, opcode, payload)
        allowed = refused or {Status.OK}
        writes: list[tuple[int, int]] = []
        image, begins, runs = list(engine.image), 0, 0
        engine.begins = engine.runs = 0
        engine.writes.clear()
        if not refused:
            if opcode == Opcode.LOAD.value:
                begins = int(payload[:4] == bytes(4))
                image = [*image, *payload[4:]] if begins == 0 else list(payload[4:])
                engine.verdict = random_verdict(engine, begins, len(image) - len(payload) + 4, len(image))
                allowed = {engine.verdict.status}
            elif opcode == Opcode.WRITE.value:
                writes, has_input = expected_writes(config, payload), engine.loaded
            elif opcode == Opcode.RUN.value:
                runs, has_input = 1, False
        status, body = await exchange(dut, driver, opcode, payload)
        if opcode == Opcode.WAIT.value and not refused and engine.timed_out:
            refused = allowed = {Status.TIMED_OUT}
        assert status in allowed
        assert body == (b"" if refused else expected_body(config, engine, opcode, payload))
        assert (engine.image, engine.begins, engine.runs, engine.writes) == (image, begins, runs, writes)
        seen[opcode, status] += 1
        # Without an image there is nothing that it could be the input of.
        has_input = has_input and engine.loaded
        engine.may_end = random.random() < 0.1
        await ClockCycles(dut.clk, random.randint(0, 5))
    check_coverage(seen)


def check_coverage(seen: Counter[tuple[int, Status]]) -> None:
    """Every opcode has met every answer that it can have."""
    further = {Opcode.RUN: [Status.BUSY, Status.NOT_LOADED, Status.NO_INPUT],
               Opcode.LOAD: [Status.BUSY, Status.BAD_OFFSET, *HEADER_STATUSES, Status.BAD_SECTION, Status.IMAGE_CRC],
               Opcode.WAIT: [Status.TIMED_OUT],
               Opcode.WRITE: [Status.BUSY, Status.BAD_ADDRESS], Opcode.READ: [Status.BUSY, Status.BAD_ADDRESS]}
    missing = [(opcode.name, status.name) for opcode in Opcode
               for status in (Status.OK, Status.BAD_LENGTH, *further.get(opcode, [])) if not seen[opcode.value, status]]
    assert not missing
    assert any(status == Status.UNKNOWN_OPCODE for _, status in seen)
