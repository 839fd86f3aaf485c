# SPDX-License-Identifier: Apache-2.0
"""Verilator around the engine or a whole board: build, cache, run."""
