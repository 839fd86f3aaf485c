# SPDX-License-Identifier: Apache-2.0
"""What stands around the engine: board top level, serial port, boot memory, clock, AXI."""
