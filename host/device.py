# SPDX-License-Identifier: Apache-2.0
"""The driver: the same for an engine in simulation and on a board."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from host.errors import UserError
from host.image import Image
from rtl.config import EngineConfig
from rtl.protocol import COUNTERS, CRC_BYTES, HEADER_BYTES, SYNC, Opcode, Status, pack

__all__ = ["Device", "DeviceError", "Inference", "LinkPort", "unpack"]


class LinkPort(Protocol):
    """Something that carries packets to an engine and brings its responses back, in order."""

    def exchange(self, requests: Sequence[bytes]) -> list[bytes]: ...


class DeviceError(UserError):
    """The engine refused a request, or did not answer."""

    def __init__(self, message: str, status: Status | None = None) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True)
class Inference:
    """What one inference gave.

    Attributes
    ----------
    layers : list of int64 array, shape ``[rows]``
        Output activations of the layers that were read, the last layer's last.
    counters : dict
        `rtl.protocol.COUNTERS` by name.
    """

    layers: list[np.ndarray]
    counters: dict[str, int]


def unpack(opcode: Opcode, response: bytes) -> bytes:
    """The body of a response, after its status. Raises `DeviceError` for a bad packet or a status but OK."""
    if len(response) < HEADER_BYTES + 1 + CRC_BYTES:
        raise DeviceError(f"the engine gave {len(response)} bytes in answer to {opcode.name}; is it connected?")
    content, crc = response[1:-CRC_BYTES], int.from_bytes(response[-CRC_BYTES:], "little")
    length = int.from_bytes(content[1:3], "little")
    if response[0] != SYNC or zlib.crc32(content) != crc or length != len(content) - 3:
        raise DeviceError(f"the engine's answer to {opcode.name} was damaged on the way; try again")
    status = Status(content[3])
    if status != Status.OK:
        raise DeviceError(f"the engine refused {opcode.name}: {status.name}", status)
    return content[4:]


class Device:
    """An engine behind a link.

    Parameters
    ----------
    port : LinkPort
    config : EngineConfig
        The configuration that the engine is believed to have; checked at once.

    Raises
    ------
    DeviceError
        If the engine does not answer or has another configuration.
    """

    def __init__(self, port: LinkPort, config: EngineConfig) -> None:
        self.port = port
        self.config = config
        identity = self._call(Opcode.IDENTIFY)
        if identity[6:14] != config.hash:
            raise DeviceError(f"the engine has configuration {identity[6:14].hex()}, not {config.hash.hex()}; use the "
                              "--preset or --config that it was built with")

    def _call(self, opcode: Opcode, payload: bytes = b"") -> bytes:
        return unpack(opcode, self.port.exchange([pack(opcode.value, payload)])[0])

    def load(self, image: Image, *, progress: Callable[[int], object] = lambda sent: None, batch: int = 64) -> None:
        """Loads an image. Raises `DeviceError` if the engine refuses it.

        Parameters
        ----------
        progress : callable
            Told of every batch how many bytes of the image it had.
        batch : int
            Packets that go out together.
        """
        step = self.config.packet_bytes - 4
        content = image.engine
        for first in range(0, len(content), step * batch):
            part = content[first:first + step * batch]
            packets = [pack(Opcode.LOAD.value, (first + place).to_bytes(4, "little") + part[place:place + step])
                       for place in range(0, len(part), step)]
            for response in self.port.exchange(packets):
                unpack(Opcode.LOAD, response)
            progress(len(part))

    def infer(self, image: Image, acts: np.ndarray, *, every_layer: bool = False,
              batch: int = 50) -> Iterator[Inference]:
        """Runs inferences on the image that is loaded.

        Parameters
        ----------
        acts : int64 array, shape ``[n, inputs]``
            Input activations (`host.quantize.quantize_inputs`).
        every_layer : bool
            Read the outputs of every layer in ``image.readable``, not only the last.
        batch : int
            Inferences whose packets go out together.
        """
        words = self._input_words(image, acts)
        chosen = [image.layers[number] for number in image.readable] if every_layer else image.layers[-1:]
        reads = [self._reads(layer["output_base"], layer["output_words"]) for layer in chosen]
        for first in range(0, len(words), batch):
            block = words[first:first + batch]
            requests = [packet for one in block for packet in self._packets(one, reads)]
            responses = iter(self.port.exchange(requests))
            for one in block:
                yield self._inference(one, reads, chosen, responses)

    def _input_words(self, image: Image, acts: np.ndarray) -> np.ndarray:
        """Input activations as bytes, in the order of the activation memory: uint8 ``[n, bytes]``."""
        arranged = np.where(image.input_order >= 0, acts[:, image.input_order], 0)
        unsigned = (arranged & ((1 << self.config.act_bits) - 1)).astype(f"<u{self.config.act_bytes}")
        return np.ascontiguousarray(unsigned).view(np.uint8).reshape(len(acts), -1)

    def _writes(self, content: np.ndarray) -> list[bytes]:
        word_bytes = self.config.pes * self.config.act_bytes
        step = (self.config.packet_bytes - 2) // word_bytes * word_bytes
        return [pack(Opcode.WRITE.value,
                     (first // word_bytes).to_bytes(2, "little") + content[first:first + step].tobytes())
                for first in range(0, len(content), step)]

    def _reads(self, base: int, words: int) -> list[bytes]:
        step = (self.config.packet_bytes - 1) // (self.config.pes * self.config.act_bytes)
        return [pack(Opcode.READ.value, (base + first).to_bytes(2, "little")
                     + min(step, words - first).to_bytes(2, "little")) for first in range(0, words, step)]

    def _packets(self, content: np.ndarray, reads: list[list[bytes]]) -> list[bytes]:
        return [*self._writes(content), pack(Opcode.RUN.value), pack(Opcode.WAIT.value),
                *(packet for layer in reads for packet in layer)]

    def _inference(self, content: np.ndarray, reads: list[list[bytes]], layers: list[dict],
                   responses: Iterator[bytes]) -> Inference:
        for _ in self._writes(content):
            unpack(Opcode.WRITE, next(responses))
        unpack(Opcode.RUN, next(responses))
        values = np.frombuffer(unpack(Opcode.WAIT, next(responses)), "<u4")
        counters = {name: int(value) for name, value in zip(COUNTERS, values, strict=True)}
        outputs = []
        for layer, packets in zip(layers, reads, strict=True):
            body = b"".join(unpack(Opcode.READ, next(responses)) for _ in packets)
            # Whether an output is two's complement is for the caller to know: it gets the bits.
            outputs.append(np.frombuffer(body, f"<u{self.config.act_bytes}").astype(np.int64)[layer["output_order"]])
        return Inference(outputs, counters)
