# SPDX-License-Identifier: Apache-2.0
"""Faults of the link: damaged images, mutated packets and resets; the engine must notice, and work afterwards."""

import random
import zlib
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from host.device.device import Device
from host.device.requests import inference_packets, input_content
from host.image.image import Image
from nonzero.errors import UserError
from rtl.config import EngineConfig
from rtl.protocol import CRC_BYTES, HEADER_BYTES, SYNC, Opcode, Status, pack, packet_length
from sim.simulator.link import SimulationLink

__all__ = ["FaultError", "Faults", "expected_statuses", "split_responses"]


class FaultError(UserError):
    """The engine did not survive a fault as it should."""


def split_responses(content: bytes) -> list[tuple[int, bytes]]:
    """Opcode and payload of each packet in ``content``. Raises `FaultError` if it is anything but sound packets."""
    found = []
    while content:
        length = HEADER_BYTES + int.from_bytes(content[2:4], "little")
        body, crc = content[1:length], content[length:length + CRC_BYTES]
        if content[0] != SYNC or len(crc) != CRC_BYTES or zlib.crc32(body) != int.from_bytes(crc, "little"):
            raise FaultError(f"no sound response: {content.hex()}")
        found.append((content[1], body[3:]))
        content = content[length + CRC_BYTES:]
    return found


def expected_statuses(content: bytes, packet_bytes: int) -> list[tuple[int, Status]]:
    """Opcode, and OK, BAD_CRC or TOO_LONG, of each packet that a stream of bytes holds, see docs/formats.md.

    Parameters
    ----------
    content : bytes
        The stream, from its first byte on.
    packet_bytes : int
        Longest payload that the engine takes.
    """
    found, place = [], 0
    while (begin := content.find(SYNC, place)) >= 0 and begin + HEADER_BYTES <= len(content):
        place = begin + HEADER_BYTES
        length = int.from_bytes(content[begin + 2:place], "little")
        status = Status.TOO_LONG
        if length <= packet_bytes:
            place += length + CRC_BYTES
            if place > len(content):
                break
            sound = zlib.crc32(content[begin + 1:place - CRC_BYTES]) \
                == int.from_bytes(content[place - CRC_BYTES:place], "little")
            status = Status.OK if sound else Status.BAD_CRC
        found.append((content[begin + 1], status))
    return found


def _progress(count: int, what: str, unit: str) -> tqdm:
    return tqdm(total=count, desc=what, unit=unit, leave=False, disable=None)


class Faults:
    """Faults of one engine with one image.

    Parameters
    ----------
    link : SimulationLink
        Holds at least eight packets of the longest, and the zeros that end one besides.
    config : EngineConfig
    image : Image
    acts : int64 array, shape ``[n, inputs]``
    outputs : list of list of int
        Outputs that the engine must give for them.
    seed : int

    Every method returns how many faults it tried, and raises `FaultError` for one that the engine does not survive.
    """

    def __init__(self, link: SimulationLink, config: EngineConfig, image: Image, acts: np.ndarray,
                 outputs: Sequence[Sequence[int]], *, seed: int = 1) -> None:
        self.link, self.config, self.image, self.acts = link, config, image, acts
        self.outputs = [list(output) for output in outputs]
        self.random = random.Random(seed)
        self.longest = packet_length(config.packet_bytes)
        self.run_cycles = 1

    def flip_image_bits(self, *, step: int = 1) -> int:
        """Flips each bit of the image, or every ``step``-th, one at a time. None may be taken for an image."""
        bits = range(0, 8 * len(self.image.engine), step)
        for bit in tqdm(bits, "flipped bits", unit="bit", leave=False, disable=None):
            damaged = bytearray(self.image.engine)
            damaged[bit // 8] ^= 1 << bit % 8
            self.link.reset()
            responses = self.link.exchange([*self._loads(bytes(damaged)), pack(Opcode.RUN.value)])
            status = Status(split_responses(responses[-1])[0][1][0])
            if self._is_loaded() or status != Status.NOT_LOADED:
                raise FaultError(f"bit {bit} of the image was flipped and nobody noticed")
        self._reload()
        return len(bits)

    def mutate_packets(self, count: int) -> int:
        """Sends ``count`` mutated packets and short noise, eight at a time; after them the engine must answer rightly.
        """
        self._reload()
        with _progress(count, "mutated packets", "packet") as progress:
            for first in range(0, count, 8):
                mutants = [self._mutant() for _ in range(min(8, count - first))]
                self._survive(b"".join(mutants), f"packet {first}")
                progress.update(len(mutants))
        return count

    def send_noise(self, count: int) -> int:
        """Sends ``count`` random bytes in lots of some hundreds; every other lot has many SYNC and small numbers."""
        self._reload()
        lot = 4 * self.longest
        with _progress(count, "random bytes", "B") as progress:
            for first in range(0, count, lot):
                length = min(lot, count - first)
                plain = first // lot % 2 == 0
                noise = self.random.randbytes(length) if plain else bytes(
                    self.random.choice([SYNC, 0, 0, 1, 2, 4, 5, 6, self.random.randrange(256)])
                    for _ in range(length))
                self._survive(noise, f"byte {first}")
                progress.update(length)
        return count

    def reset_anywhere(self, count: int) -> int:
        """Resets the engine ``count`` times: while it loads, runs and reads, in turn. Then it loads and runs anew."""
        self._reload()
        (content,) = input_content(self.image, self.acts[:1], self.config)
        inference = inference_packets(content, self.image.layers[-1:], self.config)
        loads, run = self._loads(self.image.engine), inference.index(pack(Opcode.RUN.value))
        with _progress(count, "resets", "reset") as progress:
            for number in range(count):
                packets, place = ((loads, self.random.randrange(len(loads))), (inference, run),
                                  (inference, self.random.randrange(run + 1, len(inference))))[number % 3]
                # Requests before the chosen one are carried out. The inference runs while RUN's answer is sent.
                most = self.run_cycles if place == run else 2 * max(len(packets[place]), self.config.pes)
                self.link.exchange(packets[:place])
                self.link.interrupt(packets[place], self.random.randint(1, most))
                if self._is_loaded():
                    raise FaultError(f"reset {number}: there is an image after a reset")
                self._reload()
                progress.update()
        return count

    def _survive(self, content: bytes, where: str) -> None:
        """Checks that the engine answers the packets in these bytes as it should, and works as before afterwards."""
        content += bytes(self.longest) + pack(Opcode.IDENTIFY.value)
        responses = split_responses(self.link.exchange(content))
        expected = expected_statuses(content, self.config.packet_bytes)
        if [opcode for opcode, _ in responses] != [opcode for opcode, _ in expected]:
            raise FaultError(f"{where}: other responses than packets in {content.hex()}")
        for (opcode, payload), (_, status) in zip(responses, expected, strict=True):
            refused = Status(payload[0]) in (Status.BAD_CRC, Status.TOO_LONG)
            if refused != (status != Status.OK) or (refused and payload != bytes([status.value])):
                raise FaultError(f"{where}: opcode {opcode} has {payload.hex()}, not {status.name}")
        if responses[-1][1][0] != Status.OK.value:
            raise FaultError(f"{where}: IDENTIFY is refused after {content.hex()}")
        if not self._is_loaded():
            self._reload()
        else:
            self._check(f"{where}: after {content.hex()}")

    def _mutant(self) -> bytes:
        """A packet with a mutation, which may keep its CRC right, or random bytes."""
        choices = self.random
        limit = self.config.packet_bytes
        packets = [*self._loads(self.image.engine), pack(Opcode.RUN.value), pack(Opcode.WAIT.value),
                   pack(Opcode.READ.value, bytes([0, 0, 4, 0])), pack(Opcode.WRITE.value, bytes(2 + 16)),
                   pack(Opcode.IDENTIFY.value)]
        packet = bytearray(choices.choice(packets))
        kind = choices.choice(["bits", "cut", "insert", "twice", "sealed", "length", "noise"])
        if kind == "bits":
            for _ in range(choices.randint(1, 4)):
                packet[choices.randrange(len(packet))] ^= 1 << choices.randrange(8)
        elif kind == "cut":
            del packet[choices.randrange(len(packet)):]
        elif kind == "insert":
            packet.insert(choices.randrange(len(packet)), choices.choice([0, SYNC, choices.randrange(256)]))
        elif kind == "twice":
            packet *= 2
        elif kind == "sealed":
            # Right CRC, wrong content.
            body = bytearray(packet[HEADER_BYTES:-CRC_BYTES]) or bytearray(1)
            body[choices.randrange(min(8, len(body)))] = choices.randrange(256)
            packet = bytearray(pack(choices.choice([packet[1], choices.randrange(8)]), bytes(body[:limit])))
        elif kind == "length":
            packet[2:4] = choices.choice([0, 1, limit, limit + 1, choices.randrange(1 << 16)]).to_bytes(2, "little")
        else:
            packet = bytearray(choices.choice([SYNC, 0, 1, 6, choices.randrange(256)])
                               for _ in range(choices.randint(1, 60)))
        return bytes(packet)

    def _loads(self, content: bytes) -> list[bytes]:
        step = self.config.packet_bytes - 4
        return [pack(Opcode.LOAD.value, place.to_bytes(4, "little") + content[place:place + step])
                for place in range(0, len(content), step)]

    def _is_loaded(self) -> bool:
        (opcode, payload), = split_responses(self.link.exchange(pack(Opcode.IDENTIFY.value)))
        if opcode != Opcode.IDENTIFY.value or payload[0] != Status.OK.value or payload[7:] != self.config.hash:
            raise FaultError(f"the engine says that it is {payload.hex()}")
        return payload[2] == 1

    def _reload(self) -> None:
        Device(self.link, self.config).load(self.image)
        self._check("after a load")

    def _check(self, when: str) -> None:
        device = Device(self.link, self.config)
        device.image = self.image
        inferences = list(device.inferences(self.acts))
        got = [one.layers[-1].tolist() for one in inferences]
        if got != self.outputs:
            raise FaultError(f"{when}: the engine gives {got}, not {self.outputs}")
        self.run_cycles = inferences[0].counters["cycles"]
