# SPDX-License-Identifier: Apache-2.0
"""The proof: Verilator and cocotb around the engine."""
