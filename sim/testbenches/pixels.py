# SPDX-License-Identifier: Apache-2.0
"""The order of pixels and of pooling windows against loops, and the greatest of each window."""

import random
from collections.abc import Iterator
from typing import Any

from cocotb.triggers import RisingEdge

from rtl.config import EngineConfig
from rtl.descriptor import descriptor_layout
from rtl.layouts import position_fields, row_bits
from rtl.numbers import Activation
from sim.cocotb_kit.harness import bench, parameters, scramble, start
from sim.cocotb_kit.payloads import pack


def random_pass(config: EngineConfig) -> dict[str, int]:
    """The geometry of a pass, small enough to go through."""
    pool = random.randint(1, 3)
    cols, rows, slots = random.randint(1, 4), random.randint(1, 4), random.randint(1, 3)
    step = random.randint(1, 4)
    out_cols, out_rows = (cols - 1) * step + pool, (rows - 1) * step + pool
    return {"pixel_words": random.randint(1, 3), "pixel_step": random.randint(1, 9), "row_step": random.randint(1, 99),
            "scan_cols": random.randint(1, 5), "scan_rows": random.randint(1, 5),
            "first_x": random.randint(-9, 5), "first_y": random.randint(-9, 5),
            "out_cols": out_cols, "out_rows": out_rows, "first_row": random.getrandbits(16),
            "row_pitch": out_cols * slots, "output_words": slots, "pool": pool, "pool_step": step,
            "pooled_cols": cols, "pooled_rows": rows, "bias_base": random.randrange(config.entry_depth)}


def words(one: dict[str, int], config: EngineConfig) -> Iterator[dict[str, int]]:
    """The expected outputs for each word of a pass."""
    edge, modulus = range(1 << config.tap_bits), 1 << row_bits(config)
    for row in range(one["scan_rows"]):
        for col in range(one["scan_cols"]):
            x, y = one["first_x"] + col, one["first_y"] + row
            for word in range(one["pixel_words"]):
                yield {
                    "offset": row * one["row_step"] + col * one["pixel_step"] + word,
                    "wraps": int(word == one["pixel_words"] - 1),
                    "position_base": (one["first_row"] + row * one["row_pitch"] + col * one["output_words"]) % modulus,
                    "tap_rows": sum((0 <= y - tap < one["out_rows"]) << tap for tap in edge),
                    "tap_cols": sum((0 <= x - tap < one["out_cols"]) << tap for tap in edge),
                }


@bench()
async def pixels_come_in_order(dut: Any) -> None:
    config = EngineConfig(**parameters())
    base_bits, edge = (position_fields(config)[name] for name in ("base", "tap_rows"))
    dut.start.value = dut.step.value = 0
    await start(dut)
    for _ in range(200):
        one = random_pass(config)
        scramble(dut.layer)
        dut.start.value = 1
        await RisingEdge(dut.clk)
        dut.start.value = 0
        dut.layer.value = pack(descriptor_layout(config), one)
        await RisingEdge(dut.clk)
        expected = list(words(one, config))
        for number, word in enumerate(expected):
            while True:
                stepping = dut.step.value = random.getrandbits(1)
                await RisingEdge(dut.clk)
                position = int(dut.position.value)
                assert int(dut.offset.value) == word["offset"] and int(dut.wraps.value) == word["wraps"]
                assert position & ((1 << base_bits) - 1) == word["position_base"]
                assert position >> base_bits & ((1 << edge) - 1) == word["tap_rows"]
                assert position >> base_bits + edge == word["tap_cols"]
                assert bool(dut.last.value) == (number == len(expected) - 1)
                if stepping:
                    if number < len(expected) - 1:
                        assert int(dut.next_offset.value) == expected[number + 1]["offset"]
                    break
        dut.step.value = 0


def accumulators(one: dict[str, int]) -> Iterator[tuple[int, int]]:
    """Accumulator and slot of each step of a drain."""
    for row in range(one["pooled_rows"]):
        for col in range(one["pooled_cols"]):
            for slot in range(one["output_words"]):
                for y in range(row * one["pool_step"], row * one["pool_step"] + one["pool"]):
                    for x in range(col * one["pool_step"], col * one["pool_step"] + one["pool"]):
                        yield y * one["row_pitch"] + x * one["output_words"] + slot, slot


@bench()
async def windows_come_in_order(dut: Any) -> None:
    config = EngineConfig(**parameters())
    dut.start.value = dut.step.value = dut.clear.value = 0
    await start(dut)
    for number in range(200):
        one = random_pass(config)
        dut.layer.value = pack(descriptor_layout(config), one)
        clear = dut.clear.value = int(number % 10 == 0)
        dut.start.value = 1
        await RisingEdge(dut.clk)
        dut.start.value = 0
        # What the layer is was noted.
        scramble(dut.layer, dut.clear)
        expected = [(row, row) for row in range(config.acc_depth)] if clear else list(accumulators(one))
        rows = [row for row, _ in expected]
        for place, (row, slot) in enumerate(expected):
            while True:
                stepping = dut.step.value = random.getrandbits(1)
                await RisingEdge(dut.clk)
                assert int(dut.row.value) == row and bool(dut.last.value) == (place == len(expected) - 1)
                # A row is cleared when it is read for the last time.
                assert bool(dut.keep.value) == (row in rows[place + 1:])
                assert clear or int(dut.bias_address.value) == \
                    (one["bias_base"] + slot * config.bias_words) % (1 << len(dut.bias_address))
                if stepping:
                    break
        dut.step.value = 0


@bench()
async def the_greatest_of_each_window_comes_out(dut: Any) -> None:
    config = EngineConfig(**parameters())
    bits = config.act_bits
    dut.start.value = dut.drained__valid.value = 0
    await start(dut)
    for _ in range(100):
        edge, activation = random.randint(1, 4), random.choice(list(Activation))
        dut.start.value, dut.pool.value, dut.activation.value = 1, edge, activation.value
        dut.drained__valid.value = 0
        await RisingEdge(dut.clk)
        dut.start.value = 0
        scramble(dut.pool)
        low = -1 << bits - 1 if activation.signed else 0
        for _ in range(5):
            window = [[low + random.getrandbits(bits) for _ in range(config.pes)] for _ in range(edge * edge)]
            for number, acts in enumerate(window):
                while random.random() < 0.3:
                    dut.drained__valid.value = 0
                    scramble(dut.drained__payload)
                    await RisingEdge(dut.clk)
                    assert not dut.words__valid.value
                dut.drained__valid.value = 1
                dut.drained__payload.value = sum((act & (1 << bits) - 1) << lane * bits
                                                 for lane, act in enumerate(acts))
                await RisingEdge(dut.clk)
                assert bool(dut.words__valid.value) == (number == edge * edge - 1)
            greatest = [max(acts) & (1 << bits) - 1 for acts in zip(*window, strict=True)]
            assert int(dut.words__payload.value) == sum(act << lane * bits for lane, act in enumerate(greatest))
