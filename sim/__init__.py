# SPDX-License-Identifier: Apache-2.0
"""Simulation with Verilator and cocotb: benches and benchmarks."""

import nonzero  # noqa: F401 - says where tools keep what they compile, before any is imported
