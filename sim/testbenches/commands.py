# SPDX-License-Identifier: Apache-2.0
"""The commands between stand-ins for link, loader, sequencer and activation memory, with requests of every kind."""

import random
import struct
from collections import Counter
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from rtl.config import EngineConfig
from rtl.protocol import COUNTERS, Opcode, Status
from sim.cocotb_kit.harness import bench, parameters, start
from sim.cocotb_kit.streams import StreamDriver, take

from .commands_engine import VERDICT_CYCLES, Engine, Verdict

PAUSE_CYCLES = 3
"""Most cycles from one byte of a payload to the link's offer of the next."""

BETWEEN_CYCLES = 12
"""Least cycles from the last byte of a response to the next request."""

HEADER_STATUSES = [Status.BAD_MAGIC, Status.BAD_VERSION, Status.WRONG_CONFIG]
"""Verdicts after which the image before stays."""


async def offer(driver: StreamDriver, payload: bytes) -> None:
    """The payload, with short pauses."""
    for byte in payload:
        if random.random() < parameters()["idle"]:
            await ClockCycles(driver.clk, random.randint(1, PAUSE_CYCLES))
        await driver.send([byte])


async def exchange(dut: Any, driver: StreamDriver, opcode: int, payload: bytes) -> tuple[Status, bytes]:
    """A request, as the link makes it; returns status and body of the response."""
    dut.requests__pending.value, dut.requests__opcode.value, dut.requests__length.value = 1, opcode, len(payload)
    offering = cocotb.start_soon(offer(driver, payload))
    settled = False
    while True:
        await RisingEdge(dut.clk)
        settled = settled or bool(dut.inferences__settled.value)
        if dut.requests__respond.value:
            break
    assert settled
    status, body_bytes = Status(int(dut.requests__status.value)), int(dut.requests__response_bytes.value) - 1
    assert (opcode, status) != (Opcode.WAIT.value, Status.OK) or not dut.inferences__running.value
    # What was not taken is thrown away.
    offering.cancel()
    dut.requests__pending.value = driver.valid.value = 0
    await ClockCycles(dut.clk, random.randint(5, 9))
    body = bytes(await take(dut, "requests__body", body_bytes, stall=parameters()["stall"]))
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
    """An answer that a loader may give to the bytes of an image from one place to another."""
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
    driver = StreamDriver(dut, "requests__payload")
    dut.requests__pending.value = dut.requests__body__ready.value = 0
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
