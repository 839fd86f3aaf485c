# SPDX-License-Identifier: Apache-2.0
"""From a design to Verilog or a bitstream with open tools: ``python -m rtl.build --help``."""
