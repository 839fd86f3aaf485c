# SPDX-License-Identifier: Apache-2.0
"""The scanner against lists of activations, under random stops and with words that become readable one by one."""

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

from cocotb.triggers import RisingEdge

from rtl.config import EngineConfig
from rtl.descriptor import descriptor_layout
from rtl.engine.scanner import Scanner
from rtl.layouts import beat_layout
from sim.cocotb_kit.harness import bench, parameters, scramble, start
from sim.cocotb_kit.payloads import unpack


class Layer:
    """A random layer's input: words of stored activations, and where they lie."""

    def __init__(self, config: EngineConfig, *, chase: bool) -> None:
        self.config = config
        density = random.choice([0.03, 0.3, 1.0])
        self.words = [[random.randrange(1, 1 << config.act_bits) if random.random() < density else 0
                       for _ in range(config.pes)] for _ in range(random.randint(1, 24))]
        self.base = random.randrange(config.act_depth - len(self.words) + 1)
        # Words that the layer before wrote already.
        self.readable = random.randint(0, len(self.words)) if chase else len(self.words)
        self.growing = chase

    def beats(self, word: int) -> Iterator[dict[str, int]]:
        """The beats of a word; a block without an activation is one, whose activation and column mean nothing."""
        block_cols = self.config.block_cols
        for first in range(0, self.config.pes, block_cols):
            block = self.words[word][first:first + block_cols]
            present = [col for col, stored in enumerate(block) if stored]
            for col in present:
                yield {"act": block[col], "col": col, "present": 1, "last": int(col == present[-1])}
            if not present:
                yield {"present": 0, "last": 1}

    def begin(self, dut: Any) -> None:
        """Sets what is read with ``start``; without a drain before it, the number of words means nothing."""
        layout = descriptor_layout(self.config)
        chase_words = self.readable if self.growing else random.randint(0, len(self.words))
        fields = {"input_base": self.base, "input_words": len(self.words), "chase_words": chase_words}
        bits = random.getrandbits(layout.size)
        for name, value in fields.items():
            field = layout[name]
            bits = bits & ~((1 << field.width) - 1 << field.offset) | value << field.offset
        dut.scan__next.value, dut.progress__growing.value = bits, self.growing


async def scan(dut: Any, layer: Layer, *, chase: bool, stop_rate: float) -> tuple[int, int]:
    """Runs a layer; returns the beats and the stalls that came."""
    config = layer.config
    act_bits, layout = config.act_bits, beat_layout(config)
    words = [sum(stored << lane * act_bits for lane, stored in enumerate(word)) for word in layer.words]
    layer.begin(dut)
    dut.scan__start.value = 1
    await RisingEdge(dut.clk)
    dut.scan__start.value = 0

    coming: deque[tuple[int, dict[str, int]]] = deque()     # beats of words read, with their earliest cycle
    leaves: dict[str, int] | None = None                    # what left the last block register for `beats`
    place = stop = beats = stalls = 0
    # Least cycles from the reading of a word to its first beat. A word can be read two cycles after `grows`.
    read_cycles = Scanner.latency_cycles(config) - 1
    grows = grew = False
    # Whether the word that `grows` has announced in the cycle before may be, or must be, scanned without being read.
    may_forward = must_forward = was_idle = False
    cycle = 0
    while place < len(words) or coming or leaves is not None:
        cycle += 1
        scramble(dut.scan__next, dut.host__address)
        dut.progress__grows.value, dut.progress__growing.value = grows, layer.growing
        if Scanner.forwards(config):
            dut.fresh.value = words[layer.readable + grew] if grows else random.getrandbits(len(dut.fresh))
        stop = int(random.random() < (0.9 if stop else 0.1)) if 0 < stop_rate < 1 else int(stop_rate)
        dut.stop.value = stop
        await RisingEdge(dut.clk)

        # Beats: nothing but what was due, and that in time.
        assert not dut.done.value, f"cycle {cycle}"
        assert bool(dut.beats__valid.value) == (leaves is not None), f"cycle {cycle}"
        if leaves is not None:
            beat = unpack(layout, int(dut.beats__payload.value))
            assert {key: beat[key] for key in leaves} == leaves, f"cycle {cycle}"
            beats += 1
        waits = bool(coming) and coming[0][0] <= cycle + 1
        stalled = bool(dut.stalled.value)
        assert stalled == (waits and bool(stop)), f"cycle {cycle}"
        stalls += stalled
        # A beat in every cycle, unless there is nothing to read.
        if not chase and cycle > read_cycles and (coming or place < len(words)):
            assert waits, f"cycle {cycle}"
        idle = not coming
        leaves = coming.popleft()[1] if waits and not stop else None

        # A word that is not read: the address is the next one's already.
        address = int(dut.memory__address.value)
        forwarded = may_forward and address == (layer.base + place + 1) % (1 << len(dut.memory__address))
        assert forwarded or not must_forward, f"cycle {cycle}"
        if forwarded:
            coming += ((cycle + read_cycles - 2, beat) for beat in layer.beats(place))
            place += 1
        # Reads: each word once, in order and not too soon.
        readable = place < layer.readable
        if place < len(words) and dut.memory__enable.value:
            assert readable, f"cycle {cycle}"
            assert address == layer.base + place, f"cycle {cycle}"
            coming += ((cycle + read_cycles, beat) for beat in layer.beats(place))
            dut.memory__word.value = words[place]
            dut.memory__nonzero.value = sum((stored != 0) << lane for lane, stored in enumerate(layer.words[place]))
            place += 1
        else:
            assert not (readable and idle), f"cycle {cycle}"
            if dut.memory__enable.value:
                # Once all words are read, the host may read others: they must not take the place of a word that waits.
                scramble(dut.memory__word, dut.memory__nonzero)
        may_forward = Scanner.forwards(config) and layer.growing and grows and place == layer.readable + grew
        must_forward = may_forward and idle and was_idle
        was_idle = idle and layer.growing and not (grows or grew or forwarded or place < layer.readable)
        # Once the layer before has been written, everything can be read.
        layer.readable = layer.readable + grew if layer.growing else len(words)
        layer.growing, grew = layer.growing and random.random() < 0.98, grows
        grows = layer.growing and layer.readable + grew < len(words) and random.random() < 0.1
    return beats, stalls


@bench()
async def every_activation_leaves_once(dut: Any) -> None:
    config = EngineConfig(**parameters())
    dut.scan__start.value = 0
    scramble(dut.scan__next, dut.stop)
    dut.progress__grows.value = dut.progress__growing.value = dut.host__address.value = 0
    await start(dut)
    beats = stalls = 0
    for number in range(30):
        # Between two layers the host may read the memory.
        peeked: list[int] = []
        for _ in range(random.randint(1, 6)):
            scramble(dut.host__address, dut.stop, dut.memory__word, dut.memory__nonzero)
            await RisingEdge(dut.clk)
            assert dut.done.value and not (dut.beats__valid.value or dut.stalled.value)
            assert not peeked or (dut.memory__enable.value and int(dut.memory__address.value) == peeked[-1])
            peeked.append(int(dut.host__address.value))
        chase = number % 2 == 1
        seen = await scan(dut, Layer(config, chase=chase), chase=chase, stop_rate=(0.0, 0.5, 0.9)[number % 3])
        beats, stalls = beats + seen[0], stalls + seen[1]
    assert beats > 500 and stalls > 200, (beats, stalls)
