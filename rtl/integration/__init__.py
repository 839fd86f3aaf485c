# SPDX-License-Identifier: Apache-2.0
"""Surroundings of the engine: board top level, serial port, boot memory, clock, AXI."""
