# SPDX-License-Identifier: Apache-2.0
"""The drain between random layers and PEs whose activations arrive after random delays."""

import random
from typing import Any

from cocotb.triggers import RisingEdge

from rtl.config import EngineConfig
from rtl.descriptor import descriptor_layout
from rtl.layouts import drain_step_layout, requant_layout
from sim.cocotb_kit.harness import bench, parameters, scramble, start
from sim.cocotb_kit.payloads import unpack

FIRST_STEP_CYCLES = 4
"""Most cycles from the start to the first row that is read."""


def random_layer(config: Any) -> tuple[int, dict[str, Any]]:
    """A descriptor, in bits and by field, whose rows and biases are inside the memories."""
    layout = descriptor_layout(config)
    words = random.choice([1, 2, random.randint(1, config.acc_depth), config.acc_depth])
    fields = {"output_words": words, "bias_base": random.randrange(config.entry_depth - words * config.bias_words),
              "output_base": random.randrange(config.act_depth)}
    bits = random.getrandbits(layout.size)
    for name, value in fields.items():
        field = layout[name]
        bits = bits & ~((1 << field.width) - 1 << field.offset) | value << field.offset
    return bits, unpack(layout, bits)


def expected_steps(config: Any, rows: int, bias_base: int) -> list[dict[str, int]]:
    """Every row, with the words of its bias in its last cycles."""
    spare = config.row_cycles - config.bias_words
    return [{"row": row, "bias_address": bias_base + row * config.bias_words + max(part - spare, 0),
             "bias_last": int(part == config.row_cycles - 1)}
            for row in range(rows) for part in range(config.row_cycles)]


async def drain(dut: Any, config: Any, bits: int, layer: dict[str, Any], *, clear: bool, gap: float) -> None:
    """One drain, from the cycle of ``start`` to that of the last word."""
    rows = config.acc_depth if clear else layer["output_words"]
    steps = expected_steps(config, rows, layer["bias_base"])
    constants = {name: layer[name] for name in ("multiplier", "pre_shift", "activation")}
    dut.sequencer__start.value, dut.sequencer__layer.value, dut.sequencer__clear.value = 1, bits, clear
    await RisingEdge(dut.clk)
    assert not dut.sequencer__busy.value
    dut.sequencer__start.value = 0
    read = written = waited = 0
    arrived = False
    while written < rows:
        # What the layer is was noted at the start.
        scramble(dut.sequencer__layer, dut.sequencer__clear)
        await RisingEdge(dut.clk)
        assert dut.sequencer__busy.value and dut.reading.value == dut.steps__valid.value
        if read == 0 and not dut.steps__valid.value:
            waited += 1
            assert waited < FIRST_STEP_CYCLES
        else:
            # From the first to the last no cycle is lost.
            assert dut.steps__valid.value == (read < len(steps))
        if dut.steps__valid.value:
            step = unpack(drain_step_layout(config), int(dut.steps__payload.value))
            if clear:
                step["bias_address"] = steps[read]["bias_address"]
            assert step == steps[read]
            read += 1
        assert dut.writer__write.value == (arrived and not clear)
        if not clear:
            assert unpack(requant_layout(config), int(dut.requant.value)) == constants
            assert dut.progress__grows.value == arrived
            address = (layer["output_base"] + written) % (1 << len(dut.writer__address))
            assert not arrived or int(dut.writer__address.value) == address
        written += arrived
        arrived = written < read // config.row_cycles and random.random() >= gap
        dut.writer__arrived.value = dut.writer__complete.value = arrived
    assert read == len(steps)


@bench()
async def every_row_is_read_and_every_word_written(dut: Any) -> None:
    config = EngineConfig(**parameters()["config"])
    dut.sequencer__start.value = dut.writer__arrived.value = dut.writer__complete.value = 0
    await start(dut)
    for number in range(60):
        bits, layer = random_layer(config)
        # After a reset it clears; the next drain may follow in the cycle after the last word.
        clear = number == 0 or random.random() < 0.2
        await drain(dut, config, bits, layer, clear=clear, gap=random.choice([0.0, 0.3, 0.8]))
        for _ in range(random.choice([0, 0, 1, 5])):
            await RisingEdge(dut.clk)
            assert not (dut.sequencer__busy.value or dut.reading.value or dut.steps__valid.value
                        or dut.writer__write.value or dut.progress__grows.value)
