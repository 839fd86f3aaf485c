# SPDX-License-Identifier: Apache-2.0
"""Loads mutants of one good image into one simulated engine, and judges the result of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from host.cycle_model.predict import predict
from host.decoding.decode import Decoded, decode
from host.device.device import Device
from host.device.requests import inference_packets, input_content, read_packets
from host.image.image import Image
from host.quantization.golden_model import forward
from nonzero.errors import UserError
from rtl.config import EngineConfig
from rtl.engine.engine import Engine
from rtl.image_format import HEADER_BYTES, LIMIT_STEP, header_layout
from rtl.numbers import act_values
from rtl.protocol import COUNTERS, Opcode, Status, load_packets
from rtl.structure import limit_bits
from sim.simulator.link import SimulationLink, build_link
from sim.simulator.verilate import Build

from .faults import FaultError, split_responses
from .mutants import Mutant, Mutator

__all__ = ["OUTCOMES", "Fuzzer", "Tried", "build_engine"]

REFUSED, ENDED, EQUAL, UNDEFINED, WRONG, AFTERWARDS = OUTCOMES = (
    "refused", "ended_in_status", "equal_golden", "refused_by_decoder", "wrong", "wrong_afterwards")
"""Outcomes of a mutant. The last one, a wrong good image afterwards, is counted beside the others."""

INPUTS = 4
"""Inferences of the good image, each with its expected outputs and counters."""

AT_ONCE = 8
"""Mutants whose packets go out together."""

CAPACITY_BYTES = 1 << 14
PATIENCE, IDLE_CYCLES = 2, 10_000
"""An engine hangs if it is silent for `PATIENCE` times the longest limit of any mutant, plus `IDLE_CYCLES`."""


@dataclass(frozen=True)
class Tried:
    """The outcome of one mutant.

    Attributes
    ----------
    mutant : Mutant
    outcome : str
        One of `OUTCOMES`, the last excepted.
    fault : str
        Fault on the mutant itself, if any.
    fault_afterwards : str
        Fault on the good image after it, if any.
    """

    mutant: Mutant
    outcome: str
    fault: str = ""
    fault_afterwards: str = ""


class Fuzzer:
    """Tries mutants of one good image on one simulated engine.

    Parameters
    ----------
    link : SimulationLink
        Result of `build_engine`.
    config : EngineConfig
    image : Image
        The good one.
    seed : str
        Seed of mutants and inputs.
    """

    def __init__(self, link: SimulationLink, config: EngineConfig, image: Image, seed: str) -> None:
        self.link, self.config, self.good, self.seed = link, config, image, seed
        self.decoded = decode(image, config)
        self.acts = self._bits("good", INPUTS)
        self.golden, self.counters = self._expected(self.decoded, self.acts)
        self.mutator = Mutator(self.decoded, int(self.counters["cycles"].max()), seed)
        self.link.patience_cycles = PATIENCE * self.mutator.longest_limit + IDLE_CYCLES
        # Refuses an engine of another configuration.
        Device(link, config)

    def run(self, numbers: Sequence[int]) -> Iterator[Tried]:
        """Tries the mutants with these ``numbers``, in order, and yields the outcome of each."""
        left = list(numbers)
        while left:
            tried = list(self._try(left[:AT_ONCE]))
            yield from tried
            left = left[len(tried):]

    def _try(self, numbers: Sequence[int]) -> Iterator[Tried]:
        """Tries some mutants at once. Those after one that does harm are left out, since it may harm them, too."""
        mutants = [self.mutator.mutant(number) for number in numbers]
        requests = [self._requests(mutant.image, self._bits(str(mutant.number), 1))
                    + self._requests(self.good, self._good_acts(mutant)) for mutant in mutants]
        lots = [list(_joined(packets, self.link.capacity_bytes)) for packets in requests]
        responses = iter(self.link.exchange([part for lot in lots for part in lot]))
        for mutant, packets, lot in zip(mutants, requests, lots, strict=True):
            tried = self._judged(mutant, len(packets), b"".join(next(responses) for _ in lot))
            yield tried
            if tried.fault or tried.fault_afterwards:
                self.link.reset()
                return

    def _bits(self, what: str, count: int) -> np.ndarray:
        """Input activations as the bits that are written: int64 ``[count, inputs]``, a third of them zero."""
        rng = np.random.default_rng(list(f"{self.seed} {what}".encode()))
        shape = count, self.decoded.network.inputs
        return np.where(rng.random(shape) < 2 / 3, rng.integers(0, 1 << self.config.act_bits, shape), 0)

    def _good_acts(self, mutant: Mutant) -> np.ndarray:
        place = mutant.number % INPUTS
        return self.acts[place:place + 1]

    def _expected(self, decoded: Decoded, bits: np.ndarray) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """Golden outputs of every layer, as bits, and counters."""
        network = decoded.network
        acts = act_values(bits, self.config.act_bits, signed=network.input_signed)
        golden = forward(network, acts)
        mask = (1 << self.config.act_bits) - 1
        return [one & mask for one in golden], predict(decoded, acts, golden).counters

    def _requests(self, image: Image, bits: np.ndarray) -> list[bytes]:
        """Packets that load an image, run it once, and read every layer that can be read."""
        (content,) = input_content(self.good, bits, self.config)
        return [*load_packets(image.engine, self.config.packet_bytes),
                *inference_packets(content, _read(image), self.config)]

    def _judged(self, mutant: Mutant, count: int, content: bytes) -> Tried:
        try:
            responses = split_responses(content)
        except FaultError as error:
            return Tried(mutant, WRONG, str(error))
        if len(responses) != count:
            return Tried(mutant, WRONG, f"{len(responses)} of {count} requests are answered")
        own = len(self._requests(mutant.image, self.acts[:1]))
        return replace(self._judged_itself(mutant, responses[:own]),
                       fault_afterwards=self._difference(responses[own:], self.good, mutant.number % INPUTS,
                                                         self.golden, self.counters))

    def _judged_itself(self, mutant: Mutant, responses: list[tuple[int, bytes]]) -> Tried:
        bad = [opcode for opcode, payload in responses if payload[0] != Status.OK.value]
        if Opcode.LOAD.value in bad or Opcode.RUN.value in bad:
            return Tried(mutant, REFUSED)
        try:
            decoded = decode(mutant.image, self.config)
        except UserError:
            return Tried(mutant, ENDED if bad else UNDEFINED)
        golden, counters = self._expected(decoded, self._bits(str(mutant.number), 1))
        if bad:
            cycles, limit = int(counters["cycles"][0]), self._limit(mutant.image)
            if cycles // LIMIT_STEP < limit:
                return Tried(mutant, WRONG, f"stopped before {limit * LIMIT_STEP} cycles, but takes {cycles}")
            return Tried(mutant, ENDED)
        fault = self._difference(responses, mutant.image, 0, golden, counters)
        return Tried(mutant, WRONG if fault else EQUAL, fault)

    def _limit(self, image: Image) -> int:
        """Steps of cycles at which the watchdog ends an inference."""
        header: Any = header_layout().from_bits(int.from_bytes(image.engine[:HEADER_BYTES], "little"))
        return int(header.cycle_limit) // LIMIT_STEP % (1 << limit_bits(self.config))

    def _difference(self, responses: list[tuple[int, bytes]], image: Image, place: int, golden: list[np.ndarray],
                    counters: dict[str, np.ndarray]) -> str:
        """A description of what is wrong with the answers to `_requests`; empty if nothing is."""
        for opcode, payload in responses:
            if payload[0] != Status.OK.value:
                return f"{Opcode(opcode).name} is answered with {Status(payload[0]).name}"
        bodies = [payload[1:] for opcode, payload in responses if opcode == Opcode.READ.value]
        for number, layer in zip(image.readable, _read(image), strict=True):
            reads = len(read_packets(layer, self.config))
            words = b"".join(bodies[:reads])
            del bodies[:reads]
            given = np.frombuffer(words, f"<u{self.config.act_bytes}")[layer["output_order"]]
            if (wrong := np.flatnonzero(given != golden[number][place])).size:
                return (f"{len(wrong)} outputs of layer {number}, the first, {wrong[0]}, is {given[wrong[0]]} instead "
                        f"of {golden[number][place][wrong[0]]}")
        waited = next(payload[1:] for opcode, payload in responses if opcode == Opcode.WAIT.value)
        told = dict(zip(COUNTERS, np.frombuffer(waited, "<u4").tolist(), strict=True))
        return ", ".join(f"{name} {told[name]} instead of {counters[name][place]}" for name in COUNTERS
                         if told[name] != counters[name][place])


def _read(image: Image) -> list[dict[str, Any]]:
    return [image.layers[number] for number in image.readable]


def _joined(packets: list[bytes], most: int) -> Iterator[bytes]:
    """Joins packets into pieces of at most ``most`` bytes, which are sent at once."""
    joined = b""
    for packet in packets:
        if len(joined) + len(packet) > most:
            yield joined
            joined = b""
        joined += packet
    yield joined


def build_engine(config: EngineConfig) -> Build:
    """The simulation of the engine ``config``, optimised, because large engines take long to simulate."""
    return build_link(Engine(config), capacity_bytes=CAPACITY_BYTES, long_runs=config.pes > 16)
