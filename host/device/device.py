# SPDX-License-Identifier: Apache-2.0
"""The driver: the same for an engine in simulation and on a board."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from host.device.answers import Inference, Info, unpack
from host.device.device_error import DeviceError
from host.device.pe_trace import Bins, read_bins
from host.device.ports import Port, RecordingPort, open_port
from host.device.requests import inference_packets, input_content, read_packets, write_packets
from host.device.serial_port import SerialPort
from host.device.target import Target, parse_target
from host.image.image import Image, read_image
from host.image.program import output_signed
from nonzero.errors import UserError
from rtl.config import PRESETS, EngineConfig
from rtl.numbers import act_values
from rtl.protocol import COUNTERS, PROTOCOL_VERSION, Opcode, Status, load_packets, pack, packet_length

__all__ = ["Device"]


class Device:
    """An engine behind a link; a context manager. ::

        with Device.open("sim:default") as device:
            device.load("model.img")
            outputs = device.infer(acts)

    Parameters
    ----------
    port : Port
    config : EngineConfig, optional
        The configuration that the engine is believed to have; checked at once. Without it the engine is asked, and
        must have one of the presets'.

    Attributes
    ----------
    config : EngineConfig
    image : Image or None
        The image that was loaded last.
    link_bytes : int
        Bytes of packets, both ways.

    Raises
    ------
    DeviceError
        If the engine does not answer (NO_ANSWER, DAMAGED) or is another one (WRONG_ENGINE).
    """

    def __init__(self, port: Port, config: EngineConfig | None = None) -> None:
        self.port = port
        self.image: Image | None = None
        self.link_bytes = 0
        self._owned = ExitStack()
        identity = self._call(Opcode.IDENTIFY)
        known = {one.hash: one for one in ([config] if config is not None else PRESETS.values())}
        if identity[0] != PROTOCOL_VERSION or identity[6:14] not in known:
            told = " or ".join(one.hex() for one in known)
            raise DeviceError(f"the engine has protocol version {identity[0]} and configuration {identity[6:14].hex()},"
                              f" not {PROTOCOL_VERSION} and {told}", Status.WRONG_ENGINE)
        self.config: EngineConfig = known[identity[6:14]]
        self._output_signed: bool | None = None

    @classmethod
    def open(cls, target: str | Target, *, timeout_s: float = 1.0, retries: int = 4, seed: int = 1) -> "Device":
        """Opens a device. Close it, or use it as a context manager.

        Parameters
        ----------
        target : str or Target
            The device, or its name: see `host.device.target.FORMS`.
        timeout_s : float
            Seconds without a byte from a serial port after which a response counts as lost.
        retries : int
            How often a serial port sends a packet again that was lost or damaged.
        seed : int
            Decides what the memories of a simulation hold at the start.

        Raises
        ------
        UserError
            If the name is none, a simulation cannot be built, or the device does not answer (`DeviceError`).
        """
        target = parse_target(target) if isinstance(target, str) else target
        with ExitStack() as opened:
            port = open_port(target, opened, timeout_s=timeout_s, retries=retries, seed=seed)
            device = cls(port, target.config)
            if isinstance(port, SerialPort):
                port.packet_bytes = device.config.packet_bytes
            device._owned = opened.pop_all()
        return device

    def close(self) -> None:
        """Closes what `open` has opened."""
        self._owned.close()

    def abort(self) -> None:
        """Ends at once, with an error, the call that another thread has made to this device."""
        self.port.abort()

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._owned.__exit__(kind, error, traceback)

    def _exchange(self, packets: list[bytes]) -> list[bytes]:
        responses = self.port.exchange(packets)
        self.link_bytes += sum(map(len, packets)) + sum(map(len, responses))
        return responses

    def _call(self, opcode: Opcode, payload: bytes = b"") -> bytes:
        return unpack(opcode, self._exchange([pack(opcode.value, payload)])[0])

    def info(self) -> Info:
        """Asks the engine what it is."""
        identity, config = self._call(Opcode.IDENTIFY), self.config
        bits = {"entries": config.pes * config.entry_depth * sum(config.plane_bits),
                "slices": config.pes * config.slice_depth * config.slice_word_bits,
                "activations": config.pes * config.act_depth * config.act_bits, "program": config.program_depth * 32}
        name = next((name for name, one in PRESETS.items() if one == config), "custom")
        return Info(identity[0], identity[6:14].hex(), name, bool(identity[1]), int.from_bytes(identity[4:6], "little"),
                    int.from_bytes(identity[2:4], "little"), {memory: count // 8 for memory, count in bits.items()})

    def counters(self) -> dict[str, int]:
        """Performance counters of the last inference, `rtl.protocol.COUNTERS` by name; waits for its end."""
        return self._counters(self._call(Opcode.WAIT))

    def load(self, image: Image | Path | str, *, progress: Callable[[int], object] = lambda sent: None,
             batch: int = 64) -> None:
        """Loads an image, or an image file.

        Parameters
        ----------
        image : Image, Path or str
            The image, or the path of its file.
        progress : callable
            Told of every batch how many bytes of the image it had.
        batch : int
            Packets that go out together.

        Raises
        ------
        UserError
            If the file is damaged.
        DeviceError
            If the engine refuses the image, or does not keep it.
        """
        image = image if isinstance(image, Image) else read_image(Path(image), self.config)
        self.image = self._output_signed = None
        packets = load_packets(image.engine, self.config.packet_bytes)
        for first in range(0, len(packets), batch):
            part = packets[first:first + batch]
            for response in self._exchange(part):
                unpack(Opcode.LOAD, response)
            progress(sum(len(packet) - packet_length(4) for packet in part))
        if not self.info().loaded:
            raise DeviceError("the engine did not keep the image", Status.NOT_LOADED)
        self.image = image

    def assume(self, image: Image | None) -> None:
        """Declares that the engine has loaded an image by itself; `host.verification.adopt` checks that.

        Parameters
        ----------
        image : Image or None
            The image; None if the engine has none.

        Raises
        ------
        DeviceError
            If the engine has loaded no image (NOT_LOADED).
        """
        if image is not None and not self.info().loaded:
            raise DeviceError("the engine has loaded no image at power-up", Status.NOT_LOADED)
        self.image, self._output_signed = image, None

    def pe_bins(self) -> list[Bins]:
        """Activity of the PEs in each inference so far, if the target has ``bin_cycles``; ends the device."""
        assert isinstance(self.port, RecordingPort)
        return read_bins(self.port.pe_lines(), self.config.pes)

    def infer(self, acts: np.ndarray) -> np.ndarray:
        """Runs an inference for each row of ``acts`` on the image that is loaded.

        Parameters
        ----------
        acts : int64 array, shape ``[n, inputs]``
            Input activations (`host.quantization.integer_network.quantize_inputs`).

        Returns
        -------
        int64 array, shape ``[n, outputs]``
            Output activations of the last layer; negative where it has no ReLU.

        Raises
        ------
        UserError
            If the image's program is damaged.
        DeviceError
            If no image is loaded, or the engine refuses a request or does not answer.
        """
        image = self._loaded()
        if self._output_signed is None:
            try:
                self._output_signed = output_signed(image.engine, self.config)
            except ValueError as error:
                raise UserError(f"the image's contents contradict each other ({error}); compile it again") from None
        bits = np.zeros((len(acts), len(image.layers[-1]["output_order"])), np.int64)
        for place, one in enumerate(self.inferences(acts)):
            bits[place] = one.layers[-1]
        return act_values(bits, self.config.act_bits, signed=self._output_signed)

    def inferences(self, acts: np.ndarray, *, every_layer: bool = False, batch: int = 50) -> Iterator[Inference]:
        """Runs inferences one by one, as `infer`, and reads their counters.

        Parameters
        ----------
        acts : int64 array, shape ``[n, inputs]``
        every_layer : bool
            Read the outputs of every layer in ``image.readable``, not only the last.
        batch : int
            Inferences whose packets go out together.
        """
        image = self._loaded()
        contents = input_content(image, acts, self.config)
        layers = [image.layers[number] for number in image.readable] if every_layer else image.layers[-1:]
        for first in range(0, len(contents), batch):
            block = contents[first:first + batch]
            responses = iter(self._exchange([packet for content in block for packet in
                                             inference_packets(content, layers, self.config)]))
            for content in block:
                yield self._inference(content, layers, responses)

    def _loaded(self) -> Image:
        if self.image is None:
            raise DeviceError("no inference is possible", Status.NOT_LOADED)
        return self.image

    def _counters(self, body: bytes) -> dict[str, int]:
        return {name: int(value) for name, value in zip(COUNTERS, np.frombuffer(body, "<u4"), strict=True)}

    def _inference(self, content: np.ndarray, layers: list[dict], responses: Iterator[bytes]) -> Inference:
        for _ in write_packets(content, self.config):
            unpack(Opcode.WRITE, next(responses))
        unpack(Opcode.RUN, next(responses))
        counters = self._counters(unpack(Opcode.WAIT, next(responses)))
        outputs = []
        for layer in layers:
            body = b"".join(unpack(Opcode.READ, next(responses)) for _ in read_packets(layer, self.config))
            outputs.append(np.frombuffer(body, f"<u{self.config.act_bytes}").astype(np.int64)[layer["output_order"]])
        return Inference(outputs, counters)
