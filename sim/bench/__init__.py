# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the simulated engine: ``python -m sim.bench --help``."""
