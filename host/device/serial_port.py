# SPDX-License-Identifier: Apache-2.0
"""Packets over a serial port, where bytes get lost and damaged."""

import time
import zlib
from collections.abc import Callable, Sequence

import serial

from host.device.device_error import DeviceError
from rtl.config import RANGES
from rtl.protocol import CRC_BYTES, HEADER_BYTES, SYNC, Opcode, Status, pack, packet_length

__all__ = ["SerialPort", "find_packet"]

LARGEST_PACKET_BYTES = RANGES["packet_bytes"][1]
"""No engine takes a longer payload."""

ANSWER_BYTES = packet_length(1)

DAMAGE = (Status.BAD_CRC.value, Status.TOO_LONG.value, Status.OVERRUN.value)
"""Answers of an engine that took other bytes for a packet than those that were sent, or found none."""

ALREADY_DONE = {
    Opcode.RUN.value: (Status.BUSY.value, Status.NO_INPUT.value),
    Opcode.LOAD.value: (Status.BAD_OFFSET.value,),
}
"""Answers to a request that is sent again if the engine carried it out the first time and only its answer was lost."""


def find_packet(received: bytearray) -> bytes | None:
    """The first sound packet, taken out of ``received`` with everything before it; None if there is no whole one yet.

    What cannot be the beginning of one is taken out as well.
    """
    while (start := received.find(SYNC)) >= 0:
        del received[:start]
        length = int.from_bytes(received[2:4], "little")
        end = packet_length(length)
        if len(received) >= HEADER_BYTES and not 1 <= length <= LARGEST_PACKET_BYTES + 1:
            del received[0]
        elif len(received) < HEADER_BYTES or len(received) < end:
            return None
        elif zlib.crc32(received[1:end - CRC_BYTES]) == int.from_bytes(received[end - CRC_BYTES:end], "little"):
            packet = bytes(received[:end])
            del received[:end]
            return packet
        else:
            del received[0]
    received.clear()
    return None


class SerialPort:
    """An engine behind a serial port. Each packet waits for the response to the one before.

    A request whose response does not come, or comes damaged, is sent again after the engine has been brought back to
    the beginning of a packet. No request has another effect for being sent twice.

    Parameters
    ----------
    path : str
        The port's name, like ``/dev/ttyUSB0`` or ``COM3``.
    baud : int
        Bits per second, as the board's.
    timeout_s : float
        Silence after which a response counts as lost, and a packet that has begun as cut off.
    retries : int
        How often a request is sent again.

    Attributes
    ----------
    packet_bytes : int
        The engine's longest payload, once it is known.
    repeated : int
        Requests that were sent again so far.

    Raises
    ------
    DeviceError
        If the port cannot be opened or used (DISCONNECTED).
    """

    def __init__(self, path: str, baud: int, *, timeout_s: float = 1.0, retries: int = 4) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self.retries = retries
        self.packet_bytes: int | None = None
        self.repeated = 0
        self._aborted = False
        self._longest_s = 10 * 2 * LARGEST_PACKET_BYTES / baud
        self._received = bytearray()
        try:
            self._serial = serial.Serial(path, baud, timeout=timeout_s, write_timeout=60, exclusive=True)
        except (OSError, ValueError) as error:
            raise DeviceError(f"port '{path}' cannot be opened: {error}", Status.DISCONNECTED) from None

    def exchange(self, requests: Sequence[bytes]) -> list[bytes]:
        """The response to each of ``requests``, whole and sound.

        Raises `DeviceError` if one does not come (NO_ANSWER, DAMAGED), or the port fails (DISCONNECTED). The rest is
        not sent then.
        """
        try:
            return [self._request(request) for request in requests]
        except OSError as error:
            raise DeviceError(f"port '{self.path}' failed: {error}", Status.DISCONNECTED) from None

    def abort(self) -> None:
        """Makes an exchange in another thread end at once."""
        self._aborted = True
        self._serial.cancel_read()
        self._serial.cancel_write()

    def close(self) -> None:
        """Closes the port; harmless when it is closed."""
        self._serial.close()

    def _request(self, request: bytes) -> bytes:
        opcode = request[1]
        problem = Status.NO_ANSWER
        for attempt in range(self.retries + 1):
            if self._aborted:
                raise DeviceError(f"port '{self.path}' was given up", Status.DISCONNECTED)
            self.repeated += attempt > 0
            if attempt and not self._resynchronise(attempt):
                continue
            self._send(request)
            # A response that reports damage may have any opcode.
            response, heard = self._receive(lambda packet: packet[1] == opcode or packet[4] in DAMAGE)
            if response is None:
                problem = Status.DAMAGED if heard else problem
                continue
            status = response[HEADER_BYTES]
            if status in DAMAGE:
                problem = Status(status)
            elif attempt and status in ALREADY_DONE.get(opcode, ()):
                return pack(opcode, bytes([Status.OK.value]))
            else:
                return response
        raise DeviceError(f"the engine at '{self.path}' gave no sound answer to {Opcode(opcode).name}", problem)

    def _send(self, content: bytes) -> None:
        self._serial.write(content)
        self._serial.flush()

    def _receive(self, wanted: Callable[[bytes], bool]) -> tuple[bytes | None, bool]:
        """The first packet that is wanted, None if none comes; and whether anything came."""
        heard = bool(self._received)
        end = time.monotonic() + self.timeout_s + self._longest_s
        while time.monotonic() < end and not self._aborted:
            packet = find_packet(self._received)
            if packet is not None:
                if wanted(packet):
                    return packet, True
                continue  # a late response to another request
            content = self._serial.read(max(1, self._serial.in_waiting))
            self._received += content
            heard |= bool(content)
            if not content:
                if not self._received:
                    break
                # These bytes only looked like the beginning of a packet, or the packet's end is lost.
                del self._received[0]
        return None, heard

    def _resynchronise(self, attempt: int) -> bool:
        """Brings the engine to the beginning of a packet, and discards what it has sent so far.

        Zeros end every packet that it may be in. Responses come in order: what comes before the response to an IDENTIFY
        after them is old.
        """
        longest = self.packet_bytes or min(LARGEST_PACKET_BYTES, 128 << 3 * attempt)
        self._send(bytes(packet_length(longest) + 2 * ANSWER_BYTES) + pack(Opcode.IDENTIFY.value))
        answer, _ = self._receive(lambda packet: packet[1] == Opcode.IDENTIFY.value and packet[4] == Status.OK.value)
        return answer is not None
