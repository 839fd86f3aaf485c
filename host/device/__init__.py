# SPDX-License-Identifier: Apache-2.0
"""The driver: the same for an engine in simulation and on a board. It needs neither torch nor Verilator by itself."""

from host.device.answers import Inference, Info
from host.device.device import Device
from host.device.device_error import DeviceError
from host.device.target import FORMS, Target, list_devices, parse_target

__all__ = ["FORMS", "Device", "DeviceError", "Inference", "Info", "Target", "list_devices", "parse_target"]
