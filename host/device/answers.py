# SPDX-License-Identifier: Apache-2.0
"""Answers of an engine: inferences, and its own configuration."""

from dataclasses import dataclass

import numpy as np

from host.device.device_error import DeviceError
from host.device.serial_port import find_packet
from rtl.protocol import Opcode, Status

__all__ = ["Inference", "Info", "unpack"]


@dataclass(frozen=True)
class Inference:
    """Results of one inference.

    Attributes
    ----------
    layers : list of int64 array, shape ``[rows]``
        Output activations of the layers that were read, the last layer's last; their bits, unsigned.
    counters : dict
        `rtl.protocol.COUNTERS` by name.
    """

    layers: list[np.ndarray]
    counters: dict[str, int]


@dataclass(frozen=True)
class Info:
    """An engine's answer to IDENTIFY, and values that follow from its configuration.

    Attributes
    ----------
    protocol_version : int
    config_hash : str
        `EngineConfig.hash`, hexadecimal.
    config_name : str
        The preset's, or "custom".
    loaded : bool
        Whether there is a valid image.
    pes, packet_bytes : int
    memory_bytes : dict
        Sizes of the memories of all PEs together: ``entries``, ``slices``, ``activations``, ``program``.
    """

    protocol_version: int
    config_hash: str
    config_name: str
    loaded: bool
    pes: int
    packet_bytes: int
    memory_bytes: dict[str, int]


def unpack(opcode: Opcode, response: bytes) -> bytes:
    """The body of a response, without its status.

    Parameters
    ----------
    opcode : Opcode
        The request that is answered.
    response : bytes
        A whole packet, or what came instead of one.

    Raises
    ------
    DeviceError
        For a bad packet, and for any status but OK.
    """
    packet = find_packet(bytearray(response))
    if packet != response or packet[1] != opcode.value:
        raise DeviceError(f"the engine gave {len(response)} bytes in answer to {opcode.name}",
                          Status.DAMAGED if response else Status.NO_ANSWER)
    if packet[4] not in [status.value for status in Status]:
        raise DeviceError(f"the engine answered {opcode.name} with the unknown status {packet[4]}", Status.WRONG_ENGINE)
    status = Status(packet[4])
    if status != Status.OK:
        raise DeviceError(f"the engine refused {opcode.name}", status)
    return packet[5:-4]
