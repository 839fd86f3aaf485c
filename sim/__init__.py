# SPDX-License-Identifier: Apache-2.0
"""The proof: Verilator and cocotb around the engine."""

import nonzero  # noqa: F401 - says where tools keep what they compile, before any is imported
